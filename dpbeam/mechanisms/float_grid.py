"""Grids on which sums of floats are exact, for an engine that adds up floats and isn't ours.

Float sums depend on their order, and rounding can push them further than clipping says one row may move them
(Casacuberta et al., CCS'22, https://arxiv.org/abs/2207.10635). On a coarse enough grid no sum is ever rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpbeam.mechanisms.fixedpoint import exponent_of

F64 = npt.NDArray[np.float64]

SUM_BITS = 22
SQUARES_BITS = 10
"""A value is at most 2**22 steps where it is summed, and 2**10 where its square is. Half a step is the finest there is
(the middle of the bounds may lie there), so 2**30 rows of a partition add up in 53 bits, and 2**31 squares; and noise
2**16 times as wide as the bounds is no more steps than PyDP draws evenly."""

_FEWEST_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class FloatGrid:
    """Multiples of `step`, a power of two, between `low` and `high`, which are two of them."""

    low: float
    high: float
    step: float

    @classmethod
    def for_bounds(cls, low: float, high: float, *, squares: bool, centred: bool) -> FloatGrid:
        """The grid inside [low, high]; `centred` if only distances from the middle are added up.

        Raises:
            ValueError: the bounds aren't finite with low < high, or too close together for their size.
        """
        if not -math.inf < low < high < math.inf or not high - low < math.inf:
            raise ValueError(f"bounds must be finite with low < high, got low {low!r} and high {high!r}")
        largest = max(abs(low), abs(high))
        reach = high / 2 - low / 2 if centred else largest
        finest = exponent_of(reach) - (SQUARES_BITS if squares else SUM_BITS)
        # A value and half a step have to fit one float: bounds far from 0 for their distance get a coarser grid.
        step = math.ldexp(1.0, max(finest, exponent_of(largest) - 51, -1000))
        lowest, highest = math.ceil(low / step), math.floor(high / step)
        if not highest - lowest >= (_FEWEST_STEPS if centred else 1):
            raise ValueError(f"bounds must not lie so close together for their size, got low {low!r} and high {high!r}")
        return cls(low=lowest * step, high=highest * step, step=step)

    def clip(self, values: npt.NDArray[np.int64] | F64) -> F64:
        """Each value clipped to the bounds and rounded to the grid, halves to even.

        Guarantee: the result lies in [low, high] and is a multiple of `step`, for any int64 or finite value.
        """
        steps: F64 = np.clip(values.astype(np.float64), self.low, self.high) / self.step
        snapped: F64 = np.clip(np.rint(steps) * self.step, self.low, self.high)
        return snapped

    def snap(self, values: npt.NDArray[np.int64] | F64, most: float) -> F64:
        """As `clip`, but to [−most, most], rounded towards 0: for values that are bounded once they are added up."""
        steps: F64 = np.clip(values.astype(np.float64), -most, most) / self.step
        snapped: F64 = np.trunc(steps) * self.step
        return snapped


def vector_step(max_norm: float) -> float:
    """The step for the numbers of vectors of this norm."""
    return math.ldexp(1.0, max(exponent_of(max_norm) - SUM_BITS, -1000))
