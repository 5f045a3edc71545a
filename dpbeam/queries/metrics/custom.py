"""Custom metrics: what a registered package computes, as a metric of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.custom import CustomMetric
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class Custom(Metric):
    """What `custom` computes from `columns`."""

    kind: ClassVar[str] = "custom"
    note: ClassVar[str | None] = "a custom metric is computed from noisy sums by its own formula"
    columns: tuple[str, ...]
    custom: CustomMetric

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        bound, needs_count = self.custom.row_bound, self.custom.needs_count
        weight = self.weight / (2 if needs_count else 1)
        sums = quantities.CustomSums(
            name=self.name,
            weight=weight,
            columns=self.columns,
            norm=bound.norm,
            max_norm=float(bound.most),
            custom=self.custom,
        )
        return (sums, quantities.Count(name="count", weight=weight)) if needs_count else (sums,)

    @property
    def released(self) -> tuple[str, ...]:
        outputs = self.custom.outputs
        return tuple(f"{self.name}_{output}" for output in outputs) if outputs else (self.name,)


METRICS = (Custom,)
