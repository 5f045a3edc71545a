"""Means, variances and standard deviations, as `dpbeam.mechanisms.moments` derives them from noisy sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64, Numbers
from dpbeam.engine.aggregation.kernels import Kernel, grid_of, kernel_for, sums
from dpbeam.engine.metrics.base import Drawn, arrays, result_columns
from dpbeam.mechanisms import moments
from dpbeam.queries.metrics.means import Mean, Moment, StdDev, Variance
from dpbeam.queries.quantities import Count, Squares, Sum


@kernel_for(Squares)
class SquaresKernel(Kernel[Squares]):
    """Squares of distances from the centre."""

    def of_rows(self, quantity: Squares, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        clipped = np.clip(values[quantity.columns[0]].astype(np.float64), quantity.low, quantity.high)
        centred = clipped - quantity.centre
        return pa.array(sums(rows, grid_of(quantity).encode_whole(centred**2 - quantity.reach**2 / 2), partitions))


@result_columns.register
def _(metric: Mean, drawn: Drawn) -> Iterable[pa.Array]:
    return arrays(moments.mean(drawn.part(metric, Sum), drawn.part(metric, Count, 1)))


@result_columns.register
def _(metric: Variance, drawn: Drawn) -> Iterable[pa.Array]:
    return arrays(_variance(metric, drawn))


@result_columns.register
def _(metric: StdDev, drawn: Drawn) -> Iterable[pa.Array]:
    value, low, high = _variance(metric, drawn)
    return arrays((np.sqrt(value), np.sqrt(low), np.sqrt(high)))


def _variance(metric: Moment, drawn: Drawn) -> moments.Interval:
    return moments.variance(drawn.part(metric, Sum), drawn.part(metric, Squares, 1), drawn.part(metric, Count, 2))
