"""From bounded rows to mergeable accumulators, one row a partition."""
