"""Quantiles, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from dpbeam.policy.checks.common import Declared, rising
from dpbeam.policy.metrics.base import ValueArgs, clipped
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.quantiles import Quantiles

Rank = Annotated[float, Field(ge=0, le=1)]


class QuantilesArgs(ValueArgs):
    """The values below which the parts `ranks` of the rows lie."""

    ranks: Annotated[tuple[Rank, ...], Field(strict=False, min_length=1, max_length=100)]

    def usual_name(self, kind: str) -> str:
        return self.column

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        ranks, ends = tuple(map(float, self.ranks)), clipped(self.low, self.high)
        return Quantiles(name=name, weight=self.weight, column=self.column, ranks=ranks, **ends)

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        yield from super().findings(policy, at)
        yield from rising(self.ranks, (*at, "ranks"))


ARGUMENTS = {"quantiles": QuantilesArgs, "median": ValueArgs, "min": ValueArgs, "max": ValueArgs}
