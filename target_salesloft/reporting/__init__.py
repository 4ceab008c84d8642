"""Reports: counts, failed records, log and terminal output."""
