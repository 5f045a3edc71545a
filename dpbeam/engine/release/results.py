"""Accumulators of kept partitions in, the released table out: noisy quantities, then metrics with 95 % intervals.

`noisy_quantities` is the only step that draws noise. What `metrics` does after it is post-processing of noisy
numbers and public parameters: it costs nothing and can be done again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.engine.aggregation import distinct, frequent
from dpbeam.engine.aggregation.accumulate import key_fields, quantity_column
from dpbeam.engine.aggregation.columns import grid_of, vectors
from dpbeam.engine.release import rank_intervals
from dpbeam.engine.release.quantile_tree import noisy_quantiles
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms import moments, threshold_bias
from dpbeam.mechanisms.events import (
    GaussianThresholding,
    LaplaceThresholding,
    Thresholding,
)
from dpbeam.mechanisms.moments import Part
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.noise_width import half_width, std
from dpbeam.mechanisms.selection import Selector
from dpbeam.queries import custom
from dpbeam.queries.metric import Metric
from dpbeam.queries.quantities import Quantity

F64 = npt.NDArray[np.float64]

NOISY_USERS = "__noisy_users"
"""The column in which a selection hands on the noisy unit counts that decided it."""

_OF_RANK = 3
"""What is kept of a tree for each rank: the quantile and the ends of its interval."""


def noisy_schema(spec: StageSpec) -> pa.Schema:
    """Keys, then `__noisy_<quantity>` for each quantity: float64, or a fixed-size list of it."""
    fields = [pa.field(_noisy(q), _noisy_type(q), nullable=False) for q in spec.quantities]
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
            bias = (f"{column}_bias",) if passed_threshold(metric, spec) else ()
            names = (*interval_columns(column), *bias)
            fields.extend(pa.field(name, pa.float64(), nullable=nullable) for name in names)
    return pa.schema([*key_fields(spec), *fields])


def passed_threshold(metric: Metric, spec: StageSpec) -> bool:
    """Whether what a metric shows are noisy unit counts that are shown since they passed a threshold."""
    if metric.kind == "privacy_id_count":
        return spec.shares_count
    return metric.kind == "top_k" and spec.made_from(metric)[0].kind == "values"


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
        if quantity.kind == "privacy_id_count" and spec.shares_count:
            columns.append(accumulators.column(NOISY_USERS))  # has its noise since the selection
        else:
            column = accumulators.column(quantity_column(spec, quantity))
            columns.append(
                _above_threshold(column, spec.thresholds[quantity.name])
                if quantity.kind == "values"
                else _add_noise(quantity, column, noises[quantity.name])
            )
    return pa.RecordBatch.from_arrays([*keys, *columns], schema=noisy_schema(spec))


def metrics(noisy: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    """Each metric with its 95 % interval: for the partition's bounded data, over the noise alone.

    Counts, sums, and the numbers of a vector or histogram: value ± half-width; a unit count that selected its partition
    as `dpbeam.mechanisms.threshold_bias` says, given that it was kept. Means, variances and standard
    deviations as `moments` derives them; quantiles as `quantile_tree` found them.
    Bounding and clipping bias is not in the intervals.
    """
    keys = [noisy.column(name) for name in spec.keys]
    columns: list[pa.Array] = []
    for metric in spec.metrics:
        if metric.kind == "top_k":
            columns.extend(_top_k(metric, noisy, spec))
        else:
            columns.extend(pa.array(column) for interval in _intervals(metric, noisy, spec) for column in interval)
    return pa.RecordBatch.from_arrays([*keys, *columns], schema=result_schema(spec))


def _add_noise(quantity: Quantity, column: pa.Array, noise: AdditiveNoise) -> pa.Array:
    match quantity.kind:
        case "count" | "privacy_id_count" | "bins" | "candidates":
            noisy = noise.to_counts(vectors(quantity, column).reshape(-1))
        case "distinct":
            noisy = noise.to_counts(distinct.lengths(column))
        case "sum" | "total" | "squares" | "vector" | "custom":
            noisy = noise.to_sums(vectors(quantity, column).reshape(-1), grid_of(quantity))
        case "tree":
            found = noisy_quantiles(
                column, quantity.ranks, quantity.low, quantity.high, noise.to_counts, std(noise.mechanism)
            )
            noisy = found.reshape(-1)
    kind = _noisy_type(quantity)
    flat = pa.array(noisy)
    return flat if kind == pa.float64() else pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


def _above_threshold(column: pa.Array, mechanism: Thresholding) -> pa.Array:
    """The values whose noisy unit counts pass the threshold, with these counts, the largest first."""
    kept, noisy = Selector(mechanism=mechanism).keep_noisy(frequent.units_of(column))
    return frequent.noisy_lists(column, kept, noisy)


def _top_k(metric: Metric, noisy: pa.RecordBatch, spec: StageSpec) -> list[pa.Array]:
    """The columns of each of the k values: itself, its noisy count with its interval, and, where it had to pass a
    threshold, its bias. Null where there are fewer values.

    A count's interval is that of the value's own count, given that it passed the threshold, and holds although noise
    may have brought the value to its place.
    """
    (quantity,) = spec.made_from(metric)
    column = noisy.column(_noisy(quantity))
    columns: list[pa.Array] = []
    numbers: tuple[F64, ...]
    for place in range(metric.k):
        if quantity.kind == "values":
            value, count = frequent.largest(column, place)
            missing = np.isnan(count)
            counts, sizes = column.flatten().flatten()[1].to_numpy(), distinct.lengths(column)
            numbers = (count, *rank_intervals.of_shown(counts, sizes, count, spec.thresholds[quantity.name]))
        else:
            counts = column.flatten().to_numpy().reshape(-1, quantity.size)
            value, count = frequent.largest_candidate(counts, quantity.candidates, place)
            missing = np.zeros(len(count), dtype=np.bool_)
            numbers = (count, *rank_intervals.of_candidates(counts, count, spec.noise[quantity.name]))
        columns.extend((value, *(pa.array(number, mask=missing) for number in numbers)))
    return columns


def _intervals(metric: Metric, noisy: pa.RecordBatch, spec: StageSpec) -> list[tuple[F64, ...]]:
    """(value, low, high) of each released column of a metric, and of a unit count that was shared its bias."""
    if metric.kind == "privacy_id_count" and spec.shares_count:
        value = noisy.column(f"__noisy_{metric.kind}").to_numpy()
        return [(value, *threshold_bias.interval(value, thresholding(spec)))]
    parts = [_part(quantity, noisy, spec) for quantity in spec.made_from(metric)]
    first = parts[0]
    match metric.kind:
        case "mean":
            return [moments.mean(*parts)]
        case "variance":
            return [moments.variance(*parts)]
        case "stddev":
            value, low, high = moments.variance(*parts)
            return [(np.sqrt(value), np.sqrt(low), np.sqrt(high))]
        case "custom" if metric.custom is not None:
            count = parts[1] if metric.custom.needs_count else None
            sums = custom.Noisy(
                sums=first.noisy,
                noise=first.noise,
                count=None if count is None else count.noisy[:, 0],
                count_noise=None if count is None else count.noise,
            )
            return custom.released(metric.custom, sums)
        case "quantiles" | "median" | "min" | "max":
            ranks = spec.made_from(metric)[0].ranks
            at = [ranks.index(rank) for rank in metric.ranks]
            return [(first.noisy[:, 3 * i], first.noisy[:, 3 * i + 1], first.noisy[:, 3 * i + 2]) for i in at]
    margin = half_width(first.noise)
    return [(value, value - margin, value + margin) for value in first.noisy.T]


def thresholding(spec: StageSpec) -> Thresholding:
    """The selection of a stage that shares its count.

    Raises:
        ValueError: the stage selects otherwise.
    """
    if not isinstance(spec.selection, LaplaceThresholding | GaussianThresholding):
        raise ValueError(f"stage {spec.name} doesn't select by thresholding")
    return spec.selection


def _part(quantity: Quantity, noisy: pa.RecordBatch, spec: StageSpec) -> Part:
    column = noisy.column(_noisy(quantity))
    flat = column if column.type == pa.float64() else column.flatten()
    size = _size(quantity)
    return Part(quantity=quantity, noise=spec.noise[quantity.name], noisy=flat.to_numpy().reshape(-1, size))


def _size(quantity: Quantity) -> int:
    return _OF_RANK * len(quantity.ranks) if quantity.kind == "tree" else quantity.size


def _noisy_type(quantity: Quantity) -> pa.DataType:
    if quantity.kind == "values":
        return frequent.NOISY_TYPE
    if quantity.kind in ("bins", "vector", "tree", "candidates", "custom"):
        return pa.list_(pa.float64(), _size(quantity))
    return pa.float64()


def _noisy(quantity: Quantity) -> str:
    return f"__noisy_{quantity.name}"
