"""Side-by-side measurements against peers: not tests, and no claim without a peer in the same run."""
