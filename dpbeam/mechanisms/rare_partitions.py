"""Which of very many partitions a selection of PyDP's keeps, decided without asking it for each.

PyDP decides one partition at a time. Where millions of partitions have the same few units, each is kept with the same
tiny probability and nearly every decision says no: there the number of noes before the next yes is drawn instead, from
PyDP too.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dpbeam.mechanisms import randomness

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MANY = 64
"""From so many partitions of one unit count on, skipping is cheaper than deciding on each."""
MOST = 2.0**-6
"""The largest probability of keeping by which partitions are skipped: above, a gap costs more than what it skips."""
LEAST = 2.0**-50
"""The smallest: down to there PyDP's geometric sampler is far from what its int64 can hold."""
_TOP = (1 << 16) - 1


class Strategy(Protocol):
    """PyDP's truncated geometric selection, with or without a pre-threshold."""

    def should_keep(self, users: int) -> bool: ...

    def probability_of_keep(self, users: int) -> float: ...


def decide(strategy: Strategy, users: I64) -> Mask:
    """One decision a partition, as `strategy.should_keep` of its unit count (at least 1).

    Guarantee: each partition is kept with `strategy.probability_of_keep` of its own unit count, independently of all
    others. Where `should_keep` is asked, that is PyDP's word; it compares one uniform draw with this probability. Where
    it isn't, see `successes`: the partitions of one unit count are trials of one probability, in the order in which
    they came, which doesn't depend on any draw. No draw serves two unit counts or two calls. What would break it:
    a probability that isn't that of `should_keep`, or gaps of another law.
    tests/statistical/test_rare_partitions.py compares both with PyDP.
    """
    kept = np.zeros(len(users), dtype=np.bool_)
    each = np.ones(len(users), dtype=np.bool_)
    counts = np.minimum(users, _TOP).astype(np.uint16)
    sizes = np.bincount(counts, minlength=_TOP + 1)
    order, ends = np.argsort(counts, kind="stable"), np.cumsum(sizes)
    for count in np.flatnonzero(sizes[:_TOP] >= MANY).tolist():
        chance = strategy.probability_of_keep(count)
        if LEAST <= chance <= MOST:
            same = order[ends[count] - sizes[count] : ends[count]]
            each[same] = False
            kept[same[successes(chance, len(same))]] = True
    rest = np.flatnonzero(each)
    kept[rest] = np.fromiter(map(strategy.should_keep, users[rest].tolist()), dtype=np.bool_, count=len(rest))
    return kept


def successes(chance: float, trials: int) -> I64:
    """Which of `trials` independent trials succeed, each with probability `chance` (from LEAST to MOST), in order.

    Guarantee: the failures before the next success of independent trials are geometric and independent of what came
    before, so numbering trials by geometric gaps is the same law as trying each. The gaps are PyDP's
    `GeometricDistribution`, a new draw each, by the secure generator that `should_keep` draws from too. It finds a gap
    by at most 63 halvings, each wrong by the rounding of a float64 alone, so that `chance` is met to a relative 2**-45.
    What was drawn beyond the last trial is thrown away.

    Raises:
        ValueError: a chance outside of what the sampler is used for.
    """
    if not LEAST <= chance <= MOST:
        raise ValueError(f"partitions are skipped by a probability from {LEAST:g} to {MOST:g}, got {chance:g}")
    from pydp.distributions import GeometricDistribution

    randomness.discard_inherited()
    sampler = GeometricDistribution(rate(chance))
    last, successful = -1, [np.empty(0, dtype=np.int64)]
    while last < trials:
        expected = (trials - last) * chance
        draws = int(expected + 6 * math.sqrt(expected)) + 2
        gaps = np.fromiter((sampler.sample() for _ in range(draws)), dtype=np.int64, count=draws)
        places = last + np.cumsum(np.minimum(gaps, trials) + 1)
        last = int(places[-1])
        successful.append(places)
    places = np.concatenate(successful)
    inside: I64 = places[places < trials]
    return inside


def rate(chance: float) -> float:
    """λ such that 1 − e^−λ, the probability of success of PyDP's `GeometricDistribution`, is `chance`."""
    return -math.log1p(-chance)
