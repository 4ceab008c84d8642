"""Memberships of people in cadences."""
