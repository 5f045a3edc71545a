"""Custom metrics, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from dpbeam.errors import UsageError
from dpbeam.policy.checks.common import NUMERIC, Declared, declared, unique
from dpbeam.policy.metrics.base import Columns, MetricArgs
from dpbeam.policy.schema.base import Name, ScalarOrList
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries import custom
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.custom import Custom


class CustomArgs(MetricArgs):
    """A registered custom metric of `columns`, with its own `params`."""

    metric: Name
    columns: Columns
    params: dict[Name, ScalarOrList] = Field(default_factory=dict)

    def build(self) -> custom.CustomMetric:
        """The metric itself.

        Raises:
            UsageError: it isn't registered, can't be built from these params, or declares no sensitivity.
        """
        return custom.build(self.metric, len(self.columns), self.params)

    def usual_name(self, kind: str) -> str:
        return f"{self.columns[0]}_{self.metric}" if len(self.columns) == 1 else self.metric

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        return Custom(name=name, weight=self.weight, columns=self.columns, custom=self.build())

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        for place, name in enumerate(self.columns):
            yield from declared(policy, (*at, "columns", place), name, NUMERIC)
        yield from unique(self.columns, (*at, "columns"), None, "Name each column once.")
        try:
            self.build()
        except UsageError as error:
            rule, remedy = f"must name a custom metric that can be built: {error}", "See docs/custom_metrics.md."
            yield Finding(key=(*at, "metric"), rule=rule, remedy=remedy, value=self.metric)

    @property
    def implementation(self) -> Mapping[str, Any] | None:
        return custom.identity(self.build())


ARGUMENTS = {"custom": CustomArgs}
