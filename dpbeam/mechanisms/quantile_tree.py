"""Quantile trees of partitions in, their noisy quantiles with 95 % intervals out.

The tree and the search are those of Google's library (https://github.com/google/differential-privacy, "Differentially
Private Quantile Trees"): rows are counted in every node on their way to one of 16**4 leaves, every count gets noise,
and a search descends by the noisy counts. A node's noise is drawn when a search first comes by, and once: as the
draws are independent, that is the same as drawing all of them. All after the noise is post-processing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.mechanisms.columns import LEAVES, tree_leaves
from dpbeam.mechanisms.grouping import runs
from dpbeam.mechanisms.quantities import TREE_BRANCHING, TREE_HEIGHT

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

LEAST_RANK, MOST_RANK = 0.005, 0.995
"""Ranks beyond these are answered as these: noise alone decides what lies further out."""

_NEGLIGIBLE = 0.005
_TOLERANCE = 1e-6
_NORMAL_95 = 1.959963984540054
_MARGIN = 1.86
"""In standard deviations. An end lies at the outermost point that isn't rejected, so rejecting each point at 5 % (1.96)
would cover more than 95 %: this covers 95 % where rows are dense against the noise, and more where they are sparse."""

AddNoise = Callable[[I64], F64]


def noisy_quantiles(
    trees: pa.Array, ranks: Sequence[float], low: float, high: float, add_noise: AddNoise, std: float
) -> F64:
    """Array (partitions, ranks, 3): the noisy quantile and the ends of its 95 % interval.

    `trees` is an accumulator column of `dpbeam.mechanisms.columns` over [low, high]; `add_noise` draws each count's
    noise, of standard deviation `std`.

    Guarantee: each node's count gets one draw, and the result depends on the data through noisy counts alone: its
    cost is that of releasing the whole tree.
    """
    partitions, wanted = len(trees), np.clip(np.array(ranks), LEAST_RANK, MOST_RANK)
    partition = np.tile(np.repeat(np.arange(partitions), len(wanted)), 3)
    rank = np.tile(np.tile(wanted, partitions), 3)
    searches = _Searches(partition, rank, std)
    leaf_partition, leaf, rows = tree_leaves(trees)
    for level in range(1, TREE_HEIGHT + 1):
        node = leaf_partition * TREE_BRANCHING**level + leaf // TREE_BRANCHING ** (TREE_HEIGHT - level)
        starts = runs(node)
        counts = np.add.reduceat(rows, starts) if len(starts) else np.zeros(0, dtype=np.int64)
        parents, which = np.unique(partition * TREE_BRANCHING ** (level - 1) + searches.node, return_inverse=True)
        children = (parents[:, np.newaxis] * TREE_BRANCHING + np.arange(TREE_BRANCHING)).reshape(-1)
        noisy = np.rint(add_noise(_lookup(node[starts], counts, children)))
        searches.descend(noisy.reshape(-1, TREE_BRANCHING)[which])
    return searches.ends(low, high).reshape(3, partitions, len(wanted)).transpose(1, 2, 0)


class _Searches:
    """Three searches a (partition, rank), in thirds of each array: for the quantile, the lower and the upper end.

    `node` is the node a search has come to, numbered from 0 in its level.
    """

    def __init__(self, partition: I64, rank: F64, std: float) -> None:
        self.node = np.zeros(len(partition), dtype=np.int64)
        self._third = len(partition) // 3
        self._level = 0
        self._stopped_at = np.full(self._third, TREE_HEIGHT)
        self._asked = rank
        self._rank = rank[: self._third].copy()  # of the quantile, relative to its node
        # For both ends: the noisy count of rows left of the node, less rank · all rows; and its variance, in that of
        # one count's noise.
        self._left = np.zeros(2 * self._third)
        self._variance = np.zeros(2 * self._third)
        self._clear = np.zeros(2 * self._third, dtype=np.bool_)
        self._std = std

    def descend(self, children: F64) -> None:
        """One level down, by the noisy counts of each search's 16 children."""
        point = self._point(children[: self._third])
        ends = self._end(children[self._third :])
        self._level += 1
        self.node = self.node * TREE_BRANCHING + np.concatenate([point, ends])

    def ends(self, low: float, high: float) -> F64:
        """The values the searches have come to: quantiles, lower ends, upper ends."""
        leaf = self.node
        width = TREE_BRANCHING ** (TREE_HEIGHT - self._stopped_at)
        # A stopped search went on to the first child each time: its node at the level it stopped has this first leaf.
        first = leaf[: self._third] // width * width
        fraction = (1 - self._rank) * (first / LEAVES) + self._rank * ((first + width) / LEAVES)
        lower, upper = leaf[self._third : 2 * self._third], leaf[2 * self._third :] + 1
        fractions = np.concatenate(
            [
                fraction,
                np.minimum(lower / (LEAVES - 1), fraction),
                np.maximum(np.minimum(upper / (LEAVES - 1), 1.0), fraction),
            ]
        )
        values: F64 = fractions * high + (1 - fractions) * low
        return values

    def _point(self, children: F64) -> I64:
        """The child that holds the rank, children of a negligible share left out."""
        total = children.sum(axis=1)
        counted = np.where(children >= total[:, np.newaxis] * _NEGLIGIBLE, children, 0.0)
        corrected = counted.sum(axis=1)
        going = (self._stopped_at == TREE_HEIGHT) & (total > 0) & (corrected > 0)
        share = np.cumsum(counted, axis=1) / np.where(going, corrected, 1.0)[:, np.newaxis]
        child = np.argmax(share >= (self._rank - _TOLERANCE)[:, np.newaxis], axis=1)
        at = np.arange(len(child))
        own = children[at, child] / np.where(going, corrected, 1.0)
        inside = (self._rank - (share[at, child] - own)) / np.where(own != 0, own, 1.0)
        self._rank = np.where(going, np.clip(inside, 0.0, 1.0), self._rank)
        self._stopped_at = np.where((self._stopped_at == TREE_HEIGHT) & ~going, self._level, self._stopped_at)
        chosen: I64 = np.where(going, child, 0)
        return chosen

    def _end(self, children: F64) -> I64:
        """The outermost child that may hold the quantile: its rank isn't rejected there.

        At a boundary between children, rows left of it less rank · all rows would be 0 but for the noise if the
        quantile were there; its noise is a sum of known weights.
        """
        rank = self._asked[self._third :]
        left_of = np.cumsum(children, axis=1)
        places = np.arange(1, TREE_BRANCHING + 1)
        if self._level == 0:
            self._left = -rank * left_of[:, -1]
            right_of = places * (1 - rank[:, np.newaxis]) ** 2 + (TREE_BRANCHING - places) * rank[:, np.newaxis] ** 2
            self._variance = TREE_BRANCHING * rank**2
            self._clear = left_of[:, -1] > _NORMAL_95 * self._std * TREE_BRANCHING**0.5
        else:
            right_of = self._variance[:, np.newaxis] + places
        boundary = np.concatenate([self._left[:, np.newaxis], self._left[:, np.newaxis] + left_of], axis=1)
        # Rows are never negative, so the true figures rise from boundary to boundary: so does this middle of the
        # steps up from the left and down from the right.
        rising = np.maximum.accumulate(boundary, axis=1)
        rising += np.minimum.accumulate(boundary[:, ::-1], axis=1)[:, ::-1]
        rising /= 2
        variance = np.concatenate([self._variance[:, np.newaxis], right_of], axis=1)
        margin = _MARGIN * self._std * np.sqrt(variance)
        half = self._third
        # Lower end: the first child whose right edge may be right of the quantile. Upper: the last whose left edge may
        # be left of it.
        may_end = rising[:half, 1:] >= -margin[:half, 1:]
        first = np.where(may_end.any(axis=1), np.argmax(may_end, axis=1), TREE_BRANCHING - 1)
        may_start = rising[half:, :-1] <= margin[half:, :-1]
        last = TREE_BRANCHING - 1 - np.argmax(may_start[:, ::-1], axis=1)
        last = np.where(may_start.any(axis=1), last, 0)
        # A partition that may be empty may have its quantile anywhere.
        chosen = np.where(self._clear, np.concatenate([first, last]), np.repeat([0, TREE_BRANCHING - 1], half))
        at = np.arange(len(chosen))
        self._left, self._variance = boundary[at, chosen], variance[at, chosen]
        return chosen


def _lookup(keys: I64, counts: I64, wanted: I64) -> I64:
    """`counts[i]` where `keys[i]` is wanted, 0 where no key is; `keys` is sorted."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: I64 = np.where(keys[at] == wanted, counts[at], 0)
    return found
