"""What PipelineDP's engine returns for partitions in, the released table out: its own values, with 95 % intervals.

All of it is post-processing of noisy numbers and public parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64
from dpbeam.engine.release.results import result_schema, thresholding
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms import moments, threshold_bias
from dpbeam.mechanisms.moments import Part
from dpbeam.mechanisms.noise_width import half_width
from dpbeam.queries.metric import Metric
from dpbeam.queries.quantities import Quantity


def table(keys: Sequence[pa.Array], returned: Sequence[Mapping[str, Any]], spec: StageSpec) -> pa.RecordBatch:
    """One row for each partition, as `result_schema(spec)`; `returned[i]` is PipelineDP's `MetricsTuple` as a mapping.

    Values are PipelineDP's: means and variances unclipped. Intervals are those of our own engine for the same noise; of
    quantiles, for which PipelineDP gives no error, all that the bounds allow.
    """
    columns: list[pa.Array] = []
    noisy = {name: np.array([row[name] for row in returned], dtype=np.float64) for name in (returned or [{}])[0]}
    for metric in spec.metrics:
        for interval in _intervals(metric, noisy, spec):
            columns.extend(pa.array(part) for part in interval)
    schema = result_schema(spec)
    if not returned:
        return pa.RecordBatch.from_pylist([], schema=schema)
    return pa.RecordBatch.from_arrays([*keys, *columns], schema=schema)


def percentile_name(rank: float) -> str:
    """What PipelineDP calls the quantile at `rank`."""
    percent = float(f"{rank * 100:.10g}")
    return f"percentile_{int(percent)}" if percent == int(percent) else f"percentile_{percent}".replace(".", "_")


def _intervals(metric: Metric, noisy: Mapping[str, F64], spec: StageSpec) -> list[tuple[F64, ...]]:
    """(value, low, high) of each released column, and of a unit count that selected its partition its bias."""
    if not noisy:
        return []
    match metric.kind:
        case "privacy_id_count" if spec.shares_count:
            value = noisy["privacy_id_count"]
            return [(value, *threshold_bias.interval(value, thresholding(spec)))]
        case "count" | "privacy_id_count":
            return [_plain(noisy[metric.kind], metric, spec)]
        case "sum":
            return [_sum(metric, noisy, spec)]
        case "mean":
            total, count = _parts_of(metric, noisy, spec)
            return [_holding(noisy["mean"], *moments.mean(total, count)[1:])]
        case "variance":
            total, squares, count = _parts_of(metric, noisy, spec)
            found = moments.variance(total, squares, count, shift=0.0)
            return [_holding(noisy["variance"], *found[1:])]
        case "quantiles" | "median" | "min" | "max":
            _, low, high = metric.value_bounds()
            values = [np.clip(noisy[percentile_name(rank)], low, high) for rank in metric.ranks]
            return [(value, np.full_like(value, low), np.full_like(value, high)) for value in values]
        case "vector_sum":
            return [_plain(value, metric, spec) for value in noisy["vector_sum"].T]
        case _:
            raise ValueError(f"PipelineDP has no {metric.kind}")


def _plain(value: F64, metric: Metric, spec: StageSpec) -> tuple[F64, ...]:
    margin = half_width(spec.noise[spec.made_from(metric)[0].name])
    return value, value - margin, value + margin


def _sum(metric: Metric, noisy: Mapping[str, F64], spec: StageSpec) -> tuple[F64, ...]:
    """A sum by itself; or, beside a mean, the mean times the count: there middle·C + S bounds it, C below 1 being 1."""
    moment = next((m for m in spec.metrics if m.kind in ("variance", "mean")), None)
    if moment is None:
        return _plain(noisy["sum"], metric, spec)
    total, *_, count = _parts_of(moment, noisy, spec)
    middle = total.quantity.centre
    margin = moments.half_width_of_sum((total, count), (1.0, middle))
    about = middle * count.noisy[:, 0] + total.noisy[:, 0]
    return _holding(noisy["sum"], about - margin, about + margin)


def _parts_of(metric: Metric, noisy: Mapping[str, F64], spec: StageSpec) -> tuple[Part, ...]:
    """The noisy sums that PipelineDP made its mean or variance from, computed back from what it returned."""
    centre = spec.made_from(metric)[0].centre
    count = noisy["count"]
    shown = np.maximum(count, 1.0)
    away = noisy["mean"] - centre
    found = {"count": count, "sum": away * shown}
    if metric.kind == "variance":
        found["squares"] = (noisy["variance"] + away**2) * shown
    return tuple(_part(quantity, found[quantity.kind], spec) for quantity in spec.made_from(metric))


def _part(quantity: Quantity, values: F64, spec: StageSpec) -> Part:
    return Part(quantity=quantity, noise=spec.noise[quantity.name], noisy=values.reshape(-1, 1))


def _holding(value: F64, low: F64, high: F64) -> tuple[F64, F64, F64]:
    """An interval made wide enough to hold the value: PipelineDP's may lie beyond what the bounds allow."""
    return value, np.minimum(low, value), np.maximum(high, value)
