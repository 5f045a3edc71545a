"""Fixed-point sums: values as int64 multiples of a power of two, which no order and no rounding can move.

Float sums depend on their order, and rounding can push them further than clipping says one row may move them
(Casacuberta et al., CCS'22, https://arxiv.org/abs/2207.10635). Integer sums do neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dpbeam.errors import RunFailed

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

MAGNITUDE_BITS = 30
"""One row's value is at most 2**30 steps, so the sum of 2**32 rows stays inside int64."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """clip(value, `low`, `high`) − `centre` in whole steps of `step`, a power of two.

    `lowest` and `highest` are the clipping bounds on the grid, rounded inwards. Whole numbers are exact when both
    bounds are within 2**30 of a whole centre, or within 2**29 of a centre that ends in ½; on a grid that noise made
    coarser (`dpbeam.mechanisms.noise_step`), within as many of its steps.
    """

    low: float
    high: float
    centre: float
    step: float
    lowest: int
    highest: int

    @classmethod
    def for_bounds(cls, low: float, high: float, centre: float = 0.0, least_step: float = 0.0) -> Grid:
        """The finest grid on which no clipped value is above 2**30 steps, and no step below `least_step` (a power of
        two, or 0).

        Raises:
            ValueError: bounds that aren't finite, not in order, or too far apart for a float.
        """
        reach = max(abs(low - centre), abs(high - centre))
        if not (-math.inf < low < high < math.inf and 0 < reach < math.inf):
            raise ValueError(
                f"bounds must be finite with low < high, got low {low!r}, high {high!r}, centre {centre!r}"
            )
        step = max(math.ldexp(1.0, max(exponent_of(reach) - MAGNITUDE_BITS, -1022)), least_step)
        lowest, highest = math.ceil((low - centre) / step), math.floor((high - centre) / step)
        if lowest > highest:  # bounds closer than a step: the multiple inside the larger bound stands for both
            lowest = highest = min(lowest, highest, key=abs)
        return cls(low=low, high=high, centre=centre, step=step, lowest=lowest, highest=highest)

    def finest(self) -> Grid:
        """This grid with the smallest step that any bounds may have against how far they reach: a power of two has it.

        Not to be summed on: it says whether noise fits the grid of bounds that the run has yet to choose.
        """
        return replace(
            self, step=math.ldexp(max(abs(self.low - self.centre), abs(self.high - self.centre)), -MAGNITUDE_BITS)
        )

    def encode(self, values: npt.NDArray[np.int64] | F64) -> I64:
        """int64 or finite float64 values as steps from the centre.

        Guarantee: |result| · step ≤ max(|low − centre|, |high − centre|) for any input, so one row moves a sum by
        no more than `Quantity.linf_sensitivity(1)`; rounding happens before the last clip, never after it.
        """
        return self.encode_whole(values).astype(np.int64)

    def encode_whole(self, values: npt.NDArray[np.int64] | F64) -> F64:
        """As `encode`, but as whole numbers in float64 (exact: they are below 2**53)."""
        if values.dtype == np.int64:  # clipped before the cast: beyond 2**53 a cast rounds
            inside = np.iinfo(np.int64)
            least = min(max(math.floor(self.low), inside.min), inside.max)
            most = max(min(math.ceil(self.high), inside.max), inside.min)
            values = np.maximum(np.minimum(values, np.int64(most)), np.int64(least))
        steps: F64 = np.clip(values.astype(np.float64), self.low, self.high)
        steps -= self.centre
        steps *= 1.0 / self.step
        np.rint(steps, out=steps)
        np.clip(steps, self.lowest, self.highest, out=steps)
        return steps

    def decode(self, steps: npt.NDArray[np.int64]) -> F64:
        """Sums in steps as float64, in the column's unit (still relative to the centre)."""
        result: F64 = steps.astype(np.float64) * self.step
        return result


def exponent_of(size: float) -> int:
    """The exponent of the least power of two that is at least `size`, exactly: no logarithm is rounded."""
    mantissa, exponent = math.frexp(size)
    return exponent - 1 if mantissa == 0.5 else exponent


def checked_sum(values: I64, starts: npt.NDArray[np.int64]) -> I64:
    """Sums of the runs of `values` that begin at `starts`, exact.

    Raises:
        RunFailed: a sum beyond int64 (it never wraps round).
    """
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    most = max(abs(int(values.min())), abs(int(values.max())))
    if most * len(values) < 2**63:
        return np.add.reduceat(values, starts)
    # Halves of 32 bits: neither overflows below 2**31 addends, whatever their order.
    high = np.add.reduceat(values >> 32, starts)
    low = np.add.reduceat(values & 0xFFFFFFFF, starts)
    high += low >> 32
    if ((high < -(2**31)) | (high >= 2**31)).any():
        raise RunFailed(
            "a sum must stay within 64-bit integers, and one did not; nothing was published; "
            "give the stage finer keys, or less data a run"
        )
    total: I64 = (high << 32) + (low & 0xFFFFFFFF)
    return total
