"""Exact accumulators in, noisy float64 quantities out, by the mechanisms of Google's C++ library through PyDP.

dpbeam draws no noise of its own. PyDP's samplers are made for floating point: they are discrete, on a
power-of-two grid, and safe against attacks on the low bits (Mironov, CCS'12).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms import randomness
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.mechanisms.fixedpoint import Grid
from dpbeam.mechanisms.quantities import noisy_by_themselves
from dpbeam.mechanisms.spec import StageSpec

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

EXACT_FLOATS = 2**53
MAX_SCALE_STEPS = 2.0**56
"""The largest noise, in grid steps, that is drawn as int64: 64 of these scales still fit 2**62."""
_WIDE = 2**33
"""Added before the noise and taken off after it, exactly: python-dp 1.1.5rc4 has a 32-bit overload, which takes any
small integer and cuts its noise to 32 bits. A multiple of every granularity, so PyDP rounds as it would without."""


class Sampler(Protocol):
    """A PyDP mechanism: an int gets whole noise by exact integer arithmetic, a float gets float noise."""

    def add_noise(self, value: Any) -> Any: ...


@dataclass(kw_only=True)
class AdditiveNoise:
    """Adds the noise of one mechanism to many values; holds the event and builds PyDP's object on first use.

    PyDP's objects don't pickle: build this once a bundle (in `DoFn.setup`), or send it, and it builds its own.
    """

    mechanism: Additive
    _samplers: dict[float, Sampler] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "_samplers": {}}

    def to_counts(self, counts: I64) -> F64:
        """Counts with noise, float64, unrounded (they may be negative).

        Guarantee: each result is its count plus one fresh draw of the mechanism.

        Raises:
            RunFailed: a count of 2**53 or more, which a float would round.
        """
        if ((counts <= -EXACT_FLOATS) | (counts >= EXACT_FLOATS)).any():
            raise RunFailed("a count must stay below 2**53 to be released, and one did not; nothing was published")
        # float(), not int: a whole number would reach the overload that rounds the noise.
        add = self._sampler(1.0).add_noise
        return _collect((add(float(count)) for count in counts.tolist()), len(counts))

    def to_sums(self, sums: I64, grid: Grid) -> F64:
        """Fixed-point sums with noise, float64, in the column's unit and relative to the grid's centre.

        Guarantee: the noise is added to the exact sum in whole grid steps, at the mechanism's scale and sensitivity
        in steps; the result is decoded afterwards, which is post-processing. No float touches the sum before.

        Raises:
            UsageError: noise that is too large for the grid (see `check`).
        """
        check(self.mechanism, grid)
        add = self._sampler(grid.step).add_noise
        noisy = (
            float(add(steps + _WIDE) - _WIDE if steps >= 0 else add(steps - _WIDE) + _WIDE) for steps in sums.tolist()
        )
        return _collect(noisy, len(sums)) * grid.step

    def _sampler(self, step: float) -> Sampler:
        randomness.own()
        if step not in self._samplers:
            match self.mechanism:
                case Laplace(scale=scale, l1=l1):
                    self._samplers[step] = _laplace(scale / step, l1 / step)
                case Gaussian(sigma=sigma):
                    self._samplers[step] = _gaussian(sigma / step)
        return self._samplers[step]


def noises(spec: StageSpec) -> dict[str, AdditiveNoise]:
    """The noise of every quantity of a stage that has its own, by the quantity's name; not of those that a threshold
    keeps, whose noise is in the threshold.

    Raises:
        ValueError: a quantity without a mechanism.
    """
    needed = noisy_by_themselves(spec.quantities, None if spec.selection is None else spec.selection.kind)
    additive = [quantity for quantity in needed if quantity.kind != "values"]
    for quantity in needed:
        if quantity.name not in (spec.noise if quantity in additive else spec.thresholds):
            raise ValueError(
                f"stage {spec.name}: quantity {quantity.name} has no noise; a plan must give it a mechanism"
            )
    return {quantity.name: AdditiveNoise(mechanism=spec.noise[quantity.name]) for quantity in additive}


def check(mechanism: Additive, grid: Grid) -> None:
    """Refuses noise so large against the value bounds that whole steps of it would leave int64.

    It takes a scale 2**26 times what one row can add. To be called before anything is charged.
    """
    scale = mechanism.scale if isinstance(mechanism, Laplace) else mechanism.sigma
    if not scale / grid.step < MAX_SCALE_STEPS:
        raise UsageError(
            f"stage {mechanism.stage}: the noise of {mechanism.metric} must be below 2**26 times its value bounds, got "
            f"{mechanism.kind} noise of scale {scale:g}; raise epsilon or the metric's weight, or lower l0 or linf"
        )


def _laplace(scale: float, l1: float) -> Sampler:
    """PyDP's Laplace mechanism. `l1` matters: PyDP widens the noise by its own rounding relative to the sensitivity,
    so a unit sensitivity beside a scale of 2**40 (a sum in steps) would double the noise."""
    from pydp.algorithms.numerical_mechanisms import LaplaceMechanism

    return cast(Sampler, LaplaceMechanism(l1 / scale, l1))


def _gaussian(sigma: float) -> Sampler:
    from pydp.algorithms.numerical_mechanisms import GaussianMechanism

    return cast(Sampler, GaussianMechanism.create_from_standard_deviation(sigma))


def _collect(values: Iterable[float], count: int) -> F64:
    return np.fromiter(values, dtype=np.float64, count=count)
