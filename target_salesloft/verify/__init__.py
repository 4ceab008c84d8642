"""Finds out how Salesloft behaves where that is not documented, with records of its own that it removes again."""
