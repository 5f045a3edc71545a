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

HIDDEN = 1e-3
"""The probability that units beyond the last bin that counts are more than they are taken to be at most."""

_LARGEST = float(np.finfo(np.float64).max)
_LEAST_WIDTH = 1e-15


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


@dataclass(frozen=True, kw_only=True)
class Clips:
    """What a histogram of values shows: `values[i]` stands for a part `parts[i]` of them.

    `pairs` are the clipping bounds (low, high) to choose from, a stated one in all of them; the first are the ends of
    the outermost bins that stand out.
    """

    values: F64
    parts: F64
    pairs: tuple[tuple[float, float], ...]

    def within(self, low: float, high: float) -> float:
        """The part of the values that lie within the bounds."""
        return float(self.parts[(self.values >= low) & (self.values <= high)].sum())


def clips(
    counts: Sequence[float], noise: Additive, *, least: float, most: float, low: float | None, high: float | None
) -> Clips | None:
    """What the noisy histogram over `value_edges(least, most)` shows of values, and the clipping bounds to choose from.

    Bins stand out whose noisy count is above what noise alone reaches in any bin with probability `CHANCE` (the rule of
    Google's approximate bounds). Where none does, it is None. Values are taken to lie in the middle of their bin, those
    beyond the grid at its end; what lies outside the outermost bins that stand out isn't seen.

    Raises:
        ValueError: another number of counts than bins; a stated bound beyond the grid.
    """
    grid = np.array(magnitudes(least, most))
    noisy = np.asarray(counts, dtype=np.float64)
    if len(noisy) != len(value_edges(least, most)) - 1:
        raise ValueError(f"a histogram from {least} to {most} has {len(value_edges(least, most)) - 1} bins")
    counted = np.flatnonzero(noisy > beyond_chance(noise, len(noisy)))
    if not len(counted):
        return None
    # Bins lie between neighbours on the grid, but for that of 0, both ends of which are 0.
    middle = len(grid) // 2
    lower = np.concatenate([grid[:middle], [0.0], grid[middle:-1]])
    upper = np.concatenate([grid[1 : middle + 1], [0.0], grid[middle + 1 :]])
    first, last = int(counted[0]), int(counted[-1])
    farthest = settled(grid, float(lower[first]), float(upper[last]), low, high)
    inner = grid[(grid >= lower[first]) & (grid <= upper[last])].tolist()
    lows, highs = ([low] if low is not None else inner), ([high] if high is not None else inner)
    closer = [(a, b) for a in lows for b in highs if b - a >= _LEAST_WIDTH and (a, b) != farthest]
    units = np.maximum(noisy[first : last + 1], 0.0)
    return Clips(
        values=((lower + upper) / 2)[first : last + 1],
        parts=units / units.sum(),
        pairs=(farthest, *closer),
    )


def settled(grid: F64, first: float, last: float, low: float | None, high: float | None) -> tuple[float, float]:
    """Clipping bounds around [first, last] as they are used: on the grid, in order, and apart; a stated one stays, and
    if it leaves no room for the other, that one is the next value on the grid beyond it.

    Raises:
        ValueError: a stated bound leaves no room on the grid, or they aren't in order.
    """
    below = math.inf if high is None else min(math.nextafter(high, -math.inf), high - _LEAST_WIDTH)
    bottom = low if low is not None else _at_most(grid, min(max(first, grid[0]), below))
    wanted = max(min(last, grid[-1]), math.nextafter(bottom, math.inf), bottom + _LEAST_WIDTH)
    top = high if high is not None else _at_least(grid, wanted)
    if not bottom < top:
        raise ValueError(f"bounds must be in order, got low {bottom!r}, high {top!r}")
    return float(bottom), float(top)


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


def contributions(counts: Sequence[float], noise: Additive, *, most: int, by_row: bool = False) -> Contributions | None:
    """How many units are in each bin of a noisy histogram over `count_edges(most)`, as far as noise lets it be seen.

    Bins count up to the last at which the units there and beyond stand out: more of them than noise alone would make of
    any such sum with probability `CHANCE`. Up to there, the sums of each bin and all beyond it are made to fall, as
    those of true counts do (the mean of the least falling sequence above them and the greatest below), so that empty
    bins add next to nothing. It is None if no bin but the sum of all of them stands out, which says nothing of where
    they are; or if noise could hide, with probability `HIDDEN`, as many units beyond that bin as are seen in all.

    Raises:
        ValueError: another number of counts than bins.
    """
    noisy, grid = np.asarray(counts, dtype=np.float64), count_grid(most)
    if len(noisy) != len(grid):
        raise ValueError(f"a histogram up to {most} has {len(grid)} bins, got {len(noisy)}")
    bins = len(noisy)
    beyond = np.cumsum(noisy[::-1])[::-1]
    # A sum of m draws is no wider, in its far tail, than √m times one of them.
    width = np.sqrt(np.arange(bins, 0, -1))
    least = beyond_chance(noise, bins)
    seen = (noisy > least) | ((beyond > least * width) & ((np.arange(bins) > 0) | (bins == 1)))
    if not seen.any():
        return None
    last = int(np.flatnonzero(seen)[-1])
    shown = noisy[: last + 1].copy()
    if not noisy[last] > least:
        shown[last] = beyond[last]
    sums = np.cumsum(shown[::-1])[::-1]
    above, below = np.maximum.accumulate(sums[::-1])[::-1], np.minimum.accumulate(sums)
    falling = np.maximum((above + below) / 2, 0.0)
    if last + 1 < bins and beyond[last + 1] + beyond_chance(noise, 1, HIDDEN) * width[last + 1] >= falling[0]:
        return None
    units = np.zeros(bins)
    units[: last + 1] = falling - np.append(falling[1:], 0.0)
    return Contributions(most=most, units=units, by_row=by_row) if units.any() else None


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """Units by what they contribute, as a histogram over `count_edges(most)` shows them: `units[i]` in bin i.

    With `by_row`, a unit is in the bin of the rows that are in one partition with one of its rows, chosen uniformly.
    How many rows it has in all isn't seen then. They grow with that number between not at all, where all units have
    pairs alike, and in proportion, where each has pairs of one size: here, by its root.
    """

    most: int
    units: F64
    by_row: bool = False

    @property
    def total(self) -> float:
        """What all units contribute together."""
        return float((self.units * self._weights).sum())

    @property
    def mean(self) -> float:
        """What one unit contributes on average; `by_row`, the rows of one (unit, partition) pair."""
        return self.total / float((self.units * self._weights / self._middles).sum())

    @property
    def largest(self) -> int:
        """The greatest contribution that is seen, as the end of its bin."""
        return count_grid(self.most)[int(np.flatnonzero(self.units > 0)[-1])]

    @property
    def bounds(self) -> tuple[int, ...]:
        """The bounds to choose from: those above the greatest contribution keep no more than it does."""
        return tuple(bound for bound in count_grid(self.most) if bound <= self.largest)

    def kept(self, bound: int) -> float:
        """The share of all contributions that is kept if each unit, or pair, keeps at most `bound`."""
        weighted = self.units * self._weights
        return float((weighted * np.minimum(1.0, bound / self._middles)).sum() / weighted.sum())

    @property
    def _weights(self) -> F64:
        return np.sqrt(self._middles) if self.by_row else self._middles

    @property
    def _middles(self) -> F64:
        """What a unit in each bin is taken to contribute; in the last, which holds those cut to `most`, all of it."""
        middle = np.array([(low + 1 + high) / 2 for low, high in pairwise([0.0, *map(float, count_grid(self.most))])])
        middle[-1] = self.most
        return middle


def beyond_chance(noise: Additive, bins: int, chance: float | None = None) -> float:
    """The least t such that `bins` draws of the noise are all at most t with probability 1 − `chance` or more, which
    is `CHANCE` if nothing is said."""
    each = (CHANCE if chance is None else chance) / bins
    match noise:
        case Gaussian(sigma=sigma):
            return sigma * -NormalDist().inv_cdf(each)
        case Laplace(scale=scale):
            return scale * -math.log(2 * each)
    raise ValueError(f"unknown noise {noise!r}")
