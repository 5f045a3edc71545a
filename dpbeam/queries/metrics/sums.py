"""Sums of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Clipped, Metric, check_ends
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class Sum(Clipped):
    """The sum of values, each clipped to [low, high]."""

    kind: ClassVar[str] = "sum"

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (
            quantities.Sum(
                name=self.name,
                weight=self.weight,
                columns=(self.column,),
                low=self.low,
                high=self.high,
                auto=self.auto,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class SumOfTotals(Metric):
    """The sum of what each unit's values add up to in a partition, clipped to [low_total, high_total].

    Raises:
        ValueError: the bounds aren't finite with low_total < high_total.
    """

    kind: ClassVar[str] = "sum"
    column: str
    low_total: float
    high_total: float

    def __post_init__(self) -> None:
        check_ends(self, self.low_total, self.high_total)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        low, high = self.low_total, self.high_total
        return (quantities.Total(name=self.name, weight=self.weight, columns=(self.column,), low=low, high=high),)

    def over_aggregated_rows(self, column: str, most: int | None) -> Metric:
        return self


METRICS = (Sum, SumOfTotals)
