"""Sums of vectors, derived again: a row moves one by a vector no longer than `max_norm`."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: VectorSum, stage: Stage) -> Iterator[ExpectedQuantity]:
    most, root = metric.max_norm, float(metric.length or len(metric.columns)) ** 0.5
    l1 = most * {"l1": 1.0, "l2": root, "linf": root**2}[metric.norm]
    l2 = most * {"l1": 1.0, "l2": 1.0, "linf": root}[metric.norm]
    yield ExpectedQuantity(
        what=("vector", *metric.columns, metric.norm, most), name=metric.name, l1=l1, l2=l2, weight=metric.weight
    )
