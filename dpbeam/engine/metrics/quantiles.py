"""Quantiles: trees of counts, and what `dpbeam.engine.release.quantile_tree` finds in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64, Numbers
from dpbeam.engine.aggregation import tree
from dpbeam.engine.aggregation.kernels import Kernel, kernel_for
from dpbeam.engine.metrics.base import Drawn, arrays, result_columns
from dpbeam.engine.release.quantile_tree import noisy_quantiles
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.noise_width import std
from dpbeam.queries.metrics.quantiles import Max, Median, Min, QuantileMetric, Quantiles
from dpbeam.queries.quantities import Tree

_OF_RANK = 3
"""What is kept of a tree for each rank: the quantile and the ends of its interval."""


@kernel_for(Tree)
class TreeKernel(Kernel[Tree]):
    """Trees, of which the noise leaves the quantiles that are asked for."""

    def arrow_type(self, quantity: Tree) -> pa.DataType:
        return tree.TYPE

    def zeros(self, quantity: Tree, partitions: int) -> pa.Array:
        return pa.ListArray.from_arrays(np.zeros(partitions + 1, dtype=np.int32), pa.array([], pa.int64()))

    def of_rows(self, quantity: Tree, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        leaf = tree.leaves(values[quantity.columns[0]].astype(np.float64), quantity.low, quantity.high)
        return tree.grown(rows * tree.LEAVES + leaf, partitions)

    def merge(self, quantity: Tree, column: pa.Array, codes: I64, order: I64, starts: I64) -> pa.Array:
        return tree.merged(column, codes, len(starts))

    def noisy_type(self, quantity: Tree) -> pa.DataType:
        return pa.list_(pa.float64(), _OF_RANK * len(quantity.ranks))

    def noisy(self, quantity: Tree, column: pa.Array, noise: AdditiveNoise) -> F64:
        ranks, low, high = quantity.ranks, quantity.low, quantity.high
        return noisy_quantiles(column, ranks, low, high, noise.to_counts, std(noise.mechanism)).reshape(-1)


@result_columns.register(Quantiles)
@result_columns.register(Median)
@result_columns.register(Min)
@result_columns.register(Max)
def _(metric: QuantileMetric, drawn: Drawn) -> Iterable[pa.Array]:
    part = drawn.part(metric, Tree)
    at = [_OF_RANK * part.quantity.ranks.index(rank) for rank in metric.ranks]
    return arrays(*((part.noisy[:, i], part.noisy[:, i + 1], part.noisy[:, i + 2]) for i in at))
