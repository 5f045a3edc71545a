"""Quantile trees of partitions: which leaf a value lies in, and how many rows each leaf has.

A partition's tree is a list of int64, one for each leaf with rows, which holds the leaf in its low 16 bits and the rows
above them, sorted by leaf.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64
from dpbeam.engine.arrays.grouping import runs
from dpbeam.mechanisms.fixedpoint import checked_sum
from dpbeam.queries.quantities import TREE_BRANCHING, TREE_HEIGHT

TYPE = pa.list_(pa.int64())
LEAVES = TREE_BRANCHING**TREE_HEIGHT
_LEAF_BITS = 16


def leaves(values: F64, low: float, high: float) -> I64:
    """The leaf of each value, clipped to [low, high]."""
    fraction = (np.clip(values, low, high) - low) / (high - low)
    leaf: I64 = np.minimum((fraction * (LEAVES - 1)).astype(np.int64), LEAVES - 1)
    return leaf


def grown(leaf: I64, partitions: int) -> pa.Array:
    """The trees of rows whose leaves are numbered partition · LEAVES + leaf."""
    return _counted(leaf, None, partitions)


def merged(trees: pa.Array, codes: I64, partitions: int) -> pa.Array:
    """The trees of merged partitions, of which tree i belongs to partition `codes[i]`."""
    packed = trees.flatten().to_numpy()
    partition = np.repeat(codes, np.diff(trees.offsets.to_numpy()))
    return _counted(partition * LEAVES + (packed & (LEAVES - 1)), packed >> _LEAF_BITS, partitions)


def tree_leaves(trees: pa.Array) -> tuple[I64, I64, I64]:
    """Trees as (partition, leaf, rows) of each leaf with rows, sorted by partition and leaf."""
    packed = trees.flatten().to_numpy()
    partition = np.repeat(np.arange(len(trees)), np.diff(trees.offsets.to_numpy()))
    return partition, packed & (LEAVES - 1), packed >> _LEAF_BITS


def _counted(leaf: I64, counts: I64 | None, partitions: int) -> pa.Array:
    """The tree column of leaves numbered partition · LEAVES + leaf; each counts once, or as `counts` says."""
    order = np.argsort(leaf, kind="stable")
    ranked = leaf[order]
    starts = runs(ranked)
    totals = np.diff(starts, append=len(ranked)) if counts is None else checked_sum(counts[order], starts)
    heads = ranked[starts]
    packed = (totals << _LEAF_BITS) | (heads & (LEAVES - 1))
    offsets = np.searchsorted(heads, np.arange(partitions + 1) * LEAVES)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(packed))
