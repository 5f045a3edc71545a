"""Sums, derived again: a value moves a sum by what it is clipped to, a total by what totals are clipped to."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, clip, expected_quantities
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: Sum, stage: Stage) -> Iterator[ExpectedQuantity]:
    low, high, chosen = clip(metric)
    largest = max(abs(low), abs(high))
    what = ("sum", metric.column, low, high, chosen or 0.0)
    yield ExpectedQuantity(what=what, name=metric.name, l1=largest, l2=largest, weight=metric.weight)


@expected_quantities.register
def _(metric: SumOfTotals, stage: Stage) -> Iterator[ExpectedQuantity]:
    largest = max(abs(metric.low_total), abs(metric.high_total))
    what = ("total", metric.column, metric.low_total, metric.high_total)
    yield ExpectedQuantity(what=what, name=metric.name, l1=largest, l2=largest, weight=metric.weight, moved_by="total")
