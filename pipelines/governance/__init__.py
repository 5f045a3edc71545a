"""Policies as they are reviewed: what one would cost, what changes between two, and which version is meant."""
