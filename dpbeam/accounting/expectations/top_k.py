"""The most frequent values, derived again: a unit counts once for each of its values in a partition."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities
from dpbeam.queries.metrics.top_k import TopK
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: TopK, stage: Stage) -> Iterator[ExpectedQuantity]:
    yield ExpectedQuantity(
        what=("top_k", metric.column, metric.max_values, metric.pre_threshold, *metric.candidates),
        name=metric.name,
        l1=1.0,
        l2=1.0,
        weight=metric.weight,
        moved_by="value",
        max_values=metric.max_values,
        # Values that no list names come from the data.
        least_units=None if metric.candidates else metric.pre_threshold,
    )
