"""Grids of privacy losses, composed by FFT after a tilt that brings the tail that decides δ to the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import fft, special

from dpbeam.accounting.loss_grids import Floats, Grid

Parts = Sequence[tuple[Grid, int]]
"""Grids of privacy losses, and how often each is composed."""

MOST_CELLS = 1 << 22
"""Cells of the composed grid. Where the whole of it would be larger, only a window of it is computed."""
# Tilts are chosen among these multiples of one over the losses' typical size. Chernoff's bounds, by these multiples of
# the chosen tilt, say that next to nothing lies outside the window.
_TILTS = np.geomspace(1e-3, 1e4, 29)
_LOWER = np.array([-1.0, -0.3, 0.0, 0.3, 0.6, 0.8, 0.9])
_HIGHER = np.array([1.1, 1.2, 1.4, 1.7, 2.5, 5.0, 20.0])
_MOST_OF_A_STEP = 100.0
_OUTSIDE = math.log(1e15)


def whole_cells(parts: Parts) -> int:
    """How many cells the composition of all parts has."""
    return 1 + sum((len(grid) - 1) * count for (_, grid), count in parts)


def tilted_epsilon(parts: Parts, step: float, tilt: float, delta: float) -> float:
    """The ε of all parts composed, computed on every loss that they can have together."""
    size = fft.next_fast_len(whole_cells(parts), real=True)
    lowest = sum(first * count for (first, _), count in parts)
    return _least_epsilon(*_composed(parts, step, tilt, lowest, size), delta)


def windowed_epsilon(parts: Parts, step: float, tail: float, delta: float) -> tuple[float, float]:
    """An ε of all parts composed, and the step that their window needs: if that is larger than `step`, the ε is by
    Rényi divergences alone, and a coarser grid may give a smaller one.

    Guarantee: not below the ε of the parts' composition at δ = `delta` + `tail`. Losses above the window have together
    at most a probability of `tail`, by Chernoff's bound, which is all that they add to δ. What lies outside comes up
    within, by the FFT, where it adds to δ what it may not have. So nothing that counts is lost, whatever the window; it
    is wide enough that next to nothing is gained, outside being less than e^−`_OUTSIDE` of what was tilted.
    """
    scale = math.sqrt(math.fsum(count * _second_moment(grid, step) for grid, count in parts))
    tilts, moments = _moments(parts, step, _TILTS / max(scale, step))
    # The conversion from Rényi divergences, as in `composition`. Its best tilt brings that ε to the middle.
    converted = (moments - math.log(delta) - np.log1p(tilts)) / tilts + np.log(tilts / (1 + tilts))
    tilt, moment, enough = (float(of[np.argmin(converted)]) for of in (tilts, moments, converted))
    if enough <= 0:
        return 0.0, step
    top = float(np.min((moments - math.log(tail)) / tilts))
    low, low_moments = _moments(parts, step, tilt * _LOWER)
    high, high_moments = _moments(parts, step, tilt * _HIGHER)
    bottom = float(np.max((moment - low_moments - _OUTSIDE) / (tilt - low)))
    if len(high):
        top = max(top, float(np.min((high_moments - moment + _OUTSIDE) / (high - tilt))))
    lowest = sum(first * count for (first, _), count in parts)
    start = max(lowest, min(0, math.floor(bottom / step)))
    cells = min(whole_cells(parts), max(2, math.ceil(top / step) + 2 - start))
    if cells > MOST_CELLS:
        return enough, step * cells / MOST_CELLS * 1.1
    size = fft.next_fast_len(cells, real=True)
    return min(enough, _least_epsilon(*_composed(parts, step, tilt, start, size), delta)), step


def _second_moment(grid: Grid, step: float) -> float:
    first, masses = grid
    return float(np.dot(masses, ((first + np.arange(len(masses))) * step) ** 2))


def _moments(parts: Parts, step: float, tilts: Floats) -> tuple[Floats, Floats]:
    """Those of the tilts that floats can hold on this grid, and ln E[e^(tilt·loss)] of all parts composed."""
    tilts = tilts[np.abs(tilts) * step <= _MOST_OF_A_STEP]
    return tilts, sum((count * _log_moments(grid, step, tilts) for grid, count in parts), np.zeros(len(tilts)))


def _log_moments(grid: Grid, step: float, tilts: Floats) -> Floats:
    """ln of the sum of masses times e^(tilt·loss), for each tilt, from above."""
    first, masses = grid
    there = np.flatnonzero(masses)
    logs, losses = np.log(masses[there]), (first + there) * step
    return np.array([float(special.logsumexp(logs + tilt * losses)) + _rounding(tilt * losses) for tilt in tilts])


def _rounding(exponents: Floats) -> float:
    """How far a logarithm of a sum of masses times e^exponent may be off: much, where it is composed very often."""
    return 8 * float(np.finfo(float).eps) * (50 + max(abs(float(exponents[0])), abs(float(exponents[-1]))))


def _composed(parts: Parts, step: float, tilt: float, start: int, size: int) -> tuple[Floats, Floats]:
    """The losses above 0 of `size` cells from the index `start` on, and their masses, from above. Losses that don't lie
    on these come up on them, a multiple of `size` away."""
    lowest = sum(first * count for (first, _), count in parts)
    spectrum: Any = 1.0
    log_normaliser = 0.0
    factors = 0
    for (first, grid), count in parts:
        exponents: Floats = tilt * (first + np.arange(len(grid), dtype=np.float64)) * step
        with np.errstate(divide="ignore"):
            logs = np.log(grid) + exponents
        total = float(special.logsumexp(logs))
        masses = np.exp(logs - total)
        if len(masses) > size:
            masses = np.pad(masses, (0, -len(masses) % size)).reshape(-1, size).sum(axis=0)
        transform = fft.rfft(masses, size)
        spectrum = spectrum * (transform**count if count > 1 else transform)
        log_normaliser += count * (total + _rounding(exponents))
        factors += count
    tilted = np.roll(fft.irfft(spectrum, size), (lowest - start) % size)
    # The FFT's rounding error in each element is at most this; added, so that it can't lower δ.
    tilted = np.maximum(tilted, 0.0) + 4 * np.finfo(float).eps * math.log2(size + 2) * factors
    losses: Floats = (start + np.arange(size, dtype=np.float64)) * step
    positive = losses > 0
    losses, tilted = losses[positive], tilted[positive]
    with np.errstate(over="ignore"):
        masses = tilted * np.exp(np.minimum(log_normaliser - tilt * losses, 600.0))
    return losses, np.asarray(masses)


def _least_epsilon(losses: Floats, masses: Floats, delta: float) -> float:
    """The least ε ≥ 0 at which masses on rising losses give at most `delta`, from above."""

    def delta_at(epsilon: float) -> float:
        start = int(np.searchsorted(losses, epsilon, side="right"))
        return float(np.dot(masses[start:], -np.expm1(epsilon - losses[start:])))

    low, high = 0.0, float(losses[-1])
    if delta_at(low) <= delta:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        if delta_at(middle) <= delta:
            high = middle
        else:
            low = middle
    return high
