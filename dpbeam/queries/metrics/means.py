"""Means, variances and standard deviations: made from noisy centred sums and the noisy count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.quantities import Quantity

_NOTE = (
    "is made from noisy centred sums and the noisy count: its error depends on the partition's count, and is roughly "
    "the half-width of its parts over the count"
)


@dataclass(frozen=True, kw_only=True)
class Moment(Clipped):
    """What is made from the centred sums of a column's values and, but for a mean, of their squares, and the count."""

    with_squares: ClassVar[bool] = True

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        weight = self.weight / (3 if self.with_squares else 2)
        centre = self.low + (self.high - self.low) / 2
        auto = (*self.auto, "centred") if self.auto else ()
        total = quantities.Sum(
            name=f"{self.name}.sum",
            weight=weight,
            columns=(self.column,),
            low=self.low,
            high=self.high,
            centre=centre,
            auto=auto,
        )
        count = quantities.Count(name="count", weight=weight)
        if not self.with_squares:
            return total, count
        squares = quantities.Squares(
            name=f"{self.name}.squares",
            weight=weight,
            columns=(self.column,),
            low=self.low,
            high=self.high,
            centre=centre,
            auto=auto,
        )
        return total, squares, count


@dataclass(frozen=True, kw_only=True)
class Mean(Moment):
    """The mean of a column's values."""

    kind: ClassVar[str] = "mean"
    note: ClassVar[str | None] = f"a mean {_NOTE}"
    with_squares: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Variance(Moment):
    """The variance of a column's values."""

    kind: ClassVar[str] = "variance"
    note: ClassVar[str | None] = f"a variance {_NOTE}"


@dataclass(frozen=True, kw_only=True)
class StdDev(Moment):
    """The standard deviation of a column's values."""

    kind: ClassVar[str] = "stddev"
    note: ClassVar[str | None] = f"a standard deviation {_NOTE}"


METRICS = (Mean, Variance, StdDev)
