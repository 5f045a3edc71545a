"""The exact weight of each partition, to which DP-SIPS and MAD add noise.

A unit spreads a weight vector of l2 norm at most 1 over its partitions. With `saturation` (MAD), what a partition has
beyond it goes back to the units, who send a part of it on to their other partitions. Everything is int64 fixed point:
the same however the data is sharded, and proved in docs/accounting.md to move by l2 ≤ 1 for one unit more or less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dpbeam.array_types import F64, I64
from dpbeam.engine.arrays.grouping import ordering, runs
from dpbeam.mechanisms.fixedpoint import checked_sum

SHARE_BITS = 20
NORM = (1 << SHARE_BITS) - (1 << 5)
"""A unit's l2 norm, in steps of 2**-20: less than 1 by 2**-15, which covers all rounding of weight that is sent on."""
BIAS_ONE = 1024
"""The bias of a partition that isn't biased; biases are whole numbers up to it."""
WEIGHT_BITS = 40
"""Weights get their noise in steps of 2**-40."""
MOST_L0 = 256
"""The largest `l0` that the rounding of returned weight is covered for."""

LOOSE = 0
"""Stands for the share of units that aren't told apart; no unit's share is that small."""

MOST_L0_OF_SHARES = 1 << 16
"""The largest `l0` where no weight is returned: each number of partitions up to it has a threshold to be looked at."""

_RETURN_BITS = 56
_LIMB = 28
_SHARE_MASK = (1 << SHARE_BITS) - 1
_CAP = 1 << 60
"""A weight above 2**20 counts as that: no threshold is near it, and capping moves no weight further."""


@dataclass(frozen=True, kw_only=True)
class WeightTable:
    """Shares by partition, in steps of 2**-20: `units[k]` units give partition `partitions[k]` shares that add up to
    `sums[k]`. Each of them gives `shares[k]`; or that is `LOOSE`, and which of them gives what isn't told any more."""

    partitions: I64
    shares: I64
    units: I64
    sums: I64


def shares(units: I64, biases: I64 | None = None) -> I64:
    """The share of each (unit, partition) pair in steps of 2**-20; `units` are sorted codes, `biases` from 1 to 1024.

    A pair's share is its bias over the l2 norm of the biases of its unit's pairs: 1/√d for each of d unbiased pairs.

    Guarantee: the squares of one unit's shares add up to at most `NORM`² < 2**40, exactly, since each is rounded down.
    """
    biases = np.full(len(units), BIAS_ONE, dtype=np.int64) if biases is None else biases
    starts = runs(units)
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    squares = biases * biases
    norms = np.repeat(np.add.reduceat(squares, starts), np.diff(starts, append=len(units)))
    wanted = squares * (NORM * NORM) // norms  # at most 2**60
    roots = np.sqrt(wanted.astype(np.float64)).astype(np.int64)
    return np.asarray(roots - (roots * roots > wanted))


def count_units(partitions: I64, pair_shares: I64) -> WeightTable:
    """Counts the units of each (partition, share)."""
    packed = np.sort((partitions << SHARE_BITS) | pair_shares)
    starts = runs(packed)
    packed, units = packed[starts], np.diff(starts, append=len(packed))
    shares = packed & _SHARE_MASK
    return WeightTable(partitions=packed >> SHARE_BITS, shares=shares, units=units, sums=shares * units)


def totals(table: WeightTable, size: int) -> tuple[I64, I64]:
    """(units, sum of shares) of each of `size` partitions."""
    order = ordering(table.partitions.view(np.uint64), size.bit_length())
    starts = runs(table.partitions[order])
    if len(starts) != size:
        raise ValueError("every partition must have a row in the table of weights")
    return checked_sum(table.units[order], starts), checked_sum(table.sums[order], starts)


def folded(table: WeightTable, size: int, drop: int) -> WeightTable:
    """Folds a table into fewer rows. `totals`, and `trimmed` with this `drop`, give the same for it.

    Each partition keeps its `drop` largest shares, in at most that many rows. One more row stands for all other units
    of the partition: it has their number and the sum of their shares, and its own share is `LOOSE`. Rows are sorted by
    partition, loose units last.

    Guarantee: a table may be folded in pieces, and folded again, in any order: the rows are those of folding it at
    once. For a share becomes loose only if `drop` units of its partition, each with a row of its own, give as much or
    more. More rows can only add such units. So a loose share is never among the `drop` largest.
    """
    if not drop:
        units, sums = totals(table, size)
        return WeightTable(partitions=np.arange(size), shares=np.full(size, LOOSE), units=units, sums=sums)
    packed = (table.partitions << SHARE_BITS) | (_SHARE_MASK - table.shares)
    order = ordering(packed.view(np.uint64), size.bit_length() + SHARE_BITS)
    packed = packed[order]
    equal = runs(packed)
    partitions, shares = packed[equal] >> SHARE_BITS, _SHARE_MASK - (packed[equal] & _SHARE_MASK)
    units, sums = checked_sum(table.units[order], equal), checked_sum(table.sums[order], equal)
    starts = runs(partitions)
    if len(starts) != size:
        raise ValueError("every partition must have a row in the table of weights")
    apart = np.where(shares == LOOSE, 0, _among_the_first(units, starts, drop))
    loose_units = np.add.reduceat(units - apart, starts)
    loose_sums = np.add.reduceat(sums - apart * shares, starts)
    kept = np.flatnonzero(apart)
    loose = np.flatnonzero((loose_units > 0) | (np.add.reduceat(apart, starts) == 0))
    whole = np.concatenate([partitions[kept], loose])
    place = ordering(whole.view(np.uint64), size.bit_length())
    return WeightTable(
        partitions=whole[place],
        shares=np.concatenate([shares[kept], np.full(len(loose), LOOSE)])[place],
        units=np.concatenate([apart[kept], loose_units[loose]])[place],
        sums=np.concatenate([(apart * shares)[kept], loose_sums[loose]])[place],
    )


def trimmed(table: WeightTable, size: int, drop: int) -> I64:
    """The sum of shares of each partition but for its `drop` largest (0 where there are no more).

    Guarantee: one unit more with share s raises it by 0 to s. Where that unit makes `drop` + 1 of them, what is left
    is the smallest of their shares, so at most s. Assumes that loose units come from `folded` with the same `drop`.
    """
    _, sums = totals(table, size)
    if not drop:
        return sums
    order = np.lexsort((-table.shares, table.partitions))
    starts = runs(table.partitions[order])
    largest = _among_the_first(table.units[order], starts, drop) * table.shares[order]
    return np.asarray(sums - checked_sum(largest, starts))


def _among_the_first(units: I64, starts: I64, most: int) -> I64:
    """How many units of each row are among the first `most` of its run."""
    before = np.cumsum(units) - units
    before -= np.repeat(before[starts], np.diff(starts, append=len(units)))
    among: I64 = np.clip(most - before, 0, units)
    return among


def returned(sums: I64, saturation: float, pre_threshold: int) -> F64:
    """The part of each partition's shares that goes back to its units: what is over the saturation, relative to all.

    Guarantee: it never falls when a unit joins, and the weight that goes back grows by no more than the part of the
    newcomer's share by which `kept` doesn't grow. The saturation is counted from `pre_threshold` − 1 upwards, which is
    at least what `trimmed` takes off.
    """
    limit = saturation_steps(saturation) + ((pre_threshold - 1) << SHARE_BITS)
    over = np.maximum(sums - limit, 0).astype(np.float64)
    return over / np.maximum(sums, 1).astype(np.float64)


def sent_on(
    units: I64, partitions: I64, pair_shares: I64, fractions: F64, denominator: int, size: int
) -> tuple[I64, I64]:
    """What units send on to each partition, as two limbs: high · 2**28 + low, in steps of 2**-56.

    A unit gets back `fractions[partition]` of each of its shares, and sends 1/`denominator` of all that to each of its
    partitions. `units` are sorted codes.

    Guarantee: what one unit sends is a function of its pairs and of `fractions`; it never falls when they grow.
    """
    scale = float(1 << (_RETURN_BITS - SHARE_BITS))
    back = np.floor(pair_shares.astype(np.float64) * scale * fractions[partitions]).astype(np.int64)
    starts = runs(units)
    if not len(starts):
        return np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    sending = np.add.reduceat(back, starts) // denominator
    each = np.repeat(sending, np.diff(starts, append=len(units)))
    order = np.argsort(partitions, kind="stable")
    touched = partitions[order]
    begin = runs(touched)
    high, low = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    high[touched[begin]] = np.add.reduceat((each >> _LIMB)[order], begin)
    low[touched[begin]] = np.add.reduceat((each & ((1 << _LIMB) - 1))[order], begin)
    return high, low


def final(kept: I64, saturation: float, sent: tuple[I64, I64] | None, others: int) -> I64:
    """Weights in steps of 2**-40, from each partition's trimmed sum of shares and what was sent on to it.

    `others` is taken off the latter: the most that all other units send to a partition which one unit makes eligible.
    So such a partition weighs no more than what that unit gives it.
    """
    shift = WEIGHT_BITS - SHARE_BITS
    if sent is None:
        capped: I64 = np.minimum(kept, _CAP >> shift) << shift
        return capped
    high, low = sent
    high = high + (low >> _LIMB)
    low = low & ((1 << _LIMB) - 1)
    # high is in steps of 2**-28, so capped at 2**20 it fits 2**48 and, shifted, 2**60
    down = _RETURN_BITS - WEIGHT_BITS
    rerouted = (np.minimum(high, 1 << 48) << (_LIMB - down)) + (low >> down)
    rerouted = np.maximum(rerouted - others, 0)
    saturated = np.minimum(kept, saturation_steps(saturation)) << shift
    return np.asarray(saturated + np.minimum(rerouted, _CAP))


def sent_by_others(pre_threshold: int, l0: int, denominator: int) -> int:
    """The most, in steps of 2**-40, that `pre_threshold` − 1 units send on to one partition.

    The shares of a unit add up to √l0 at most, and it gets back no more than them.
    """
    most = math.isqrt(l0 << (2 * WEIGHT_BITS)) + 1
    # What is sent on is capped at `_CAP`, so taking off more than twice that takes off all of it, too.
    return min(-(-(pre_threshold - 1) * most // denominator), 2 * _CAP)


def saturation_steps(saturation: float) -> int:
    """The saturation in steps of 2**-20.

    Raises:
        ValueError: it is below 1, so that a lone unit's partition might be over it.
    """
    if not 1 <= saturation < 2**19:
        raise ValueError(f"a saturation must be at least 1 and below 2**19, got {saturation}")
    return math.ceil(saturation * (1 << SHARE_BITS))


def denominator_of(l0: int, least_bias: float) -> int:
    """A unit sends 1/this of what it gets back to each of its partitions: 1/(2·l0), with biases `least_bias` of it."""
    return math.ceil(2 * l0 / least_bias)
