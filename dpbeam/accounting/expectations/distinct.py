"""Counts of distinct values, derived again: a row adds at most one value to those seen."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities
from dpbeam.queries.metrics.distinct import DistinctCount
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: DistinctCount, stage: Stage) -> Iterator[ExpectedQuantity]:
    yield ExpectedQuantity(what=("distinct", metric.column), name=metric.name, l1=1.0, l2=1.0, weight=metric.weight)
