"""Histograms, derived again: a row counts in one bin at most."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import ExpectedQuantity, expected_quantities
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.query import Stage


@expected_quantities.register
def _(metric: Histogram, stage: Stage) -> Iterator[ExpectedQuantity]:
    yield ExpectedQuantity(
        what=("bins", metric.column, *metric.edges), name=metric.name, l1=1.0, l2=1.0, weight=metric.weight
    )
