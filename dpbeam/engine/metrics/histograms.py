"""Histograms: rows by partition and bin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64, Numbers
from dpbeam.engine.aggregation.kernels import Kernel, kernel_for
from dpbeam.engine.metrics.base import as_drawn, result_columns
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.quantities import Bins


@kernel_for(Bins)
class BinsKernel(Kernel[Bins]):
    """Bins [edge i, edge i + 1), the last with both edges; rows beyond are in none."""

    is_vector = True

    def of_rows(self, quantity: Bins, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        numbers, edges, size = values[quantity.columns[0]], np.array(quantity.edges), quantity.size
        bins = np.searchsorted(edges, numbers.astype(np.float64), side="right") - 1
        bins[numbers == edges[-1]] = size - 1
        inside = (bins >= 0) & (bins < size)
        counts = np.bincount(rows[inside] * size + bins[inside], minlength=partitions * size)
        return self.column(quantity, counts.astype(np.int64, copy=False).reshape(partitions, size))


result_columns.register(Histogram, as_drawn)
