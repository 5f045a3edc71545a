"""What bounds leave of a summary: mean and variance of each partition's figures, over the choice of what is kept.

Nothing is sampled: both are exact. A unit that is in n partitions keeps each with probability min(1, l0/n), and
min(r, linf) of its r rows there; with l1, a uniform choice of min(R, l1) of all its R rows. Units are independent, so
variances of a partition add up over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from dpbeam.array_types import F64, I64
from dpbeam.pipelines.tuning.summaries import Summary, Sums
from dpbeam.queries.bounds import Bounds


@dataclass(frozen=True, kw_only=True)
class Law:
    """Mean and variance of a figure, an entry a partition."""

    mean: F64
    variance: F64


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """A summary under bounds. `chance` is, by pair, the probability that any of its rows is kept; `drawn` how many rows
    are kept then (with l1: of all the unit's rows, `of`)."""

    summary: Summary
    bounds: Bounds
    chance: F64
    drawn: F64
    of: F64

    def units(self) -> Law:
        """Units that count."""
        return self._law(self.chance, self.chance * (1 - self.chance))

    def rows(self) -> Law:
        """Rows that count."""
        return self.sums(Sums(total=self.summary.rows, squares=self.summary.rows))

    def sums(self, sums: Sums) -> Law:
        """The sum of a value over rows that count."""
        share, rest = self.drawn / self.of, 1 - self.drawn / self.of
        if self.bounds.l1 is None:
            kept = share * sums.total
            spread = self.drawn * rest * (sums.squares - sums.total**2 / self.of) / np.maximum(self.of - 1, 1)
            square = self.chance * (kept**2 + np.maximum(spread, 0.0))
            return self._law(self.chance * kept, square - (self.chance * kept) ** 2)
        spread = self.drawn * rest * (sums.squares - sums.total**2 / self.of) / np.maximum(self.of - 1, 1)
        return self._law(share * sums.total, spread)

    def totals(self, values: F64, low: float, high: float) -> Law:
        """The sum of units' totals, each clipped. What `linf` would cut of a total is taken as a share of it."""
        clipped = np.clip(values * self.drawn / self.of, low, high)
        return self._law(self.chance * clipped, self.chance * (1 - self.chance) * clipped**2)

    def weights(self, l0: int) -> F64:
        """Each partition's weight in a selection by weights, where each unit shares its own out evenly."""
        own = 1 / np.sqrt(np.minimum(_counts(self.summary), l0))
        return self._law(self.chance * own, self.chance).mean

    def _law(self, mean: F64, variance: F64) -> Law:
        places, size, scale = self.summary.partition, self.summary.partitions, self.summary.one_in
        return Law(
            mean=scale * added(places, mean, size),
            variance=scale * added(places, np.maximum(variance, 0.0), size),
        )


def bounded(summary: Summary, bounds: Bounds) -> Bounded:
    """The summary under these bounds."""
    rows = summary.rows
    if bounds.l1 is not None:
        every = added(summary.unit, rows, summary.units)[summary.unit]
        drawn = np.minimum(every, bounds.l1)
        return Bounded(summary=summary, bounds=bounds, chance=_any(rows, every, drawn), drawn=drawn, of=every)
    chance = np.minimum(1.0, (bounds.l0 or 1) / _counts(summary))
    drawn = rows if bounds.linf is None else np.minimum(rows, bounds.linf)
    return Bounded(summary=summary, bounds=bounds, chance=chance, drawn=drawn, of=rows)


def added(places: I64, values: F64, size: int) -> F64:
    """The values added up by place."""
    return np.bincount(places, values, size).astype(np.float64)


def _counts(summary: Summary) -> F64:
    """By pair, how many partitions its unit is in."""
    counts: F64 = np.bincount(summary.unit).astype(np.float64)[summary.unit]
    return counts


def _any(rows: F64, every: F64, drawn: F64) -> F64:
    """The probability that of `drawn` rows out of `every` one at least is among these `rows`: 1 − C(R−r, k)/C(R, k)."""
    rest = every - rows
    can_miss = rest >= drawn
    safe = np.where(can_miss, rest, drawn)
    log_none = gammaln(safe + 1) - gammaln(safe - drawn + 1) - gammaln(every + 1) + gammaln(every - drawn + 1)
    chance: F64 = np.where(can_miss, -np.expm1(np.minimum(log_none, 0.0)), 1.0)
    return chance
