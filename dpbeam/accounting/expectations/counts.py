"""Counts, derived again: a row counts once, a unit once in each partition."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities, row_count
from dpbeam.errors import Refused
from dpbeam.queries.metrics.counts import Count, CountOfCounts, UnitCount
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: Count, stage: Stage) -> Iterator[ExpectedQuantity]:
    if stage.counted_by is not None:
        raise Refused(f"stage {stage.name}: counts aggregated already must be bounded in each partition")
    yield row_count(metric.weight)


@expected_quantities.register
def _(metric: CountOfCounts, stage: Stage) -> Iterator[ExpectedQuantity]:
    # All that is found of a unit in one partition is one total, cut to its bounds.
    if stage.counted_by is None:
        raise Refused(f"stage {stage.name}: only rows that are aggregated already are counted by a column")
    if metric.column != stage.counted_by or metric.low_total != 0:
        raise Refused(f"stage {stage.name}: counts aggregated already must be bounded in each partition")
    most = metric.high_total
    what = ("total", metric.column, 0.0, most)
    yield ExpectedQuantity(what=what, name="count", l1=most, l2=most, weight=metric.weight, moved_by="total")


@expected_quantities.register
def _(metric: UnitCount, stage: Stage) -> Iterator[ExpectedQuantity]:
    kind = metric.kind
    yield ExpectedQuantity(what=(kind,), name=kind, l1=1.0, l2=1.0, weight=metric.weight, moved_by="unit")
