"""From accumulators to released tables: noise, metrics, intervals."""
