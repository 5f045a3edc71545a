"""Quantiles of partitions by noisy trees of counts, with 95 % intervals.

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

from dpbeam.engine.aggregation.tree import LEAVES, tree_leaves
from dpbeam.engine.arrays.grouping import runs
from dpbeam.mechanisms.noise_width import NORMAL_95
from dpbeam.queries.metrics.quantiles import LEAST_RANK, MOST_RANK
from dpbeam.queries.quantities import TREE_BRANCHING, TREE_HEIGHT

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_NEGLIGIBLE = 0.005
_TOLERANCE = 1e-6
_MARGIN = ((0.005, 0.05), (1.79, 1.86))
"""In standard deviations, at two distances of a rank from 0 or 1; between them by interpolation. An end lies at the
outermost point that isn't rejected, so rejecting each point at 5 % (1.96) would cover more than 95 %, most of all where
few rows are left or right of the quantile: this covers 95 % where rows are dense against the noise, and more where they
are sparse. That is over where a quantile may lie among the tree's boundaries."""
_ROUNDING = 12**-0.5
"""Standard deviation of what noisy counts change when they are rounded."""

AddNoise = Callable[[I64], F64]
Children = Callable[[int, I64], F64]
"""The noisy counts (nodes, 16) of the children of nodes of a level. A level's nodes are numbered from 0, 16**level to a
partition; they come rising, each once, and a level is asked for once."""


def noisy_quantiles(
    trees: pa.Array, ranks: Sequence[float], low: float, high: float, add_noise: AddNoise, std: float
) -> F64:
    """Array (partitions, ranks, 3): the noisy quantile and the ends of its 95 % interval, all within [low, high].

    `trees` is an accumulator column of `dpbeam.engine.aggregation.tree` over [low, high]; `add_noise` draws each
    count's noise, of standard deviation `std`.

    Guarantee: each node's count gets one draw, and the result depends on the data through noisy counts alone: its
    cost is that of releasing the whole tree.
    """
    return search(_noised(trees, add_noise), len(trees), ranks, low, high, float(np.hypot(std, _ROUNDING)))


def search(children: Children, partitions: int, ranks: Sequence[float], low: float, high: float, std: float) -> F64:
    """As `noisy_quantiles`, from trees whose counts have their noise already: post-processing, all of it."""
    wanted = np.clip(np.array(ranks), LEAST_RANK, MOST_RANK)
    partition = np.tile(np.repeat(np.arange(partitions), len(wanted)), 3)
    searches = _Searches(np.tile(np.tile(wanted, partitions), 3), std)
    for level in range(TREE_HEIGHT):
        nodes, which = np.unique(partition * TREE_BRANCHING**level + searches.node, return_inverse=True)
        searches.descend(children(level, nodes)[which])
    return searches.ends(low, high).reshape(3, partitions, len(wanted)).transpose(1, 2, 0)


def _noised(trees: pa.Array, add_noise: AddNoise) -> Children:
    """The counts of trees, each drawn noise for when it is asked for."""
    partition, leaf, rows = tree_leaves(trees)

    def children(level: int, nodes: I64) -> F64:
        node = partition * TREE_BRANCHING ** (level + 1) + leaf // TREE_BRANCHING ** (TREE_HEIGHT - level - 1)
        starts = runs(node)
        counts = np.add.reduceat(rows, starts)
        wanted = (nodes[:, np.newaxis] * TREE_BRANCHING + np.arange(TREE_BRANCHING)).reshape(-1)
        return np.rint(add_noise(_lookup(node[starts], counts, wanted))).reshape(-1, TREE_BRANCHING)

    return children


class _Searches:
    """Three searches a (partition, rank), in thirds of each array: for the quantile, the lower and the upper end.

    `node` is the node a search has come to, numbered from 0 in its level.
    """

    def __init__(self, rank: F64, std: float) -> None:
        self.node = np.zeros(len(rank), dtype=np.int64)
        self._third = len(rank) // 3
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
        from_end = np.minimum(rank, 1 - rank)[self._third :]
        self._margin = np.interp(from_end, *_MARGIN)[:, np.newaxis] * std

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
        left, right = _at(first / LEAVES, low, high), _at((first + width) / LEAVES, low, high)
        quantile = np.clip((1 - self._rank) * left + self._rank * right, left, right)
        lower, upper = leaf[self._third : 2 * self._third], leaf[2 * self._third :] + 1
        lower_end = np.minimum(_at(lower / (LEAVES - 1), low, high), quantile)
        upper_end = np.maximum(_at(np.minimum(upper / (LEAVES - 1), 1.0), low, high), quantile)
        return np.concatenate([quantile, lower_end, upper_end])

    def _point(self, children: F64) -> I64:
        """The child that holds the rank, children of a negligible share left out.

        Each step is that of Google's code, in its order: most quantiles of few rows are one of few values, and another
        rounding would make others of them.
        """
        total = children.sum(axis=1)
        counted = np.where(children >= total[:, np.newaxis] * _NEGLIGIBLE, children, 0.0)
        going = (self._stopped_at == TREE_HEIGHT) & (total > 0)
        whole = np.where(going, counted.sum(axis=1), 1.0)  # above 0 too: of 16 children one has a sixteenth or more
        up_to = np.cumsum(counted, axis=1)
        child = np.argmax(up_to / whole[:, np.newaxis] >= (self._rank - _TOLERANCE)[:, np.newaxis], axis=1)
        at = np.arange(len(child))
        before, own = (up_to[at, child] - children[at, child]) / whole, children[at, child] / whole
        inside = (self._rank - before) / np.where(own != 0, own, 1.0)
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
            self._clear = left_of[:, -1] > NORMAL_95 * self._std * TREE_BRANCHING**0.5
        else:
            right_of = self._variance[:, np.newaxis] + places
        boundary = np.concatenate([self._left[:, np.newaxis], self._left[:, np.newaxis] + left_of], axis=1)
        # Rows are never negative, so the true figures rise from boundary to boundary: so does this middle of the
        # steps up from the left and down from the right.
        rising = np.maximum.accumulate(boundary, axis=1)
        rising += np.minimum.accumulate(boundary[:, ::-1], axis=1)[:, ::-1]
        rising /= 2
        variance = np.concatenate([self._variance[:, np.newaxis], right_of], axis=1)
        margin = self._margin * np.sqrt(variance)
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


def _at(fraction: F64, low: float, high: float) -> F64:
    # Where an end is far larger than the width, rounding leads out of it.
    return np.clip(fraction * high + (1 - fraction) * low, low, high)


def _lookup(keys: I64, counts: I64, wanted: I64) -> I64:
    """`counts[i]` where `keys[i]` is wanted, 0 where no key is; `keys` is sorted."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    noisy: I64 = np.where(keys[at] == wanted, counts[at], 0)
    return noisy
