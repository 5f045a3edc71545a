"""A policy rehearsed: made-up data, a throw-away ledger, and the whole path of a run on them."""
