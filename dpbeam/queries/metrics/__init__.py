"""The registry of metrics: the families, each a module here and one of the same name in each room that answers.

A metric's module here says all that is asked: its fields, what it is made from, its released columns, its words. What
the other rooms know of it stands in `dpbeam.policy.metrics`, `dpbeam.accounting.expectations` and
`dpbeam.engine.metrics`, under the name of its family; a test fails where one is missing.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from dpbeam.queries.metrics.base import Metric

FAMILIES = ("counts", "sums", "means", "quantiles", "vectors", "histograms", "distinct", "top_k", "custom", "count_if")
"""In the order in which a policy's metrics are listed."""


def load(room: str) -> tuple[ModuleType, ...]:
    """A room's module of every family.

    Raises:
        ModuleNotFoundError: the room has no module for a family.
    """
    return tuple(import_module(f"{room}.{family}") for family in FAMILIES)


TYPES: tuple[type[Metric], ...] = tuple(kind for family in load(__name__) for kind in family.METRICS)
"""Every type of metric."""

KINDS: tuple[str, ...] = tuple(dict.fromkeys(kind.kind for kind in TYPES))
"""What a policy calls them."""
