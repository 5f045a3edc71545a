"""What gets noise: the quantities that metrics are made from, and how far one privacy unit moves each.

A metric is post-processing of one to three noisy quantities. Two quantities are one if they are the same but for their
names, weights and what is asked of them afterwards (`definition`), whichever metrics asked for them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from dpbeam.queries.bounds import Bounds, Norm, vector_norms

if TYPE_CHECKING:
    from dpbeam.queries.custom import CustomMetric

TREE_HEIGHT = 4
TREE_BRANCHING = 16
"""A quantile tree's shape: 16**4 leaves, as in Google's library and PipelineDP."""

TOTAL_REACH = 2**10
"""How far one value counts towards a unit's total, in bounds of the total."""

Self = TypeVar("Self", bound="Quantity")


@dataclass(frozen=True, kw_only=True)
class Quantity(ABC):
    """One noisy quantity of every partition, made from `columns`. `name` is the `metric` field of its mechanism, `kind`
    what formats and messages call its type."""

    kind: ClassVar[str]
    name: str
    weight: float
    columns: tuple[str, ...] = ()

    @property
    def definition(self) -> Quantity:
        """What it is, whoever asked for it: two quantities of one definition are one."""
        return replace(self, name="", weight=1.0)

    @property
    def size(self) -> int:
        """Numbers a partition in the accumulators: 1, or the length of a vector."""
        return 1

    @abstractmethod
    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        """How far, in l1 and in l2 over all partitions, one privacy unit within `bounds` moves this quantity."""

    def numbers(self, bounds: Bounds) -> int:
        """How many numbers, over all partitions, one privacy unit within `bounds` moves at most."""
        return bounds.partitions

    def effect_on_residual(self, bounds: Bounds, leaves: int) -> tuple[float, float, float]:
        """How far one unit moves one `other` of hierarchical keys in which at most `leaves` of its leaves count: in l1,
        in l2, and the factor by which noise in l2 must grow there (`dpbeam.queries.residual` has the proof).

        Raises:
            ValueError: rows aren't bounded and must be.
        """
        rows = bounds.rows_in(leaves)
        if rows is None:
            raise ValueError(f"{self.name}: rows of a unit must be bounded by linf or l1")
        l1, l2 = self.sensitivity(Bounds(l1=rows))
        return l1, l2, 1.0 if bounds.l1 is not None else math.sqrt(leaves)

    def joined(self: Self, other: Self) -> Self:
        """This quantity where another request for it comes in: one mechanism, with the sum of their weights."""
        return replace(self, weight=self.weight + other.weight)


@dataclass(frozen=True, kw_only=True)
class Count(Quantity):
    """Rows."""

    kind: ClassVar[str] = "count"

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class UnitCount(Quantity):
    """Privacy units, each of which counts once in a partition."""

    kind: ClassVar[str] = "privacy_id_count"

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_partitions(1.0)

    def effect_on_residual(self, bounds: Bounds, leaves: int) -> tuple[float, float, float]:
        return *self.sensitivity(Bounds(l0=1)), 1.0


@dataclass(frozen=True, kw_only=True)
class Distinct(Quantity):
    """The distinct values of a column: a row adds at most one to those seen."""

    kind: ClassVar[str] = "distinct"

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Bins(Quantity):
    """Rows by interval of `edges`, which rise and are one more than the bins."""

    kind: ClassVar[str] = "bins"
    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        return len(self.edges) - 1

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(1.0, 1.0)

    def numbers(self, bounds: Bounds) -> int:
        return min(bounds.partitions * self.size, bounds.rows or 0)


@dataclass(frozen=True, kw_only=True)
class Tree(Quantity):
    """Rows by node of a quantile tree over [low, high], asked for the quantiles at `ranks`. `auto` says which of its
    bounds the run chooses."""

    kind: ClassVar[str] = "tree"
    low: float
    high: float
    ranks: tuple[float, ...] = ()
    auto: tuple[str, ...] = ()

    @property
    def definition(self) -> Quantity:
        return replace(self, name="", weight=1.0, ranks=())

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        # A row counts in one node of each level; all rows may be in the same ones.
        return bounds.of_rows(TREE_HEIGHT, math.sqrt(TREE_HEIGHT))

    def numbers(self, bounds: Bounds) -> int:
        nodes = math.prod([TREE_BRANCHING] * TREE_HEIGHT) * 2  # more than all levels together
        return min(bounds.partitions * nodes, TREE_HEIGHT * (bounds.rows or 0))

    def joined(self, other: Tree) -> Tree:
        return replace(self, weight=self.weight + other.weight, ranks=tuple(sorted({*self.ranks, *other.ranks})))


@dataclass(frozen=True, kw_only=True)
class Summed(Quantity):
    """What adds up fixed-point numbers on a grid of its own; all others count.

    `least_step` is set once the noise is planned: what is summed is summed on no finer a grid (0: as fine as there is).
    """

    least_step: float = 0.0
    auto: tuple[str, ...] = ()
    """Which of its bounds the run chooses, and there, whether it is `centred`: two quantities that the query tells
    apart stay two, whatever is chosen, so that the plan's noise holds."""

    @property
    def definition(self) -> Quantity:
        return replace(self, name="", weight=1.0, least_step=0.0)

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float, float]:
        """What its grid is made for: the least and the most that is added up, and what is taken off before."""


@dataclass(frozen=True, kw_only=True)
class Sum(Summed):
    """Adds up clip(value, low, high) − centre, where `centre` is 0 for a released sum and the middle of the bounds for
    the numerator of a mean."""

    kind: ClassVar[str] = "sum"
    low: float
    high: float
    centre: float = 0.0

    @property
    def reach(self) -> float:
        """The largest distance of a clipped value from the centre."""
        return max(abs(self.low - self.centre), abs(self.high - self.centre))

    @property
    def ends(self) -> tuple[float, float, float]:
        return self.low, self.high, self.centre

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(self.reach, self.reach)


@dataclass(frozen=True, kw_only=True)
class Squares(Summed):
    """Adds up (clip(value) − centre)² − reach²/2."""

    kind: ClassVar[str] = "squares"
    low: float
    high: float
    centre: float

    @property
    def reach(self) -> float:
        """The largest distance of a clipped value from the centre."""
        return max(abs(self.low - self.centre), abs(self.high - self.centre))

    @property
    def ends(self) -> tuple[float, float, float]:
        half = self.reach**2 / 2
        return -half, half, 0.0

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(self.reach**2 / 2, self.reach**2 / 2)


@dataclass(frozen=True, kw_only=True)
class Total(Summed):
    """Adds up clip(total of one unit's values in the partition, low, high)."""

    kind: ClassVar[str] = "total"
    low: float
    high: float

    @property
    def reach(self) -> float:
        """The largest distance of a clipped total from 0."""
        return max(abs(self.low), abs(self.high))

    @property
    def ends(self) -> tuple[float, float, float]:
        return self.low, self.high, 0.0

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_partitions(self.reach)

    def effect_on_residual(self, bounds: Bounds, leaves: int) -> tuple[float, float, float]:
        l1, l2 = self.sensitivity(Bounds(l0=1))  # a total is bounded leaf by leaf
        return leaves * l1, leaves * l2, math.sqrt(leaves)


@dataclass(frozen=True, kw_only=True)
class NormClipped(Summed):
    """Adds up a vector for each row, scaled down to a `norm` of at most `max_norm`."""

    norm: Norm
    max_norm: float

    @property
    def ends(self) -> tuple[float, float, float]:
        return -self.max_norm, self.max_norm, 0.0

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        return bounds.of_rows(*vector_norms(self.norm, self.max_norm, self.size))

    def numbers(self, bounds: Bounds) -> int:
        return bounds.partitions * self.size


@dataclass(frozen=True, kw_only=True)
class Vector(NormClipped):
    """Adds up the vectors of `columns`."""

    kind: ClassVar[str] = "vector"
    length: int = 0
    """Where the columns hold several numbers each, how many there are in all; 0 where each holds one."""

    @property
    def size(self) -> int:
        return self.length or len(self.columns)


@dataclass(frozen=True, kw_only=True)
class CustomSums(NormClipped):
    """Adds up what a custom metric makes of `columns`."""

    kind: ClassVar[str] = "custom"
    custom: CustomMetric

    @property
    def size(self) -> int:
        return self.custom.row_bound.size


@dataclass(frozen=True, kw_only=True)
class UnitsByValue(Quantity):
    """Counts units by the values of a column, a unit with at most `max_values` of them in a partition: it counts once
    for each (partition, value)."""

    max_values: int

    def sensitivity(self, bounds: Bounds) -> tuple[float, float]:
        cells = bounds.of_values(self.max_values)
        return float(cells), math.sqrt(cells)

    def numbers(self, bounds: Bounds) -> int:
        return bounds.of_values(self.max_values)

    def effect_on_residual(self, bounds: Bounds, leaves: int) -> tuple[float, float, float]:
        values = min(self.max_values, bounds.rows_in(leaves) or self.max_values)
        return float(values), math.sqrt(values), 1.0


@dataclass(frozen=True, kw_only=True)
class Values(UnitsByValue):
    """Of all values, those whose noisy count passes a threshold, and which at least `pre_threshold` units have."""

    kind: ClassVar[str] = "values"
    pre_threshold: int = 1


@dataclass(frozen=True, kw_only=True)
class Candidates(UnitsByValue):
    """Of a public list, all."""

    kind: ClassVar[str] = "candidates"
    candidates: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.candidates)


QUANTITIES: tuple[type[Quantity], ...] = (
    Count,
    UnitCount,
    Sum,
    Total,
    Squares,
    Bins,
    Vector,
    Tree,
    Distinct,
    Values,
    Candidates,
    CustomSums,
)
"""Every type of quantity."""
