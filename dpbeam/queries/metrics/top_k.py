"""The most frequent values of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries import quantities
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class TopK(Metric):
    """The `k` most frequent values of `column`, one unit counting for at most `max_values` in a partition: of the
    public `candidates`, or else of all values, above a threshold on their noisy counts and never with fewer units than
    `pre_threshold`.

    Raises:
        ValueError: k, max_values or pre_threshold is below 1.
    """

    kind: ClassVar[str] = "top_k"
    may_pass_threshold: ClassVar[bool] = True
    column: str
    k: int
    max_values: int
    pre_threshold: int = 1
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.k >= 1 and self.max_values >= 1 and self.pre_threshold >= 1):
            raise ValueError(f"metric {self.name}: a top_k needs k, max_values and pre_threshold of at least 1")

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        columns = (self.column,)
        if self.candidates:
            return (
                quantities.Candidates(
                    name=self.name,
                    weight=self.weight,
                    columns=columns,
                    max_values=self.max_values,
                    candidates=self.candidates,
                ),
            )
        return (
            quantities.Values(
                name=self.name,
                weight=self.weight,
                columns=columns,
                max_values=self.max_values,
                pre_threshold=self.pre_threshold,
            ),
        )

    @property
    def released(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{i}_count" for i in range(1, self.k + 1))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{i}" for i in range(1, self.k + 1))


METRICS = (TopK,)
