"""Quantiles, derived again: a row is counted once in each of the tree's four levels."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import Part, clip, parts
from dpbeam.queries.metrics.quantiles import Max, Median, Min, Quantiles
from dpbeam.queries.query import Stage


@parts.register(Quantiles)
@parts.register(Median)
@parts.register(Min)
@parts.register(Max)
def _(metric: Quantiles | Median | Min | Max, stage: Stage) -> Iterator[Part]:
    what = ("tree", metric.column, *clip(metric))
    yield Part(what=what, name=f"{metric.name}.tree", l1=4.0, l2=2.0, weight=metric.weight)
