"""Counts of the rows that meet a condition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64, Numbers
from dpbeam.engine.aggregation.kernels import Kernel, kernel_for
from dpbeam.engine.metrics.base import as_drawn, result_columns
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.metrics.count_if import CountIf, RowsMeeting
from dpbeam.reading import derive


@kernel_for(RowsMeeting)
class RowsMeetingKernel(Kernel[RowsMeeting]):
    """Rows of a partition for which the condition holds, as `where` would keep them."""

    def of_rows(self, quantity: RowsMeeting, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        numbers = values[quantity.columns[0]]
        kind: ColumnType = "int64" if numbers.dtype == np.int64 else "float64"
        meets = derive.holds(pa.array(numbers), kind, quantity.condition).to_numpy(zero_copy_only=False)
        return pa.array(np.bincount(rows[meets], minlength=partitions).astype(np.int64, copy=False))


result_columns.register(CountIf, as_drawn)
