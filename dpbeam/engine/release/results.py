"""The released table of kept partitions: their quantities with noise, then metrics with 95 % intervals.

`noisy_quantities` is the only step that draws noise. What `metrics` does after it is post-processing of noisy
numbers and public parameters: it costs nothing and can be done again.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from dpbeam.engine.aggregation import frequent
from dpbeam.engine.aggregation.accumulate import key_fields, quantity_column
from dpbeam.engine.metrics import Drawn, kernel_of, result_columns
from dpbeam.engine.metrics.base import noisy_column
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.events import Thresholding
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.selection import Selector
from dpbeam.queries.quantities import UnitCount, Values

NOISY_USERS = "__noisy_users"
"""The column in which a selection hands on the noisy unit counts that decided it."""


def noisy_schema(spec: StageSpec) -> pa.Schema:
    """Keys, then `__noisy_<quantity>` for each quantity: float64, or a fixed-size list of it."""
    fields = [pa.field(noisy_column(q), kernel_of(q).noisy_type(q), nullable=False) for q in spec.quantities]
    return pa.schema([*key_fields(spec), *fields])


def result_schema(spec: StageSpec) -> pa.Schema:
    """Keys, then `<column>`, `<column>_low`, `<column>_high` float64 for each released column of each metric, and
    `<column>_bias` for a unit count that was shown since it passed a threshold. Before each of a top_k's columns stands
    the value that it counts, as text; where fewer values are shown, all of its columns are null."""
    fields: list[pa.Field] = []
    for metric in spec.metrics:
        nullable = bool(metric.labels)
        for i, column in enumerate(metric.released):
            if metric.labels:
                fields.append(pa.field(metric.labels[i], pa.string()))
            bias = (f"{column}_bias",) if spec.passed_threshold(metric) else ()
            names = (*interval_columns(column), *bias)
            fields.extend(pa.field(name, pa.float64(), nullable=nullable) for name in names)
    return pa.schema([*key_fields(spec), *fields])


def interval_columns(column: str) -> tuple[str, str, str]:
    return column, f"{column}_low", f"{column}_high"


def noisy_quantities(
    accumulators: pa.RecordBatch, spec: StageSpec, noises: Mapping[str, AdditiveNoise]
) -> pa.RecordBatch:
    """Adds each quantity's noise once to each partition.

    Guarantee: each value costs one application of its quantity's mechanism, which must be calibrated to the stage's
    bounds; the partitions must be public or come from a selection that is paid for. Values of a top_k are kept by the
    threshold of their own quantity; to leave them out with a partition that isn't kept is post-processing.
    """
    keys = [accumulators.column(name) for name in spec.keys]
    columns = []
    for quantity in spec.quantities:
        if isinstance(quantity, UnitCount) and spec.shares_count:
            columns.append(accumulators.column(NOISY_USERS))  # has its noise since the selection
            continue
        column = accumulators.column(quantity_column(spec, quantity))
        if isinstance(quantity, Values):
            columns.append(_above_threshold(column, spec.thresholds[quantity.name]))
            continue
        kernel = kernel_of(quantity)
        flat = pa.array(kernel.noisy(quantity, column, noises[quantity.name]))
        kind = kernel.noisy_type(quantity)
        columns.append(flat if kind == pa.float64() else pa.FixedSizeListArray.from_arrays(flat, kind.list_size))
    return pa.RecordBatch.from_arrays([*keys, *columns], schema=noisy_schema(spec))


def metrics(noisy: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    """Each metric with its 95 % interval: for the partition's bounded data, over the noise alone, as its module in
    `dpbeam.engine.metrics` derives it. Bounding and clipping bias is not in the intervals.
    """
    keys = [noisy.column(name) for name in spec.keys]
    drawn = Drawn(batch=noisy, spec=spec)
    columns = [column for metric in spec.metrics for column in result_columns(metric, drawn)]
    return pa.RecordBatch.from_arrays([*keys, *columns], schema=result_schema(spec))


def _above_threshold(column: pa.Array, mechanism: Thresholding) -> pa.Array:
    """The values whose noisy unit counts pass the threshold, with these counts, the largest first."""
    kept, noisy = Selector(mechanism=mechanism).keep_noisy(frequent.units_of(column))
    return frequent.noisy_lists(column, kept, noisy)
