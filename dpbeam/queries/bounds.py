"""What one privacy unit may contribute to a stage, and how far that moves what is added up, in l1 and l2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Norm = Literal["l1", "l2", "linf"]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one privacy unit may contribute to a stage: at most `l0` partitions, and `linf` rows in each; or at most
    `l1` rows in all.

    `l0` without `linf` bounds no rows: it is enough for what is bounded in each partition by itself.

    Raises:
        ValueError: neither `l1` alone nor `l0` with or without `linf` is given, or one is below 1.
    """

    l0: int | None = None
    linf: int | None = None
    l1: int | None = None

    def __post_init__(self) -> None:
        stated = [bound for bound in (self.l0, self.linf, self.l1) if bound is not None]
        if (self.l0 is None) == (self.l1 is None) or (self.l0 is None and self.linf is not None) or min(stated) < 1:
            raise ValueError(f"bounds must be l0, or l0 and linf, or l1, each at least 1, got {self}")

    @property
    def partitions(self) -> int:
        """The most partitions that one unit counts in."""
        return self.l0 or self.l1 or 0

    @property
    def rows(self) -> int | None:
        """The most rows that one unit counts with; None if they aren't bounded."""
        if self.l1 is not None:
            return self.l1
        return None if self.l0 is None or self.linf is None else self.l0 * self.linf

    def rows_in(self, partitions: int) -> int | None:
        """The most rows that one unit has in so many partitions together; None if they aren't bounded."""
        if self.l1 is not None:
            return self.l1
        return None if self.linf is None else partitions * self.linf

    def of_rows(self, l1: float, l2: float) -> tuple[float, float]:
        """(l1, l2) sensitivity, over all partitions, of a quantity that one row moves by `l1` and by `l2`.

        All rows of a unit in a partition may move the same number, and with `l1` all its rows may be in one partition.

        Raises:
            ValueError: the unit's rows aren't bounded.
        """
        if self.l1 is not None:
            return self.l1 * l1, self.l1 * l2
        if self.l0 is None or self.linf is None:
            raise ValueError("rows of a unit must be bounded by linf or l1 for what they add up to")
        return self.l0 * self.linf * l1, math.sqrt(self.l0) * self.linf * l2

    def of_values(self, most: int) -> int:
        """The most (partition, value) pairs that one unit counts in, with at most `most` values in a partition.

        A row has one value, so a bound on rows bounds values too.
        """
        if self.l1 is not None:
            return self.l1
        return self.partitions * (most if self.linf is None else min(most, self.linf))

    def of_partitions(self, most: float) -> tuple[float, float]:
        """(l1, l2) sensitivity of a quantity that one unit moves by at most `most` in each partition."""
        return self.partitions * most, math.sqrt(self.partitions) * most


def vector_norms(norm: Norm | None, most: float, length: int) -> tuple[float, float]:
    """The largest l1 and l2 norm of a vector of `length` numbers whose `norm` is at most `most`."""
    match norm:
        case "l1":
            return most, most
        case "l2":
            return most * math.sqrt(length), most
        case "linf":
            return most * length, most * math.sqrt(length)
    raise ValueError(f"a vector's norm must be l1, l2 or linf, got {norm!r}")
