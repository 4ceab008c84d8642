"""Verifies undocumented behavior of Salesloft with test records, which it removes again."""
