"""Settings: declared, loaded, validated, resolved per stream."""
