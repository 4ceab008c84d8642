"""The team, and objects that records refer to: users, groups, stages, tiers, cadences, and custom fields."""
