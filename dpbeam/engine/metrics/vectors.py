"""Sums of vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64, Numbers
from dpbeam.engine.aggregation.kernels import VectorKernel, kernel_for
from dpbeam.engine.metrics.base import as_drawn, result_columns
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.quantities import Vector


@kernel_for(Vector)
class VectorSumKernel(VectorKernel[Vector]):
    """Vectors whose numbers lie in several columns, or several in one."""

    def of_rows(self, quantity: Vector, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        stacked = np.column_stack([values[name].astype(np.float64) for name in quantity.columns])
        if stacked.shape[1] != quantity.size:  # planned for vectors of another length: another sensitivity
            raise ValueError(f"{quantity.name}: vectors must have {quantity.size} numbers, got {stacked.shape[1]}")
        return self.sums(quantity, stacked, rows, partitions)


result_columns.register(VectorSum, as_drawn)
