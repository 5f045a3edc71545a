"""Histograms of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class Histogram(Metric):
    """Rows by interval of `edges`, which rise and are one more than the bins."""

    kind: ClassVar[str] = "histogram"
    column: str
    edges: tuple[float, ...]

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (quantities.Bins(name=self.name, weight=self.weight, columns=(self.column,), edges=self.edges),)

    @property
    def released(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{i}" for i in range(len(self.edges) - 1))


METRICS = (Histogram,)
