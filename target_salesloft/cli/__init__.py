"""The command `target-salesloft-auth`."""
