"""What units make of one round's noisy weights in the next round of MAD2R.

A partition that the noisy weights give a prospect is listed with a bias: 1, or less where a part of a unit's even share
will do. Of one that isn't listed the noisy weight says no more than noise would. In most data most partitions are such
and can't be kept whatever anybody does, so a unit with a listed partition gives its weight to listed ones alone.

What is done here is a function of public numbers and of noisy weights that were paid for; and a unit's choice depends
on its own partitions only, which docs/accounting.md's proof needs: a choice made for all units at once, from all noisy
weights, would let the partitions that one unit alone is in sway what the others do.
"""

from __future__ import annotations

import numpy as np

from dpbeam.array_types import F64, I64, Mask
from dpbeam.engine.arrays.grouping import runs
from dpbeam.engine.rounds import weights
from dpbeam.mechanisms.events import WeightedThresholding

UNLISTED = 0
"""The bias of a partition without a prospect."""
LISTED_SIGMAS = 1.0
"""A partition is listed where its noisy weight is this many σ: of those that weigh next to nothing, 16 % are."""


def biases(noisy: F64, sigma: float, following: WeightedThresholding) -> I64:
    """Each partition's bias in the round `following`, from its weight with noise of `sigma`.

    A partition that weighs more than enough to be kept gets only that part of an even share which is enough, but never
    less than the round's `least_bias`. Enough is one σ above the next threshold, and weights count for one σ less.
    """
    enough = following.threshold + following.sigma
    surely = np.maximum(noisy - sigma, enough)
    wanted = np.floor(weights.BIAS_ONE * (enough / surely)).astype(np.int64)
    return np.where(noisy >= LISTED_SIGMAS * sigma, np.maximum(wanted, least_of(following)), UNLISTED)


def least_of(event: WeightedThresholding) -> int:
    """The least bias of a round, as `weights` has biases: rounded up, so never below what the plan allowed for."""
    return int(np.ceil(weights.BIAS_ONE * event.least_bias))


def worth_sending(units: I64, pair_biases: I64) -> Mask:
    """Which pairs get weight: all, but the unlisted ones of a unit with a listed one. `units` are sorted codes.

    Guarantee: whether a pair stays depends on the biases of its unit's pairs alone.
    """
    listed: Mask = pair_biases != UNLISTED
    starts = runs(units)
    if not len(starts):
        return listed
    some = np.repeat(np.logical_or.reduceat(listed, starts), np.diff(starts, append=len(units)))
    return np.asarray(listed | ~some)
