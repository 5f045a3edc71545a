"""Bounds that a query leaves to the run: what is searched, at which share of the budget, by which noisy histogram.

Until the run has chosen, such a bound stands for the most that it may become, so that a plan, its noise and its checks
hold for whatever is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dpbeam.mechanisms.targets import histogram_stage

Parameter = Literal["l0", "linf", "l1"]
PARAMETERS: tuple[Parameter, ...] = ("l0", "linf", "l1")
Side = Literal["low", "high"]
SIDES: tuple[Side, ...] = ("low", "high")

Key = tuple[str, str | None, Parameter | Side]
"""Stage, metric (None for a bound on contributions), parameter."""


@dataclass(frozen=True, kw_only=True)
class CountSearch:
    """A bound from 1 to `max`, found at a share `weight` of the stage's budget; where nothing stands out, it is
    `otherwise`, and None if then nothing is to be released."""

    max: int
    weight: float
    otherwise: int | None = None

    def __post_init__(self) -> None:
        if not (self.max >= 1 and self.weight > 0):
            raise ValueError(f"a search needs a max of at least 1 and a weight above 0, got {self}")
        if self.otherwise is not None and not 1 <= self.otherwise <= self.max:
            raise ValueError(f"a search's otherwise must be one of what may be found, got {self}")


@dataclass(frozen=True, kw_only=True)
class ClipSearch:
    """A power of two from `least` to `most`, its negative, or 0, found at a share `weight` of the stage's budget; where
    nothing stands out, it is `otherwise`, and None if then nothing is to be released."""

    least: float
    most: float
    weight: float
    otherwise: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.least < self.most < math.inf and self.weight > 0):
            raise ValueError(f"a search needs 0 < least < most < inf and a weight above 0, got {self}")
        if self.otherwise is not None and not on_grid(self.otherwise, self.least, self.most):
            raise ValueError(f"a search's otherwise must be one of what may be found, got {self}")

    @property
    def reach(self) -> float:
        """The largest magnitude that may be chosen."""
        return outermost(self.least, self.most)[1]

    def farthest(self, side: Side) -> float:
        """What the bound stands for until it is chosen: the farthest that it may be."""
        return -self.reach if side == "low" else self.reach


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A noisy histogram that a stage needs for bounds: of all rows' values, one row a unit; or of units, by what they
    contribute. `stage` and `metric` name its mechanism, `weight` is its share beside the metrics' of the stage.

    A unit counts in one bin, once, whatever it contributes.
    """

    stage: str
    metric: str
    weight: float
    search: ClipSearch | CountSearch


def outermost(least: float, most: float) -> tuple[float, float]:
    """The powers of two next below `least` and next above `most`: the smallest and largest magnitude searched."""
    return 2.0 ** math.floor(math.log2(least)), 2.0 ** math.ceil(math.log2(most))


def on_grid(value: float, least: float, most: float) -> bool:
    """Whether a clipping bound may become `value`: 0, or ± a power of two from `least` to `most`."""
    small, large = outermost(least, most)
    return value == 0 or (small <= abs(value) <= large and math.frexp(value)[0] in (-0.5, 0.5))


def values_stage(stage: str) -> str:
    """The name of the internal stage that counts the values of a stage's columns: none that a user can give."""
    return histogram_stage(stage, "values")


def units_stage(stage: str) -> str:
    """The name of the internal stage that counts the units of a stage by what they contribute."""
    return histogram_stage(stage, "units")
