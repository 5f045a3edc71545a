"""Counts of distinct values: the sizes of sets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64, Numbers
from dpbeam.engine.aggregation import distinct
from dpbeam.engine.aggregation.kernels import Kernel, kernel_for
from dpbeam.engine.metrics.base import as_drawn, result_columns
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.queries.metrics.distinct import DistinctCount
from dpbeam.queries.quantities import Distinct


@kernel_for(Distinct)
class DistinctKernel(Kernel[Distinct]):
    """Sets of identities, whose sizes get noise."""

    def arrow_type(self, quantity: Distinct) -> pa.DataType:
        return distinct.TYPE

    def zeros(self, quantity: Distinct, partitions: int) -> pa.Array:
        return pa.ListArray.from_arrays(np.zeros(partitions + 1, dtype=np.int32), pa.array([], pa.int64()))

    def of_rows(self, quantity: Distinct, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        identities = values[quantity.columns[0]]
        if identities.dtype != np.int64:
            raise TypeError(f"{quantity.name}: distinct values of floats can't be counted")
        return distinct.sets(rows, identities.astype(np.int64, copy=False), partitions)

    def merge(self, quantity: Distinct, column: pa.Array, codes: I64, order: I64, starts: I64) -> pa.Array:
        return distinct.union(column, codes, len(starts))

    def noisy(self, quantity: Distinct, column: pa.Array, noise: AdditiveNoise) -> F64:
        return noise.to_counts(distinct.lengths(column))


result_columns.register(DistinctCount, as_drawn)
