"""Counts of distinct values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class DistinctCount(Metric):
    """The distinct values of `column`."""

    kind: ClassVar[str] = "distinct_count"
    column: str

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (quantities.Distinct(name=self.name, weight=self.weight, columns=(self.column,)),)


METRICS = (DistinctCount,)
