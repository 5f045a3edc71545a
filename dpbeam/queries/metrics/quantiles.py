"""Quantiles, and those with names of their own: median, min and max. All come from a tree of noisy counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.quantities import Quantity

LEAST_RANK = 0.005
MOST_RANK = 0.995
"""Ranks beyond these are answered as these: noise alone decides what lies further out."""


@dataclass(frozen=True, kw_only=True)
class QuantileMetric(Clipped):
    """The values below which the parts `ranks` of the rows lie."""

    note: ClassVar[str | None] = (
        "a quantile comes from a tree of noisy counts: its rank is off by some four times a count's half-width over "
        "the partition's count, its value by what the data have in between"
    )
    ranks: tuple[float, ...]

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (
            quantities.Tree(
                name=f"{self.name}.tree",
                weight=self.weight,
                columns=(self.column,),
                low=self.low,
                high=self.high,
                ranks=self.ranks,
                auto=self.auto,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Quantiles(QuantileMetric):
    """A column for each of the ranks."""

    kind: ClassVar[str] = "quantiles"

    @property
    def released(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{rank_label(rank)}" for rank in self.ranks)


@dataclass(frozen=True, kw_only=True)
class Median(QuantileMetric):
    """The value in the middle."""

    kind: ClassVar[str] = "median"
    ranks: tuple[float, ...] = (0.5,)


@dataclass(frozen=True, kw_only=True)
class Min(QuantileMetric):
    """The smallest value, but for the least 0.5 % of rows."""

    kind: ClassVar[str] = "min"
    ranks: tuple[float, ...] = (LEAST_RANK,)


@dataclass(frozen=True, kw_only=True)
class Max(QuantileMetric):
    """The largest value, but for the most 0.5 % of rows."""

    kind: ClassVar[str] = "max"
    ranks: tuple[float, ...] = (MOST_RANK,)


def rank_label(rank: float) -> str:
    """0.5 → p50, 0.999 → p99_9."""
    return "p" + f"{rank * 100:.10g}".replace(".", "_")


METRICS = (Quantiles, Median, Min, Max)
