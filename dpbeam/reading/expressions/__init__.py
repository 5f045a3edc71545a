"""What expressions of derived columns compute, on Arrow batches: a value a row, from that row alone."""
