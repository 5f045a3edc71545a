"""Means, variances and standard deviations, derived again: centred sums, their squares, and the count."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, clip, expected_quantities, row_count
from dpbeam.queries.metrics.means import Mean, StdDev, Variance
from dpbeam.queries.query import Stage


@expected_quantities.register(Mean)
@expected_quantities.register(Variance)
@expected_quantities.register(StdDev)
def _(metric: Mean | Variance | StdDev, stage: Stage) -> Iterator[ExpectedQuantity]:
    low, high, chosen = clip(metric)
    # Far from 0 the middle is rounded, so one end may be further from it than the other.
    middle = low + (high - low) / 2
    half = max(high - middle, middle - low)
    share = metric.weight / (2 if isinstance(metric, Mean) else 3)
    centre = f"centre of {chosen}" if chosen else middle
    what = ("sum", metric.column, low, high, centre)
    yield ExpectedQuantity(what=what, name=f"{metric.name}.sum", l1=half, l2=half, weight=share)
    if not isinstance(metric, Mean):
        squared = half**2 / 2
        what = ("squares", metric.column, low, high, chosen)
        yield ExpectedQuantity(what=what, name=f"{metric.name}.squares", l1=squared, l2=squared, weight=share)
    yield row_count(share)
