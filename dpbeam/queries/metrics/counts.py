"""Counts of rows and of privacy units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Metric, check_ends
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class Count(Metric):
    """Rows."""

    kind: ClassVar[str] = "count"

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (quantities.Count(name="count", weight=self.weight),)

    def over_aggregated_rows(self, column: str, most: int | None) -> Metric:
        if most is None:
            return super().over_aggregated_rows(column, most)
        return CountOfCounts(name=self.name, weight=self.weight, column=column, low_total=0.0, high_total=float(most))


@dataclass(frozen=True, kw_only=True)
class CountOfCounts(Metric):
    """Rows, where those of the source are aggregated already and `column` says how many rows each stands for: what one
    unit's add up to in a partition is clipped to [low_total, high_total].

    Raises:
        ValueError: the bounds aren't finite with low_total < high_total.
    """

    kind: ClassVar[str] = "count"
    column: str
    low_total: float
    high_total: float

    def __post_init__(self) -> None:
        check_ends(self, self.low_total, self.high_total)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        low, high = self.low_total, self.high_total
        return (quantities.Total(name="count", weight=self.weight, columns=(self.column,), low=low, high=high),)


@dataclass(frozen=True, kw_only=True)
class UnitCount(Metric):
    """Privacy units."""

    kind: ClassVar[str] = "privacy_id_count"
    may_pass_threshold: ClassVar[bool] = True

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (quantities.UnitCount(name="privacy_id_count", weight=self.weight),)

    def over_aggregated_rows(self, column: str, most: int | None) -> Metric:
        return self


METRICS = (Count, CountOfCounts, UnitCount)
