"""One door: the YAML policy, read, checked and compiled."""
