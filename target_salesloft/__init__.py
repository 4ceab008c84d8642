"""Singer target for Salesloft."""
