"""The released table of what PipelineDP's engine returns for partitions: its own values, with 95 % intervals.

All of it is post-processing of noisy numbers and public parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64
from dpbeam.engine.release.results import result_schema
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms import moments, threshold_bias
from dpbeam.mechanisms.moments import NoisyQuantity
from dpbeam.mechanisms.noise_width import half_width
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.means import Mean, Moment, Variance
from dpbeam.queries.metrics.quantiles import QuantileMetric
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.quantities import Quantity, Squares
from dpbeam.queries.quantities import Sum as Centred


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
    match metric:
        case UnitCount() if spec.shares_count:
            value = noisy["privacy_id_count"]
            return [(value, *threshold_bias.interval(value, spec.thresholding))]
        case Count() | UnitCount():
            return [_plain(noisy[metric.kind], metric, spec)]
        case Sum() | SumOfTotals():
            return [_sum(metric, noisy, spec)]
        case Mean():
            total, count = _sum_of(metric, noisy, spec), _part_of(metric, 1, noisy, spec)
            return [_holding(noisy["mean"], *moments.mean(total, count)[1:])]
        case Variance():
            total = _sum_of(metric, noisy, spec)
            squares, count = _part_of(metric, 1, noisy, spec), _part_of(metric, 2, noisy, spec)
            interval = moments.variance(total, squares, count, shift=0.0)
            return [_holding(noisy["variance"], *interval[1:])]
        case QuantileMetric():
            low, high = metric.low, metric.high
            values = [np.clip(noisy[percentile_name(rank)], low, high) for rank in metric.ranks]
            return [(value, np.full_like(value, low), np.full_like(value, high)) for value in values]
        case VectorSum():
            return [_plain(value, metric, spec) for value in noisy["vector_sum"].T]
        case _:
            raise ValueError(f"PipelineDP has no {metric.kind}")


def _plain(value: F64, metric: Metric, spec: StageSpec) -> tuple[F64, ...]:
    margin = half_width(spec.noise[spec.made_from(metric)[0].name])
    return value, value - margin, value + margin


def _sum(metric: Metric, noisy: Mapping[str, F64], spec: StageSpec) -> tuple[F64, ...]:
    """A sum by itself; or, beside a mean, the mean times the count: there middle·C + S bounds it, C below 1 being 1."""
    moment = next((m for m in spec.metrics if isinstance(m, Mean | Variance)), None)
    if moment is None:
        return _plain(noisy["sum"], metric, spec)
    total, count = _sum_of(moment, noisy, spec), _part_of(moment, -1, noisy, spec)
    middle = total.quantity.centre
    margin = moments.half_width_of_sum((total, count), (1.0, middle))
    about = middle * count.noisy[:, 0] + total.noisy[:, 0]
    return _holding(noisy["sum"], about - margin, about + margin)


def _sum_of(metric: Moment, noisy: Mapping[str, F64], spec: StageSpec) -> NoisyQuantity[Centred]:
    """The noisy centred sum that PipelineDP made its mean or variance from, computed back from what it returned."""
    quantity = _centred(metric, spec)
    away = noisy["mean"] - quantity.centre
    return _part(quantity, away * np.maximum(noisy["count"], 1.0), spec)


def _part_of(metric: Moment, place: int, noisy: Mapping[str, F64], spec: StageSpec) -> NoisyQuantity[Quantity]:
    """The same of what else it was made from: squares, or the count, which is the last."""
    quantity = spec.made_from(metric)[place]
    if isinstance(quantity, Squares):
        away = noisy["mean"] - _centred(metric, spec).centre
        return _part(quantity, (noisy["variance"] + away**2) * np.maximum(noisy["count"], 1.0), spec)
    return _part(quantity, noisy["count"], spec)


def _centred(metric: Moment, spec: StageSpec) -> Centred:
    quantity = spec.made_from(metric)[0]
    if not isinstance(quantity, Centred):
        raise TypeError(f"{metric.name} must be made from a sum, got a {quantity.kind}")
    return quantity


Q = TypeVar("Q", bound=Quantity)


def _part(quantity: Q, values: F64, spec: StageSpec) -> NoisyQuantity[Q]:
    return NoisyQuantity(quantity=quantity, noise=spec.noise[quantity.name], noisy=values.reshape(-1, 1))


def _holding(value: F64, low: F64, high: F64) -> tuple[F64, F64, F64]:
    """An interval made wide enough to hold the value: PipelineDP's may lie beyond what the bounds allow."""
    return value, np.minimum(low, value), np.maximum(high, value)
