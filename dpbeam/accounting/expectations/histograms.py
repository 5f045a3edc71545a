"""Histograms, derived again: a row counts in one bin at most."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.accounting.expectations.base import Part, parts
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.query import Stage


@parts.register
def _(metric: Histogram, stage: Stage) -> Iterator[Part]:
    yield Part(what=("bins", metric.column, *metric.edges), name=metric.name, l1=1.0, l2=1.0, weight=metric.weight)
