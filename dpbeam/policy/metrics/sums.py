"""Sums, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from dpbeam.policy.checks.common import NUMERIC, Declared, declared
from dpbeam.policy.metrics.base import MetricArgs, apart, clipped, stated_searches
from dpbeam.policy.schema.auto import ClipOrAuto
from dpbeam.policy.schema.auto import ClipSearch as StatedSearch
from dpbeam.policy.schema.base import Clip, Name
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries.automatic import Side
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.sums import Sum, SumOfTotals


class SumArgs(MetricArgs):
    """A sum of a column: of values clipped to [low, high], or of units' totals clipped to [low_total, high_total]."""

    column: Name
    low: ClipOrAuto | None = None
    high: ClipOrAuto | None = None
    low_total: Clip | None = None
    high_total: Clip | None = None

    @model_validator(mode="after")
    def _bounded(self) -> SumArgs:
        values, totals = (self.low, self.high), (self.low_total, self.high_total)
        if (None in values) == (None in totals) or (values, totals).count((None, None)) != 1:
            raise PydanticCustomError("sum_bounds", "must have either low and high, or low_total and high_total")
        return self

    def usual_name(self, kind: str) -> str:
        return f"{self.column}_{kind}"

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        if self.low_total is not None and self.high_total is not None:
            low, high = float(self.low_total), float(self.high_total)
            return SumOfTotals(name=name, weight=self.weight, column=self.column, low_total=low, high_total=high)
        if self.low is None or self.high is None:
            raise ValueError(f"metric {name}: a sum must be bounded")
        return Sum(name=name, weight=self.weight, column=self.column, **clipped(self.low, self.high))

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        yield from declared(policy, (*at, "column"), self.column, NUMERIC)
        yield from apart(self.low, self.high, at, "low", "high")
        yield from apart(self.low_total, self.high_total, at, "low_total", "high_total")

    def needs_rows(self, kind: str) -> bool:
        return self.low_total is None

    def fits_totals(self, kind: str) -> bool:
        return self.low_total is not None

    @property
    def searches(self) -> Iterator[tuple[Side, str, StatedSearch]]:
        return stated_searches(self.column, self.low, self.high)


ARGUMENTS = {"sum": SumArgs}
