"""Custom metrics: sums of what their own code makes of rows, and what their own code shows of noisy sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from dpbeam.array_types import I64, Numbers
from dpbeam.engine.aggregation.kernels import VectorKernel, kernel_for
from dpbeam.engine.metrics.base import Drawn, arrays, result_columns
from dpbeam.queries import custom
from dpbeam.queries.metrics.custom import Custom
from dpbeam.queries.quantities import Count, CustomSums


@kernel_for(CustomSums)
class CustomKernel(VectorKernel[CustomSums]):
    """What rows add, bounded after the metric's own code ran."""

    def of_rows(self, quantity: CustomSums, values: Mapping[str, Numbers], rows: I64, partitions: int) -> pa.Array:
        added = custom.contributions(quantity.custom, [values[name] for name in quantity.columns])
        return self.sums(quantity, added, rows, partitions)


@result_columns.register
def _(metric: Custom, drawn: Drawn) -> Iterable[pa.Array]:
    sums = drawn.part(metric, CustomSums)
    count = drawn.part(metric, Count, 1) if metric.custom.needs_count else None
    noisy = custom.Noisy(
        sums=sums.noisy,
        noise=sums.noise,
        count=None if count is None else count.noisy[:, 0],
        count_noise=None if count is None else count.noise,
    )
    return arrays(*custom.released(metric.custom, noisy))
