"""The ledger: the memory of earlier runs."""
