"""Counts of rows and units: accumulators count them in any case, so they have no columns of their own."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from dpbeam.engine.aggregation.kernels import Kernel, holds
from dpbeam.engine.metrics.base import Drawn, arrays, as_drawn, shown
from dpbeam.mechanisms import threshold_bias
from dpbeam.queries import quantities
from dpbeam.queries.metrics.counts import Count, CountOfCounts, UnitCount


@holds(quantities.Count)
class CountKernel(Kernel[quantities.Count]):
    """Rows."""


@holds(quantities.UnitCount)
class UnitCountKernel(Kernel[quantities.UnitCount]):
    """Units."""


shown.register(Count, as_drawn)
shown.register(CountOfCounts, as_drawn)


@shown.register
def _(metric: UnitCount, drawn: Drawn) -> Iterable[pa.Array]:
    """Where the count selected its partition: as `dpbeam.mechanisms.threshold_bias` says, given that it was kept."""
    if not drawn.spec.shares_count:
        return as_drawn(metric, drawn)
    value = drawn.column(drawn.quantity(metric, quantities.UnitCount)).to_numpy()
    return arrays((value, *threshold_bias.interval(value, drawn.spec.thresholding)))
