"""Counts that passed a threshold, corrected for that, and their honest intervals. Post-processing.

A count is shown only if noise lifted it over the threshold, so near it what is shown is too high on average. With the
noise known, so is its law given that the count was kept: that gives an estimate of the bias, and intervals that hold
the true count in 95 % of the cases in which it is shown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding

F64 = npt.NDArray[np.float64]
_BISECTIONS = 60
_ROUNDS = 2
"""Rounds of correcting the count that the bias is computed for. One gives too little near the threshold, and all of
them (maximum likelihood) far too much: there a count is shown whatever is true."""
_REACH = 60.0
"""How far, in scales of the noise, a true count is looked for: no noise goes that far."""


def interval(
    noisy: F64, mechanism: LaplaceThresholding | GaussianThresholding, miss: F64 | float = 0.05
) -> tuple[F64, F64, F64]:
    """(low, high, bias) of released noisy counts, each at least the mechanism's least noisy count.

    [low, high] holds the true counts n at which neither P(noise lifts n to this much or more | kept) nor P(to this
    much or less | kept) is below half of `miss`. No n below the pre-threshold, or 1, is considered: such partitions are
    never kept. `bias` is E[noise | n kept] at an estimate of n: the noisy count less the bias that a count of its own
    size would have.
    """
    least = mechanism.threshold + (mechanism.pre_threshold - 1)
    scale = mechanism.sigma if isinstance(mechanism, GaussianThresholding) else mechanism.scale
    log_sf, mean = (
        (_log_sf_gaussian, _mean_gaussian)
        if isinstance(mechanism, GaussianThresholding)
        else (
            _log_sf_laplace,
            _mean_laplace,
        )
    )
    floor = np.full_like(noisy, float(max(1, mechanism.pre_threshold)))
    ceiling = np.maximum(noisy + _REACH * scale, floor)

    def above(n: F64) -> F64:
        """P(noisy count or more | n, kept); it grows with n."""
        return np.exp(np.minimum(log_sf((noisy - n) / scale) - log_sf((least - n) / scale), 0.0))

    low = _first(lambda n: above(n) >= miss / 2, floor, ceiling)
    high = _first(lambda n: above(n) > 1 - miss / 2, floor, ceiling)
    bias = np.zeros_like(noisy)
    for _ in range(_ROUNDS):
        bias = scale * mean((least - (noisy - bias)) / scale)
    return np.minimum(low, noisy), np.maximum(high, noisy), bias


def _first(holds: Callable[[F64], npt.NDArray[np.bool_]], floor: F64, ceiling: F64) -> F64:
    """The least n in [floor, ceiling] at which a condition holds that holds from somewhere on."""
    low, high = floor.copy(), ceiling.copy()
    at_floor = holds(floor)
    for _ in range(_BISECTIONS):
        middle = low + (high - low) / 2
        there = holds(middle)
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return np.where(at_floor, floor, high)


def _log_sf_gaussian(x: F64) -> F64:
    return np.asarray(special.log_ndtr(-x))


def _log_sf_laplace(x: F64) -> F64:
    return np.where(x >= 0, -np.abs(x) - np.log(2.0), np.log1p(-np.exp(-np.abs(x)) / 2))


def _mean_gaussian(t: F64) -> F64:
    """E[Z | Z ≥ t] of a standard normal Z: the inverse Mills ratio."""
    return np.asarray(np.exp(-(t**2) / 2 - 0.5 * np.log(2 * np.pi) - special.log_ndtr(-t)))


def _mean_laplace(t: F64) -> F64:
    """E[Z | Z ≥ t] of a standard Laplace Z: t + 1 from 0 on; below, (1 − t)·e^t / (2 − e^t)."""
    under = np.exp(np.minimum(t, 0.0))
    return np.where(t >= 0, t + 1, (1 - np.minimum(t, 0.0)) * under / (2 - under))
