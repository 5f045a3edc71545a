"""A ledger in a schema of a PostgreSQL database. `store` is the `Store`; the rest finds it, connects and migrates."""
