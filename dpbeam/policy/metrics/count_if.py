"""Counts of the rows that meet a condition, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from dpbeam.policy.checks.common import NUMERIC, Declared, condition_findings
from dpbeam.policy.metrics.base import MetricArgs
from dpbeam.policy.schema.base import Name, ScalarOrList
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.count_if import CountIf
from dpbeam.queries.source import Condition


class CountIfArgs(MetricArgs):
    """Rows whose number in `column` meets a condition."""

    column: Name
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in"]
    value: ScalarOrList

    def usual_name(self, kind: str) -> str:
        return f"{self.column}_{kind}"

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        condition = Condition(column=self.column, op=self.op, value=self.value)
        return CountIf(name=name, weight=self.weight, condition=condition)

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        return condition_findings(policy, at, self.column, self.op, self.value, NUMERIC)


ARGUMENTS = {"count_if": CountIfArgs}
