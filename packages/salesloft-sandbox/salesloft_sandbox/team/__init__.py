"""The team and what records refer to: users, groups, stages, tiers, cadences and custom fields."""
