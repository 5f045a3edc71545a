"""Rows of people's own pipelines, as batches."""
