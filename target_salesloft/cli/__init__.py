"""The command `target-salesloft-admin`."""
