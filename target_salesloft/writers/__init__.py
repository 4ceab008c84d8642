"""Writers: record by record, bulk jobs, dry run."""
