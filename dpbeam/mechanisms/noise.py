"""The one place where noise is added: by the mechanisms of Google's C++ library, through PyDP, to exact accumulators.

dpbeam draws no noise of its own. Noise is drawn apart from any value, as an integer: so many steps of a power of two
that the plan fixes (`dpbeam.mechanisms.noise_step`). It is added to the exact integer accumulator by integer
arithmetic, and only their exact sum is made a float. docs/accounting.md, "What is really drawn", has the proof.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms import randomness
from dpbeam.mechanisms.events import Additive, Laplace, LaplaceThresholding, Thresholding
from dpbeam.mechanisms.fixedpoint import MAGNITUDE_BITS, Grid, exponent_of
from dpbeam.mechanisms.noise_step import bits_of, step_of
from dpbeam.mechanisms.noise_width import scale_of

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

EXACT_FLOATS = 2**53
MOST_SUM = 2**62
"""Sums and counts up to this many of their steps leave room in int64 for any noise."""
MOST_OF_BOUNDS = 2.0**26
"""The largest scale of noise on a sum, against what one row may add."""
_ORIGIN = 2**33
"""What PyDP adds its noise to, always; taken off again. python-dp 1.1.5rc4 has a 32-bit overload, which takes any
small integer and cuts its noise to 32 bits."""
_HALVES = 53
"""Steps are split into whole units and a rest, half a unit at most. From so many bits of rest on there are no whole
ones: noise has fewer bits than 52."""


class Sampler(Protocol):
    """A PyDP mechanism. An int gets whole noise by integer arithmetic; a float would get float noise, so none is given:
    `AdditiveNoise.draw` is the one place that asks a sampler for noise."""

    def add_noise(self, value: int) -> int: ...


@dataclass(kw_only=True)
class AdditiveNoise:
    """Adds the noise of one mechanism to many values; holds the event and builds PyDP's object on first use.

    PyDP's objects don't pickle: build this once a bundle (in `DoFn.setup`), or send it, and it builds its own.

    Guarantee: each result is a function of (exact accumulator + one fresh draw of the mechanism) alone: of an integer
    number of steps, which is computed without rounding, and then rounded to the nearest float64. So all results are
    whole steps of `step`, whatever the data; which of them can come, and with which low bits, is the same for all data.
    The step follows from the mechanism. What would break it: a sampler that is given a value, or a float; noise whose
    size lets the sampler's own rounding show, which `step_of` rules out.
    """

    mechanism: Additive | Thresholding
    _sampler: list[Sampler] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "_sampler": []}

    @property
    def step(self) -> float:
        """The power of two that all noise is whole steps of."""
        return step_of(self.mechanism)

    def draw(self, size: int) -> I64:
        """`size` fresh draws, in steps."""
        randomness.discard_inherited()
        if not self._sampler:
            self._sampler.append(_sampler(self.mechanism))
        add = self._sampler[0].add_noise
        drawn = np.fromiter(map(add, repeat(_ORIGIN, size)), dtype=np.int64, count=size)
        drawn -= _ORIGIN
        return drawn

    def to_counts(self, counts: I64) -> F64:
        """Counts with noise, float64, unrounded (they may be negative).

        Raises:
            RunFailed: a count of 2**53 or more, which a float would round.
            UsageError: noise that is too large for counts (see `check_counts`).
        """
        if ((counts <= -EXACT_FLOATS) | (counts >= EXACT_FLOATS)).any():
            raise RunFailed("a count must stay below 2**53 to be released, and one did not; nothing was published")
        check_counts(self.mechanism)
        return self._added(counts, 1.0)

    def to_sums(self, sums: I64, grid: Grid) -> F64:
        """Fixed-point sums with noise, float64, in the column's unit and relative to the grid's centre.

        Raises:
            RunFailed: a sum of more than 2**62 of the grid's steps.
            ValueError: a grid finer than the noise (`Quantity.least_step` sees to that).
        """
        if ((sums < -MOST_SUM) | (sums > MOST_SUM)).any():
            raise RunFailed(
                "a sum must stay within 2**62 of its steps to be released, and one did not; nothing was published; "
                "give the stage finer keys, or less data a run"
            )
        return self._added(sums, grid.step)

    def _added(self, values: I64, unit: float) -> F64:
        """(values · unit + noise), rounded to the nearest float64 from the exact sum.

        The sum, a whole number of steps, is written as whole units and a rest: both exact floats below 2**53 units.
        """
        bits = exponent_of(unit / self.step)
        if bits < 0:
            raise ValueError(f"noise in steps of {self.step!r} can't be drawn for values in steps of {unit!r}")
        rest = self.draw(len(values))
        whole = values
        if bits < _HALVES:
            up = (rest + (1 << bits >> 1)) >> bits
            rest -= up << bits
            whole = values + up
        noisy: F64 = whole.astype(np.float64) * unit
        noisy += rest.astype(np.float64) * self.step
        return noisy


def check(mechanism: Additive, grid: Grid) -> None:
    """Refuses noise so large against the value bounds that nothing would be left of the values. To be called before
    anything is charged, with the grid that the bounds alone ask for.

    Below that, noise that is too large to be drawn in the steps of that grid gets a coarser one: 14 bits of a value are
    left at the least, and rounding them moves a sum of 2**32 rows by less than the noise does.
    """
    scale = scale_of(mechanism)
    if not scale / grid.step < MOST_OF_BOUNDS * 2**MAGNITUDE_BITS:
        raise UsageError(
            f"stage {mechanism.stage}: the noise of {mechanism.metric} must be below 2**26 times its value bounds, got "
            f"{mechanism.kind} noise of scale {scale:g}; raise epsilon or the metric's weight, or lower l0 or linf"
        )


def check_counts(mechanism: Additive | Thresholding) -> None:
    """Refuses noise that can't be drawn in steps of 1 or less. To be called before anything is charged."""
    if not step_of(mechanism) <= 1:
        raise UsageError(
            f"stage {mechanism.stage}: the noise of {mechanism.metric} must have a scale of 2**{bits_of(mechanism)} at "
            f"most, got {scale_of(mechanism):g}; raise epsilon or the metric's weight, or lower l0 or linf"
        )


def _sampler(mechanism: Additive | Thresholding) -> Sampler:
    """PyDP's sampler for noise in steps: every sampler that is built is built here."""
    scale = scale_of(mechanism) / step_of(mechanism)
    return _laplace(scale) if isinstance(mechanism, Laplace | LaplaceThresholding) else _gaussian(scale)


def _laplace(scale: float) -> Sampler:
    """PyDP's Laplace mechanism. It draws a scale of (1 + granularity / sensitivity) times what it is asked for: with
    the scale as the sensitivity, and a granularity of one step, that is one step more."""
    from pydp.algorithms.numerical_mechanisms import LaplaceMechanism

    return cast(Sampler, LaplaceMechanism(1.0, scale))


def _gaussian(sigma: float) -> Sampler:
    from pydp.algorithms.numerical_mechanisms import GaussianMechanism

    return cast(Sampler, GaussianMechanism.create_from_standard_deviation(sigma))
