"""Sums of vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

from dpbeam.queries import quantities
from dpbeam.queries.bounds import Norm
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class VectorSum(Metric):
    """The sum of vectors, whose numbers lie in `columns`, each scaled down to a `norm` of at most `max_norm`.

    Raises:
        ValueError: there is no such norm, or max_norm isn't positive and finite.
    """

    kind: ClassVar[str] = "vector_sum"
    columns: tuple[str, ...]
    norm: Norm
    max_norm: float
    length: int = 0
    """Where the columns hold vectors, how many numbers they have in all; 0 where each holds one."""

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm) or not 0 < self.max_norm < math.inf:
            raise ValueError(f"metric {self.name}: a vector_sum needs a norm and a positive finite max_norm")

    @property
    def numbers(self) -> int:
        """How many numbers the vectors have."""
        return self.length or len(self.columns)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (
            quantities.Vector(
                name=self.name,
                weight=self.weight,
                columns=self.columns,
                length=self.length,
                norm=self.norm,
                max_norm=self.max_norm,
            ),
        )

    @property
    def released(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{i}" for i in range(self.numbers))


METRICS = (VectorSum,)
