"""Bounds that a run chooses for itself, from noisy histograms over public grids.

Nothing here sees a row: what is chosen is a function of noisy counts and public parameters, so it costs nothing beyond
the histograms, and what the data can do to it is limited as the histograms are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from dpbeam.array_types import F64
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.queries.automatic import outermost

CHANCE = 1e-6
"""The probability that noise alone makes any empty bin of a histogram count."""

ROOT = 0.5
"""How Gaussian noise grows with `l0`. Also for noise that grows with the bound itself, where it isn't the noise that
decides whether a partition is shown: between that, by which 1 would always be best, and leaving nothing out."""
LINEAR = 0.9
"""For selections whose noise grows with the bound itself; a little less, so that where all units contribute alike, the
bound is near what they contribute and not 1."""

_LARGEST = float(np.finfo(np.float64).max)
_LEAST_WIDTH = 1e-15


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A bound and whether counts stood out from the noise; where none did, `value` is the fallback."""

    value: float
    found: bool


def magnitudes(least: float, most: float) -> tuple[float, ...]:
    """The values that a clipping bound may take, rising: 0, and ± each power of two from `least` to `most`."""
    small, large = outermost(least, most)
    powers = [small * 2.0**i for i in range(round(math.log2(large / small)) + 1)]
    return (*(-power for power in reversed(powers)), 0.0, *powers)


def value_edges(least: float, most: float) -> tuple[float, ...]:
    """Edges of the histogram of values: bins ]2ᵏ⁻¹, 2ᵏ], their mirror images, and one for 0 alone.

    The first and the last bin reach to the ends of what a float can hold, so every value is in a bin.
    """
    inner = magnitudes(least, most)[1:-1]
    after = [math.nextafter(edge, math.inf) for edge in inner if edge >= 0]
    return (-_LARGEST, *(edge for edge in inner if edge <= 0), *after, _LARGEST)


def choose_clip(
    counts: Sequence[float], noise: Additive, *, least: float, most: float, low: float | None, high: float | None
) -> tuple[Chosen, Chosen]:
    """Clipping bounds (low, high) from the noisy histogram over `value_edges(least, most)`; a stated one stays.

    Bins count whose noisy count is above what noise alone reaches in any bin with probability `CHANCE` (the rule of
    Google's approximate bounds); `low` is the lower end of the first of them, `high` the upper end of the last. Where
    none counts, they are −1 and 1, or the nearest on the grid. If a stated bound leaves no room for the other, that
    one is the next value on the grid beyond it.

    Raises:
        ValueError: another number of counts than bins; a stated bound beyond the grid.
    """
    grid = np.array(magnitudes(least, most))
    noisy = np.asarray(counts, dtype=np.float64)
    if len(noisy) != len(value_edges(least, most)) - 1:
        raise ValueError(f"a histogram from {least} to {most} has {len(value_edges(least, most)) - 1} bins")
    # Bins lie between neighbours on the grid, but for that of 0, both ends of which are 0.
    middle = len(grid) // 2
    lower = np.concatenate([grid[:middle], [0.0], grid[middle:-1]])
    upper = np.concatenate([grid[1 : middle + 1], [0.0], grid[middle + 1 :]])
    counted = np.flatnonzero(noisy > beyond_chance(noise, len(noisy)))
    found = len(counted) > 0
    first, last = (lower[counted[0]], upper[counted[-1]]) if found else (-1.0, 1.0)
    return _settled(grid, float(first), float(last), low, high, found)


def _settled(
    grid: F64, first: float, last: float, low: float | None, high: float | None, found: bool
) -> tuple[Chosen, Chosen]:
    """The bounds as they are used: on the grid, in order, and apart."""
    below = math.inf if high is None else min(math.nextafter(high, -math.inf), high - _LEAST_WIDTH)
    bottom = low if low is not None else _at_most(grid, min(max(first, grid[0]), below))
    wanted = max(min(last, grid[-1]), math.nextafter(bottom, math.inf), bottom + _LEAST_WIDTH)
    top = high if high is not None else _at_least(grid, wanted)
    if not bottom < top:
        raise ValueError(f"bounds must be in order, got low {bottom!r}, high {top!r}")
    return Chosen(value=float(bottom), found=found), Chosen(value=float(top), found=found)


def _at_most(grid: F64, value: float) -> float:
    below = grid[grid <= value]
    if not len(below):
        raise ValueError(f"a bound must be above {grid[0]}, the grid's lowest, for another to fit below it")
    return float(below[-1])


def _at_least(grid: F64, value: float) -> float:
    above = grid[grid >= value]
    if not len(above):
        raise ValueError(f"a bound must be below {grid[-1]}, the grid's highest, for another to fit above it")
    return float(above[0])


def count_grid(most: int) -> tuple[int, ...]:
    """The values that a bound on contributions may take, rising: 1, 2, 3, 4, 6, 8, 12, 16, … and `most`."""
    steps = [1, *(half << i for i in range(most.bit_length()) for half in (2, 3))]
    return (*(step for step in steps if step < most), most)


def count_edges(most: int) -> tuple[float, ...]:
    """Edges of the histogram of units by what they contribute: bins ]gᵢ₋₁, gᵢ] of the grid."""
    return (0.5, *(step + 0.5 for step in count_grid(most)))


def choose_count(counts: Sequence[float], noise: Additive, *, most: int, growth: float = ROOT) -> Chosen:
    """A bound on contributions from the noisy histogram of units over `count_edges(most)`.

    The bound k for which kept(k) / k**growth is largest, where kept(k) is what units contribute if each keeps at most
    k: what is kept against noise. Only bins count that noise alone doesn't reach but with probability `CHANCE`; where
    none does, the bound is 1.

    Raises:
        ValueError: another number of counts than bins.
    """
    grid = np.array(count_grid(most), dtype=np.float64)
    noisy = np.asarray(counts, dtype=np.float64)
    if len(noisy) != len(grid):
        raise ValueError(f"a histogram up to {most} has {len(grid)} bins, got {len(noisy)}")
    units = np.where(noisy > beyond_chance(noise, len(noisy)), noisy, 0.0)
    if not units.any():
        return Chosen(value=1, found=False)
    middle = np.array([(low + 1 + high) / 2 for low, high in pairwise([0.0, *grid])])
    middle[-1] = most  # it holds those cut to `most`
    kept = (np.minimum(middle[np.newaxis, :], grid[:, np.newaxis]) * units).sum(axis=1)
    return Chosen(value=int(grid[np.argmax(kept / grid**growth)]), found=True)


def beyond_chance(noise: Additive, bins: int) -> float:
    """The least t such that `bins` draws of the noise are all at most t with probability 1 − `CHANCE` or more."""
    each = CHANCE / bins
    match noise:
        case Gaussian(sigma=sigma):
            return sigma * -NormalDist().inv_cdf(each)
        case Laplace(scale=scale):
            return scale * -math.log(2 * each)
    raise ValueError(f"unknown noise {noise!r}")
