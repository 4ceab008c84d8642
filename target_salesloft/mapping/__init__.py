"""Records to payloads: pure, no I/O."""
