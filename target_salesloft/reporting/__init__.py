"""What a run reports: counts, failed records, logs, terminal output."""
