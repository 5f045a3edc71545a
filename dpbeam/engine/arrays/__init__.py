"""Arrays as all kernels need them: groups, hashes, lookups."""
