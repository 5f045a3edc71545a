"""A ledger in one SQLite file. `store` is the `Store`; the rest makes, opens, locks and migrates the file."""
