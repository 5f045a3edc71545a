"""Histograms, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from dpbeam.policy.checks.common import NUMERIC, Declared, declared, rising
from dpbeam.policy.metrics.base import MAX_EDGES, MetricArgs
from dpbeam.policy.schema.base import Clip, Name
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.histograms import Histogram


class HistogramArgs(MetricArgs):
    """Rows by interval of `edges`."""

    column: Name
    edges: Annotated[tuple[Clip, ...], Field(strict=False, min_length=2, max_length=MAX_EDGES)]

    def usual_name(self, kind: str) -> str:
        return f"{self.column}_{kind}"

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        return Histogram(name=name, weight=self.weight, column=self.column, edges=tuple(map(float, self.edges)))

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        yield from declared(policy, (*at, "column"), self.column, NUMERIC)
        yield from rising(self.edges, (*at, "edges"))


ARGUMENTS = {"histogram": HistogramArgs}
