"""Selections of partitions in rounds, by weights: DP-SIPS, MAD and MAD2R."""
