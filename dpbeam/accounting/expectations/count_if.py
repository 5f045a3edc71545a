"""Counts of the rows that meet a condition, derived again: a row counts once at most."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities
from dpbeam.queries.metrics.count_if import CountIf
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: CountIf, stage: Stage) -> Iterator[ExpectedQuantity]:
    yield ExpectedQuantity(what=("count_if", metric.condition), name=metric.name, l1=1.0, l2=1.0, weight=metric.weight)
