"""What the engine knows of a type of quantity: how accumulators hold it, fill it and merge it, and how it gets noise.

All of it is int64 throughout, so always exact: a number a partition is int64; a vector (histogram, vector sum) a
fixed-size list of int64; trees, sets of distinct values and counts by value are lists of their own (`tree`, `distinct`
and `frequent`, beside this module). The family modules of `dpbeam.engine.metrics` have a kernel for each quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64, Numbers
from dpbeam.engine.bounding.contributions import Bounded
from dpbeam.mechanisms.fixedpoint import Grid, checked_sum
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.queries.bounds import Norm
from dpbeam.queries.quantities import NormClipped, Quantity, Summed

Q = TypeVar("Q", bound=Quantity)
S = TypeVar("S", bound=NormClipped)

_EXACT_ROWS = 2 ** (53 - 30)
_SHRINK = 1 - 2.0**-40
"""Vectors are scaled to this part of their norm bound: more than the rounding of the scaling can add to it."""


class Kernel(Generic[Q]):
    """A number or a vector of fixed length a partition, of rows as they come or of what else is kept."""

    is_vector: ClassVar[bool] = False

    def arrow_type(self, quantity: Q) -> pa.DataType:
        """The type of the accumulator column."""
        return pa.list_(pa.int64(), quantity.size) if self.is_vector else pa.int64()

    def zeros(self, quantity: Q, partitions: int) -> pa.Array:
        """The column of `partitions` that nobody contributed to."""
        return self.column(quantity, np.zeros((partitions, quantity.size), dtype=np.int64))

    def of_rows(self, quantity: Q, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        """The column of rows whose partition is `rows[i]` and whose value of each column is `values[column][i]`.

        Guarantee: one row moves the column, in the partition it is in, by no more than `quantity.sensitivity` says of
        one row: by whole counts, or by grid steps that were clipped after they were rounded.
        """
        raise ValueError(f"a {quantity.kind} has no column of its own")

    def of_kept(self, quantity: Q, kept: Bounded) -> pa.Array:
        """The column of the rows that a unit's bounds left."""
        return self.of_rows(quantity, kept.values, kept.rows, kept.partitions)

    def merge(self, quantity: Q, column: pa.Array, codes: I64, order: I64, starts: I64) -> pa.Array:
        """The column of merged partitions, from one whose row i belongs to partition `codes[i]`.

        `order` sorts `codes`, and `starts` says where each partition begins in that order.

        Raises:
            RunFailed: a sum beyond int64.
        """
        numbers = vectors(quantity, column)[order]
        totals = [checked_sum(numbers[:, i], starts) for i in range(numbers.shape[1])]
        return self.column(quantity, np.column_stack(totals))

    def column(self, quantity: Q, numbers: I64) -> pa.Array:
        """An array of (partitions, `quantity.size`) as the accumulator column."""
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, quantity.size) if self.is_vector else flat

    def noisy_type(self, quantity: Q) -> pa.DataType:
        """The type of the column once it has its noise."""
        return pa.list_(pa.float64(), quantity.size) if self.is_vector else pa.float64()

    def noisy(self, quantity: Q, column: pa.Array, noise: AdditiveNoise) -> F64:
        """The numbers of all partitions, one after the other, with noise on each."""
        numbers = vectors(quantity, column).reshape(-1)
        return noise.to_sums(numbers, grid_of(quantity)) if isinstance(quantity, Summed) else noise.to_counts(numbers)


class VectorKernel(Kernel[S]):
    """Sums of vectors that are shortened to a bound."""

    is_vector = True

    def sums(self, quantity: S, added: F64, rows: I64, partitions: int) -> pa.Array:
        """The column of rows that add the vectors `added`."""
        steps = shorten(added, quantity.norm, quantity.max_norm) / grid_of(quantity).step
        np.trunc(steps, out=steps)  # towards 0, which makes no norm larger
        totals = [sums(rows, steps[:, i], partitions) for i in range(quantity.size)]
        return self.column(quantity, np.column_stack(totals))


KERNELS: dict[type[Quantity], Kernel[Any]] = {}
"""Filled by the family modules of `dpbeam.engine.metrics`, whose `kernel_of` is what to ask."""

K = TypeVar("K", bound="type[Kernel[Any]]")


def kernel_for(*kinds: type[Quantity]) -> Callable[[K], K]:
    """Registers a kernel for these types of quantity."""

    def register(kernel: K) -> K:
        KERNELS.update((kind, kernel()) for kind in kinds)
        return kernel

    return register


def grid_of(quantity: Quantity) -> Grid:
    """The fixed-point grid of a sum; fixed by policy and plan, so every worker has the same.

    Raises:
        ValueError: it isn't summed.
    """
    if not isinstance(quantity, Summed):
        raise ValueError(f"a {quantity.kind} is counted, not summed")
    return Grid.for_bounds(*quantity.ends, quantity.least_step)


def vectors(quantity: Quantity, column: pa.Array) -> I64:
    """A column of numbers or vectors as an array of (partitions, `quantity.size`)."""
    flat = column if pa.types.is_int64(column.type) else column.flatten()
    numbers: I64 = flat.to_numpy().reshape(-1, quantity.size)
    return numbers


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


def sums(rows: I64, steps: F64, partitions: int) -> I64:
    """Exact sums by partition: bincount adds floats, and whole numbers below 2**53 add up exactly in any order."""
    total = np.zeros(partitions, dtype=np.int64)
    for at in range(0, len(rows), _EXACT_ROWS):
        chunk = slice(at, at + _EXACT_ROWS)
        total += np.bincount(rows[chunk], weights=steps[chunk], minlength=partitions).astype(np.int64)
    return total
