"""Counts of rows and units: accumulators count them in any case, so they have no columns of their own."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from dpbeam.engine.aggregation.kernels import Kernel, kernel_for
from dpbeam.engine.metrics.base import Drawn, arrays, as_drawn, result_columns
from dpbeam.mechanisms import threshold_bias
from dpbeam.queries import quantities
from dpbeam.queries.metrics.counts import Count, CountOfCounts, UnitCount


@kernel_for(quantities.Count)
class CountKernel(Kernel[quantities.Count]):
    """Rows."""


@kernel_for(quantities.UnitCount)
class UnitCountKernel(Kernel[quantities.UnitCount]):
    """Units."""


result_columns.register(Count, as_drawn)
result_columns.register(CountOfCounts, as_drawn)


@result_columns.register
def _(metric: UnitCount, drawn: Drawn) -> Iterable[pa.Array]:
    """Where the count selected its partition: as `dpbeam.mechanisms.threshold_bias` says, given that it was kept."""
    if not drawn.spec.shares_count:
        return as_drawn(metric, drawn)
    value = drawn.column(drawn.quantity(metric, quantities.UnitCount)).to_numpy()
    return arrays((value, *threshold_bias.interval(value, drawn.spec.thresholding)))
