"""The databases that a ledger may lie in, a package each, behind the interface `dpbeam.ledger.store`."""
