"""What every metric says of itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dpbeam.queries.automatic import ClipSearch, Side
from dpbeam.queries.quantities import Quantity


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """One released metric. `name` is its column in the results, or what their names begin with; `kind` is what
    policies, formats and messages call its type, and `weight` its share of its stage's budget."""

    kind: ClassVar[str]
    note: ClassVar[str | None] = None
    """Why its noise isn't one number, where it isn't."""
    may_pass_threshold: ClassVar[bool] = False
    """Whether what it shows may be noisy unit counts that are shown since they passed a threshold."""
    name: str
    weight: float = 1.0

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """The quantities that it needs, as if it were alone; its weight is shared evenly among them."""

    def over_aggregated_rows(self, column: str, most: int | None) -> Metric:
        """The metric over rows that are aggregated already, `column` saying how many rows each stands for, and a unit's
        rows counting for `most` in a partition at most.

        Guarantee: a count adds up each unit's counts in the partition and clips what comes out to [0, most], as a sum
        of totals clips to its own bounds. Both are applied to what the kernels find for the unit, whatever the rows
        say: one unit with several rows in a partition, or with absurd counts, moves a count by no more than `most`.
        What needs single values can't be bounded here, so it is refused.

        Raises:
            ValueError: the metric needs single rows, or `most` is lacking for a count.
        """
        raise ValueError(f"metric {self.name}: a {self.kind} can't be made of rows that are aggregated already")

    @property
    def released(self) -> tuple[str, ...]:
        """The released columns; each has `<column>_low` and `<column>_high` beside it."""
        return (self.name,)

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of text that say what each released column counts; none but for a top_k."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Clipped(Metric):
    """A metric of a column's values, clipped to [low, high].

    `searches` are those of the bounds that the run finds, which stand for the farthest that they may become until it
    has.

    Raises:
        ValueError: the bounds aren't finite with low < high.
    """

    column: str
    low: float
    high: float
    searches: tuple[tuple[Side, ClipSearch], ...] = ()

    def __post_init__(self) -> None:
        check_ends(self, self.low, self.high)

    @property
    def auto(self) -> tuple[Side, ...]:
        """Which of `low` and `high` the run finds."""
        return tuple(side for side, _ in self.searches)


def check_ends(metric: Metric, low: float, high: float) -> None:
    """Refuses bounds that aren't finite, or not in order.

    Raises:
        ValueError: they are so.
    """
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"metric {metric.name}: a {metric.kind} needs a column and finite bounds with low < high")
