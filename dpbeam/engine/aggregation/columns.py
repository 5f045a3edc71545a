"""Kept rows in, one quantity's accumulator column out; and such columns merged: int64 throughout, so always exact.

A number a partition is int64; a vector (histogram, vector sum) a fixed-size list of int64; a quantile tree a list of
int64, one for each leaf with rows, which holds the leaf in its low 16 bits and the rows above them, sorted by leaf.
Sets of distinct values and counts by value are lists too (`distinct` and `frequent`, beside this module).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.engine.aggregation import distinct, frequent
from dpbeam.engine.arrays.grouping import runs
from dpbeam.engine.bounding.contributions import Bounded
from dpbeam.mechanisms.fixedpoint import Grid, checked_sum
from dpbeam.queries import custom
from dpbeam.queries.bounds import Norm
from dpbeam.queries.quantities import TREE_BRANCHING, TREE_HEIGHT, Quantity

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]

LEAVES = TREE_BRANCHING**TREE_HEIGHT
_LEAF_BITS = 16
_EXACT_ROWS = 2 ** (53 - 30)
_HALF = 2**20
_TOTAL_REACH = 2**10
_SHRINK = 1 - 2.0**-40
"""Vectors are scaled to this part of their norm bound: more than the rounding of the scaling can add to it."""


def grid_of(quantity: Quantity) -> Grid:
    """The fixed-point grid of a sum; fixed by policy and plan, so every worker has the same."""
    least = quantity.least_step
    match quantity.kind:
        case "sum" | "total":
            return Grid.for_bounds(quantity.low, quantity.high, quantity.centre, least)
        case "squares":
            half = quantity.reach**2 / 2
            return Grid.for_bounds(-half, half, least_step=least)
        case "vector" | "custom":
            return Grid.for_bounds(-quantity.max_norm, quantity.max_norm, least_step=least)
    raise ValueError(f"a {quantity.kind} is counted, not summed")


def arrow_type(quantity: Quantity) -> pa.DataType:
    """The type of a quantity's accumulator column."""
    match quantity.kind:
        case "tree":
            return pa.list_(pa.int64())
        case "distinct":
            return distinct.TYPE
        case "values":
            return frequent.COUNTS_TYPE
        case "bins" | "vector" | "candidates" | "custom":
            return pa.list_(pa.int64(), quantity.size)
    return pa.int64()


def zeros(quantity: Quantity, partitions: int) -> pa.Array:
    """The column of `partitions` that nobody contributed to."""
    if quantity.kind in ("tree", "distinct"):
        return pa.ListArray.from_arrays(np.zeros(partitions + 1, dtype=np.int32), pa.array([], pa.int64()))
    if quantity.kind == "values":
        return frequent.empty(partitions)
    return _column(quantity, np.zeros((partitions, quantity.size), dtype=np.int64))


def accumulate(quantity: Quantity, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
    """The column of rows whose partition is `rows[i]` and whose value of each column is `values[column][i]`.

    Guarantee: one row moves the column, in the partition it is in, by no more than `quantity.sensitivity` says of one
    row: by whole counts, or by grid steps that were clipped after they were rounded.
    """
    match quantity.kind:
        case "sum":
            return pa.array(_sums(rows, grid_of(quantity).encode_whole(values[quantity.columns[0]]), partitions))
        case "squares":
            centred = _clipped(values[quantity.columns[0]], quantity) - quantity.centre
            return pa.array(_sums(rows, grid_of(quantity).encode_whole(centred**2 - quantity.reach**2 / 2), partitions))
        case "bins":
            return _column(quantity, _bins(quantity, values[quantity.columns[0]], rows, partitions))
        case "vector":
            stacked = np.column_stack([values[name].astype(np.float64) for name in quantity.columns])
            if stacked.shape[1] != quantity.size:  # planned for vectors of another length: another sensitivity
                raise ValueError(f"{quantity.name}: vectors must have {quantity.size} numbers, got {stacked.shape[1]}")
            return _vector_sums(quantity, stacked, rows, partitions)
        case "custom" if quantity.custom is not None:
            made = custom.contributions(quantity.custom, [values[name] for name in quantity.columns])
            return _vector_sums(quantity, made, rows, partitions)
        case "tree":
            return _counted(rows * LEAVES + _leaves(quantity, values[quantity.columns[0]]), None, partitions)
        case "distinct":
            identities = values[quantity.columns[0]]
            if identities.dtype != np.int64:
                raise TypeError(f"{quantity.name}: distinct values of floats can't be counted")
            return distinct.sets(rows, identities.astype(np.int64, copy=False), partitions)
    raise ValueError(f"a {quantity.kind} has no column of its own")


def accumulate_by_value(quantity: Quantity, bounded: Bounded) -> pa.Array:
    """The column of `values` or `candidates`.

    Guarantee: one unit moves the column by at most 1 in each of at most `quantity.max_values` values of a partition;
    which these are depends on its own rows there and on secret randomness alone.
    """
    found = bounded.words.get(quantity.columns[0])
    if found is None or bounded.row_pairs is None:
        raise ValueError(f"{quantity.name}: counts by value need to know each row's pair")
    row_pairs, codes, texts = bounded.row_pairs, found.codes, found.texts
    if quantity.kind == "candidates":  # what is no candidate takes no place among a unit's values
        codes = frequent.among(found, quantity.candidates)
        row_pairs, codes = row_pairs[codes >= 0], codes[codes >= 0]
        texts = pa.array(quantity.candidates, pa.large_string())
    pair, code = frequent.bounded_cells(row_pairs, codes, bounded.ranks, texts, quantity.max_values)
    partition = bounded.pairs[pair]
    if quantity.kind == "values":
        return frequent.count_values(partition, code, texts, bounded.partitions)
    return _column(quantity, frequent.count_candidates(partition, code, bounded.partitions, quantity.size))


def accumulate_totals(
    quantity: Quantity, values: Mapping[str, Numbers], row_pairs: I64 | None, pairs: I64, partitions: int
) -> pa.Array:
    """The column of a `total`: row i belongs to the (unit, partition) pair `row_pairs[i]`, pair j to partition
    `pairs[j]`.

    Guarantee: one unit moves the column, in one partition, by no more than max(|low|, |high|), however many rows it
    has: what they add up to is clipped after all rounding. A value counts for ±1024 times that at most.
    """
    if row_pairs is None:
        raise ValueError(f"{quantity.name}: totals need to know each row's pair")
    grid = grid_of(quantity)
    most = _TOTAL_REACH * quantity.reach
    steps = np.rint(np.clip(values[quantity.columns[0]].astype(np.float64), -most, most) / grid.step)
    # A value is at most 2**40 steps: its two halves add up exactly, and neither overflows.
    high = np.floor(steps / _HALF)
    of_pairs = np.clip(_sums(row_pairs, high, len(pairs)), -(2**42), 2**42) * _HALF
    of_pairs += _sums(row_pairs, steps - high * _HALF, len(pairs))
    return pa.array(_sums(pairs, np.clip(of_pairs, grid.lowest, grid.highest).astype(np.float64), partitions))


def merge(quantity: Quantity, column: pa.Array, codes: I64, order: I64, starts: I64) -> pa.Array:
    """The column of merged partitions, from one whose row i belongs to partition `codes[i]`.

    `order` sorts `codes`, and `starts` says where each partition begins in that order.

    Raises:
        RunFailed: a sum beyond int64.
    """
    if quantity.kind == "tree":
        packed = column.flatten().to_numpy()
        partition = np.repeat(codes, np.diff(column.offsets.to_numpy()))
        return _counted(partition * LEAVES + (packed & (LEAVES - 1)), packed >> _LEAF_BITS, len(starts))
    if quantity.kind == "distinct":
        return distinct.union(column, codes, len(starts))
    if quantity.kind == "values":
        return frequent.merge(column, codes, len(starts))
    numbers = vectors(quantity, column)[order]
    totals = [checked_sum(numbers[:, i], starts) for i in range(numbers.shape[1])]
    return _column(quantity, np.column_stack(totals))


def vectors(quantity: Quantity, column: pa.Array) -> I64:
    """A column of numbers or vectors as an array of (partitions, `quantity.size`)."""
    flat = column if pa.types.is_int64(column.type) else column.flatten()
    numbers: I64 = flat.to_numpy().reshape(-1, quantity.size)
    return numbers


def tree_leaves(column: pa.Array) -> tuple[I64, I64, I64]:
    """A tree column as (partition, leaf, rows) of each leaf with rows, sorted by partition and leaf."""
    packed = column.flatten().to_numpy()
    partition = np.repeat(np.arange(len(column)), np.diff(column.offsets.to_numpy()))
    return partition, packed & (LEAVES - 1), packed >> _LEAF_BITS


def shorten(vectors: F64, norm: Norm | None, most: float) -> F64:
    """Each row scaled down to a `norm` of at most `most`, if it is longer; linf clips each number by itself.

    Guarantee: no row of the result is longer than `most`, also as floats are rounded.
    """
    if norm == "linf":
        return np.clip(vectors, -most, most)
    # Divided by the largest number first, for squares of large numbers overflow.
    largest = np.max(np.abs(vectors), axis=1, initial=0.0)
    unit = vectors / np.where(largest > 0, largest, 1.0)[:, np.newaxis]
    lengths = np.sum(np.abs(unit), axis=1) if norm == "l1" else np.sqrt(np.sum(unit**2, axis=1))
    with np.errstate(over="ignore"):
        longer = largest * lengths > most * _SHRINK
    scaled = unit * (most * _SHRINK / np.where(lengths > 0, lengths, 1.0))[:, np.newaxis]
    return np.where(longer[:, np.newaxis], scaled, vectors)


def _vector_sums(quantity: Quantity, vectors: F64, rows: I64, partitions: int) -> pa.Array:
    steps = shorten(vectors, quantity.norm, quantity.max_norm) / grid_of(quantity).step
    np.trunc(steps, out=steps)  # towards 0, which makes no norm larger
    totals = [_sums(rows, steps[:, i], partitions) for i in range(quantity.size)]
    return _column(quantity, np.column_stack(totals))


def _column(quantity: Quantity, numbers: I64) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
    return (
        flat if quantity.kind in ("sum", "total", "squares") else pa.FixedSizeListArray.from_arrays(flat, quantity.size)
    )


def _sums(rows: I64, steps: F64, partitions: int) -> I64:
    """Exact sums by partition: bincount adds floats, and whole numbers below 2**53 add up exactly in any order."""
    total = np.zeros(partitions, dtype=np.int64)
    for at in range(0, len(rows), _EXACT_ROWS):
        chunk = slice(at, at + _EXACT_ROWS)
        total += np.bincount(rows[chunk], weights=steps[chunk], minlength=partitions).astype(np.int64)
    return total


def _clipped(values: Numbers, quantity: Quantity) -> F64:
    return np.clip(values.astype(np.float64), quantity.low, quantity.high)


def _bins(quantity: Quantity, values: Numbers, rows: I64, partitions: int) -> I64:
    """Rows by partition and bin [edge i, edge i + 1), the last with both edges; rows beyond are in none."""
    edges = np.array(quantity.edges)
    found = np.searchsorted(edges, values.astype(np.float64), side="right") - 1
    found[values == edges[-1]] = quantity.size - 1
    inside = (found >= 0) & (found < quantity.size)
    counts = np.bincount(rows[inside] * quantity.size + found[inside], minlength=partitions * quantity.size)
    return counts.astype(np.int64, copy=False).reshape(partitions, quantity.size)


def _leaves(quantity: Quantity, values: Numbers) -> I64:
    fraction = (_clipped(values, quantity) - quantity.low) / (quantity.high - quantity.low)
    leaves: I64 = np.minimum((fraction * (LEAVES - 1)).astype(np.int64), LEAVES - 1)
    return leaves


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
