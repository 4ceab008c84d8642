"""The ledger: what earlier runs did."""
