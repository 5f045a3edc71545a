"""From a source's bytes to validated, derived, filtered columns."""
