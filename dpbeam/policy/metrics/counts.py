"""Counts, as a policy states them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from dpbeam.policy.metrics.base import MetricArgs
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.counts import Count, UnitCount


class CountArgs(MetricArgs):
    """What every metric may say: its share of the budget, and its column in the results."""

    is_count: ClassVar[bool] = True

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        return (Count if kind == "count" else UnitCount)(name=name, weight=self.weight)

    def needs_rows(self, kind: str) -> bool:
        return kind == "count"

    def fits_totals(self, kind: str) -> bool:
        return True


ARGUMENTS = {"count": CountArgs, "privacy_id_count": CountArgs}
