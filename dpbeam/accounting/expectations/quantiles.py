"""Quantiles, derived again: a row is counted once in each of the tree's four levels."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, clip, expected_quantities
from dpbeam.queries.metrics.quantiles import Max, Median, Min, Quantiles
from dpbeam.queries.query import Stage


@expected_quantities.register(Quantiles)
@expected_quantities.register(Median)
@expected_quantities.register(Min)
@expected_quantities.register(Max)
def _(metric: Quantiles | Median | Min | Max, stage: Stage) -> Iterator[ExpectedQuantity]:
    what = ("tree", metric.column, *clip(metric))
    yield ExpectedQuantity(what=what, name=f"{metric.name}.tree", l1=4.0, l2=2.0, weight=metric.weight)
