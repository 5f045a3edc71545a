"""Counts of distinct values, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dpbeam.policy.checks.common import KEYS, Declared, declared
from dpbeam.policy.metrics.base import MetricArgs
from dpbeam.policy.schema.base import Name
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.distinct import DistinctCount


class ColumnArgs(MetricArgs):
    """Distinct values of `column`."""

    column: Name

    def usual_name(self, kind: str) -> str:
        return f"{self.column}_{kind}"

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        return DistinctCount(name=name, weight=self.weight, column=self.column)

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        yield from declared(policy, (*at, "column"), self.column, KEYS)


ARGUMENTS = {"distinct_count": ColumnArgs}
