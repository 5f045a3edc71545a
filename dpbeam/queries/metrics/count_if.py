"""Counts of the rows that meet a condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity
from dpbeam.queries.source import Condition


@dataclass(frozen=True, kw_only=True)
class RowsMeeting(Quantity):
    """Rows whose value of the column meets `condition`: a row is one of them or not, whatever the others are."""

    kind: ClassVar[str] = "meeting"
    condition: Condition

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class CountIf(Metric):
    """Rows that meet `condition`, as a policy's `where` has it."""

    kind: ClassVar[str] = "count_if"
    condition: Condition

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        columns = (self.condition.column,)
        return (RowsMeeting(name=self.name, weight=self.weight, columns=columns, condition=self.condition),)


METRICS = (CountIf,)
