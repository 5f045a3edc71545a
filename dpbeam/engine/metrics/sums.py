"""Sums of values, and of units' totals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64, Numbers
from dpbeam.engine.aggregation.kernels import Kernel, grid_of, kernel_for, sums
from dpbeam.engine.bounding.contributions import Bounded
from dpbeam.engine.metrics.base import as_drawn, result_columns
from dpbeam.queries import quantities
from dpbeam.queries.metrics.sums import Sum, SumOfTotals

_HALF = 2**20


@kernel_for(quantities.Sum)
class SumKernel(Kernel[quantities.Sum]):
    """Values that are clipped each by itself."""

    def of_rows(self, quantity: quantities.Sum, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        return pa.array(sums(rows, grid_of(quantity).encode_whole(values[quantity.columns[0]]), partitions))


@kernel_for(quantities.Total)
class TotalKernel(Kernel[quantities.Total]):
    """What a unit's values add up to in a partition, clipped."""

    def of_kept(self, quantity: quantities.Total, kept: Bounded) -> pa.Array:
        row_pairs, pairs = kept.row_pairs, kept.pairs
        if kept.leaf_cells is not None:  # a unit's total is one of a leaf, also where leaves are rolled up
            row_pairs, pairs = kept.row_leaves, kept.leaf_cells
        return totals(quantity, kept.values, row_pairs, pairs, kept.partitions)


def totals(
    quantity: quantities.Total, values: Mapping[str, Numbers], row_pairs: I64 | None, pairs: I64, partitions: int
) -> pa.Array:
    """The column of a `total`: row i belongs to the (unit, partition) pair `row_pairs[i]`, pair j to partition
    `pairs[j]`.

    Guarantee: one unit moves the column, in one partition, by no more than max(|low|, |high|), however many rows it
    has: what they add up to is clipped after all rounding. A value counts for ±1024 times that at most.
    """
    if row_pairs is None:
        raise ValueError(f"{quantity.name}: totals need to know each row's pair")
    grid = grid_of(quantity)
    most = quantities.TOTAL_REACH * quantity.reach
    steps = np.rint(np.clip(values[quantity.columns[0]].astype(np.float64), -most, most) / grid.step)
    # A value is at most 2**40 steps: its two halves add up exactly, and neither overflows.
    high = np.floor(steps / _HALF)
    of_pairs = np.clip(sums(row_pairs, high, len(pairs)), -(2**42), 2**42) * _HALF
    of_pairs += sums(row_pairs, steps - high * _HALF, len(pairs))
    return pa.array(sums(pairs, np.clip(of_pairs, grid.lowest, grid.highest).astype(np.float64), partitions))


result_columns.register(Sum, as_drawn)
result_columns.register(SumOfTotals, as_drawn)
