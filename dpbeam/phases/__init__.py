"""The jobs before the main one, as values: bounds that a run finds, partitions that it selects in rounds."""
