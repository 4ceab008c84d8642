"""People and accounts."""
