"""Accumulators of kept partitions in, the released table out: noisy quantities, then metrics with 95 % intervals.

`noisy_quantities` is the only step that draws noise. What `metrics` does after it is post-processing of noisy
numbers and public parameters: it costs nothing and can be done again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.mechanisms.accumulate import COUNT, USERS, grid_of, key_fields
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.spec import Metric, StageSpec, mean_numerator

F64 = npt.NDArray[np.float64]

NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
LAPLACE_95 = math.log(20.0)
"""Where the two tails of a standard Laplace distribution leave 5 %."""

_BISECTIONS = 60


def std(mechanism: Additive) -> float:
    """The standard deviation of a mechanism's noise."""
    match mechanism:
        case Gaussian(sigma=sigma):
            return sigma
        case Laplace(scale=scale):
            return scale * math.sqrt(2)


def half_width(mechanism: Additive) -> float:
    """Half the width of the 95 % interval of a mechanism's noise."""
    match mechanism:
        case Gaussian(sigma=sigma):
            return NORMAL_95 * sigma
        case Laplace(scale=scale):
            return LAPLACE_95 * scale


def noisy_schema(spec: StageSpec) -> pa.Schema:
    """Keys, then `__noisy_<quantity>` float64 for each quantity."""
    return _schema(spec, [_noisy(quantity.name) for quantity in spec.quantities])


def result_schema(spec: StageSpec) -> pa.Schema:
    """Keys, then `<metric>`, `<metric>_low`, `<metric>_high` float64 for each metric."""
    return _schema(spec, [name for metric in spec.metrics for name in interval_columns(metric)])


def interval_columns(metric: Metric) -> tuple[str, str, str]:
    return metric.name, f"{metric.name}_low", f"{metric.name}_high"


def noisy_quantities(
    accumulators: pa.RecordBatch, spec: StageSpec, noises: Mapping[str, AdditiveNoise]
) -> pa.RecordBatch:
    """Adds each quantity's noise once to each partition.

    Guarantee: each value costs one application of its quantity's mechanism, which must be calibrated to the stage's
    bounds; the partitions must be public or come from a selection that is paid for.
    """
    columns = []
    for i, quantity in enumerate(spec.quantities):
        noise = noises[quantity.name]
        match quantity.kind:
            case "count":
                columns.append(noise.to_counts(accumulators.column(COUNT).to_numpy()))
            case "privacy_id_count":
                columns.append(noise.to_counts(accumulators.column(USERS).to_numpy()))
            case "sum":
                columns.append(noise.to_sums(accumulators.column(f"__sum_{i}").to_numpy(), grid_of(quantity)))
    return _batch(accumulators, columns, noisy_schema(spec), spec)


def metrics(noisy: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    """Each metric with its 95 % interval: for the partition's bounded data, over the noise alone.

    Counts and sums: value ± half-width. A mean is centre + S/C in [low, high], with C below 1 taken as 1; its
    interval holds the means m that the noisy pair (S, C) doesn't reject at 5 % (Fieller, 1954), cut to [low, high],
    and is [low, high] where the noisy count is not clearly above 0. Bounding and clipping bias is not in the
    intervals.
    """
    columns: list[F64] = []
    for metric in spec.metrics:
        if metric.kind == "mean":
            columns.extend(_mean(metric, noisy, spec))
            continue
        name = metric.name if metric.kind == "sum" else metric.kind
        value = noisy.column(_noisy(name)).to_numpy()
        margin = half_width(spec.noise[name])
        columns.extend((value, value - margin, value + margin))
    return _batch(noisy, columns, result_schema(spec), spec)


def _mean(metric: Metric, noisy: pa.RecordBatch, spec: StageSpec) -> tuple[F64, F64, F64]:
    numerator = mean_numerator(metric)
    quantity = next(q for q in spec.quantities if q.name == numerator)
    total = noisy.column(_noisy(numerator)).to_numpy()
    count = noisy.column(_noisy("count")).to_numpy()
    lowest, highest = quantity.low - quantity.centre, quantity.high - quantity.centre
    match spec.noise[numerator], spec.noise["count"]:
        case Gaussian(sigma=of_sum), Gaussian(sigma=of_count):
            low, high = _gaussian_ratio(total, count, of_sum, of_count)
            clear = count > NORMAL_95 * of_count
        case Laplace(scale=of_sum), Laplace(scale=of_count):
            low, high = _laplace_ratio(total, count, of_sum, of_count, lowest, highest)
            clear = count > LAPLACE_95 * of_count
        case _:
            raise ValueError(f"stage {spec.name}: metric {metric.name} needs one kind of noise for its sum and count")
    value = np.clip(total / np.maximum(count, 1.0), lowest, highest)
    low = np.where(clear, np.clip(low, lowest, highest), lowest)
    high = np.where(clear, np.clip(high, lowest, highest), highest)
    # The interval is about S/C; where C is below 1 the value isn't, and the interval is stretched to hold it.
    low, high = np.minimum(low, value), np.maximum(high, value)
    value, low, high = (np.clip(part + quantity.centre, quantity.low, quantity.high) for part in (value, low, high))
    return value, low, high


def _gaussian_ratio(total: F64, count: F64, of_sum: float, of_count: float) -> tuple[F64, F64]:
    """The t with (S − tC)² ≤ z²(σ_S² + t²σ_C²), where C > zσ_C makes them an interval."""
    a = count**2 - (NORMAL_95 * of_count) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        root = NORMAL_95 * np.sqrt(
            (count * of_sum) ** 2 + (total * of_count) ** 2 - (NORMAL_95 * of_sum * of_count) ** 2
        )
        return (total * count - root) / a, (total * count + root) / a


def _laplace_ratio(
    total: F64, count: F64, of_sum: float, of_count: float, lowest: float, highest: float
) -> tuple[F64, F64]:
    """The ends, within [lowest, highest], of the t at which |S − tC| is not beyond 95 % of the noise of S − tC.

    By bisection from S/C outwards: with C > ln(20)·b_C the left side grows faster than the quantile.
    """
    best = np.clip(total / np.where(count > 0, count, 1.0), lowest, highest)

    def rejected(t: F64) -> npt.NDArray[np.bool_]:
        return _two_laplace_tail(np.abs(total - t * count), of_sum, np.abs(t) * of_count) < 0.05

    ends = []
    for end in (lowest, highest):
        inner, outer = best.copy(), np.full_like(best, end)
        whole = ~rejected(outer)
        for _ in range(_BISECTIONS):
            middle = inner + (outer - inner) / 2
            out = rejected(middle)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        ends.append(np.where(whole, end, outer))
    return ends[0], ends[1]


def _two_laplace_tail(distance: F64, a: float, b: F64) -> F64:
    """P(|X + Y| > distance) for independent X ~ Laplace(a), Y ~ Laplace(b), b ≥ 0."""
    close = np.abs(b - a) < 1e-6 * a
    apart = np.where(close, 2 * a, np.maximum(b, 1e-300))
    # a² − b² cancels where the scales are close; the limit there is (1 + d/2a)·exp(−d/a).
    general = (a**2 * np.exp(-distance / a) - apart**2 * np.exp(-distance / apart)) / (a**2 - apart**2)
    return np.where(close, (1 + distance / (2 * a)) * np.exp(-distance / a), general)


def _noisy(quantity: str) -> str:
    return f"__noisy_{quantity}"


def _schema(spec: StageSpec, names: list[str]) -> pa.Schema:
    return pa.schema([*key_fields(spec), *(pa.field(name, pa.float64(), nullable=False) for name in names)])


def _batch(source: pa.RecordBatch, columns: list[F64], schema: pa.Schema, spec: StageSpec) -> pa.RecordBatch:
    keys = [source.column(name) for name in spec.keys]
    return pa.RecordBatch.from_arrays([*keys, *(pa.array(column) for column in columns)], schema=schema)
