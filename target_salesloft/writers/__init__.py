"""Writers: single requests, bulk jobs, dry runs."""
