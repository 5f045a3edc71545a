"""Beam jobs, the release lifecycle and the command line."""

import logging


def _worth_saying(record: logging.LogRecord) -> bool:
    """Beam notes on the root logger, whenever it is imported, that its Google Cloud extra isn't installed."""
    return "apitools not found" not in record.msg


logging.getLogger().addFilter(_worth_saying)
