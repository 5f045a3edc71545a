"""Rows of people's own pipelines, as batches."""

from dpbeam.extras import require

require("beam")
