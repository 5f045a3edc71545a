"""The one call of PipelineDP's engine that does what a stage asks, or a refusal of what it can't do.

`DPEngine.aggregate` has one noise, one value and one pair of bounds, and makes a sum from the mean and the count where
a mean is asked for too. What it does wrong by itself (docs/from_pipelinedp.md) is either made right here, by what it is
asked for, or refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pipeline_dp
from pipeline_dp.aggregate_params import NormKind

from dpbeam.errors import UsageError
from dpbeam.mechanisms.float_grid import FloatGrid
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.means import Mean, Variance
from dpbeam.queries.metrics.quantiles import QuantileMetric
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.query import Stage
from dpbeam.queries.selections import Selection, Thresholding

_DOES = (Count, UnitCount, Sum, SumOfTotals, Mean, Variance, QuantileMetric, VectorSum)
_AT_LEAST_L1 = (Count, UnitCount, Sum, Mean)
_STRATEGIES = {
    "truncated_geometric": pipeline_dp.PartitionSelectionStrategy.TRUNCATED_GEOMETRIC,
    "laplace_thresholding": pipeline_dp.PartitionSelectionStrategy.LAPLACE_THRESHOLDING,
    "gaussian_thresholding": pipeline_dp.PartitionSelectionStrategy.GAUSSIAN_THRESHOLDING,
}
_NORMS = {"l1": NormKind.L1, "l2": NormKind.L2, "linf": NormKind.Linf}


@dataclass(frozen=True, kw_only=True)
class ReferenceCall:
    """One call of PipelineDP's engine: its `params`, and how a stage's metrics are to be found in what it returns.

    `folded` are the stage's metrics as PipelineDP computes them: those that it makes from a mean or a variance are one
    with it. `grid` is where the values have to lie (None: the metrics read none, or read vectors).
    """

    params: Any
    metrics: tuple[Metric, ...]
    folded: tuple[Metric, ...]
    bounds: Bounds
    grid: FloatGrid | None


def reference_call(stage: Stage) -> ReferenceCall:
    """The call that does what the stage says.

    Raises:
        UsageError: PipelineDP can't do it, or does it wrong; nothing was charged.
    """
    where = f"stage {stage.name}"
    if stage.histograms:
        raise UsageError(f"{where}: PipelineDP finds no bounds; state them, or run without --engine=pipelinedp")
    metrics, limits, private = stage.metrics, stage.bounds, stage.selection
    _check_selection(where, metrics, private)
    _check_metrics(where, metrics)
    _check_bounds(where, metrics, limits, private)
    _check_vectors(where, metrics, limits, stage)
    post = _shares_count(where, metrics, stage)
    grid = _grid(where, metrics)
    vector = next((m for m in metrics if isinstance(m, VectorSum)), None)
    totals = any(isinstance(m, SumOfTotals) for m in metrics)
    low, high = (grid.low, grid.high) if grid is not None else (None, None)
    params = pipeline_dp.AggregateParams(
        metrics=_pipelinedp_metrics(metrics),
        noise_kind=pipeline_dp.NoiseKind(stage.noise),
        max_partitions_contributed=limits.l0,
        # Without linf nothing adds up rows; PipelineDP wants a number all the same, and doesn't look at it then.
        max_contributions_per_partition=None if limits.l0 is None else limits.linf or 1,
        max_contributions=limits.l1,
        min_value=None if totals else low,
        max_value=None if totals else high,
        min_sum_per_partition=low if totals else None,
        max_sum_per_partition=high if totals else None,
        vector_norm_kind=None if vector is None else _NORMS[vector.norm],
        vector_max_norm=None if vector is None else vector.max_norm,
        vector_size=None if vector is None else vector.numbers,
        partition_selection_strategy=_STRATEGIES[private.strategy if private else "truncated_geometric"],
        pre_threshold=private.pre_threshold if private and private.pre_threshold > 1 else None,
        post_aggregation_thresholding=post,
    )
    return ReferenceCall(params=params, metrics=metrics, folded=_folded(metrics), bounds=limits, grid=grid)


def percentiles(metrics: Sequence[Metric]) -> tuple[float, ...]:
    """The ranks that the metrics ask for as PipelineDP has them, 0 to 100, each once, rising."""
    ranks = {rank for metric in metrics if isinstance(metric, QuantileMetric) for rank in metric.ranks}
    return tuple(float(f"{rank * 100:.10g}") for rank in sorted(ranks))


def _pipelinedp_metrics(metrics: Sequence[Metric]) -> list[Any]:
    names, kinds = pipeline_dp.Metrics, {metric.kind for metric in metrics}
    asked = []
    if "variance" in kinds:
        asked.append(names.VARIANCE)
    if kinds & {"mean", "variance"}:  # and the parts that its interval is made from, which cost nothing more
        asked += [names.MEAN, names.COUNT]
    elif "count" in kinds:
        asked.append(names.COUNT)
    if "sum" in kinds:
        asked.append(names.SUM)
    if "privacy_id_count" in kinds:
        asked.append(names.PRIVACY_ID_COUNT)
    if "vector_sum" in kinds:
        asked.append(names.VECTOR_SUM)
    return asked + [names.PERCENTILE(percentile) for percentile in percentiles(metrics)]


def _folded(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics, those that PipelineDP makes from a variance or a mean being part of it, with their weights."""
    variances = [m for m in metrics if isinstance(m, Variance)]
    means = [m for m in metrics if isinstance(m, Mean)]
    if variances:
        # A variance's (ε, δ) is split evenly over its count, sum and squares, whoever else needs one of them.
        merged = [m for m in metrics if isinstance(m, Variance | Mean | Sum | Count)]
        others = [m for m in metrics if m not in merged]
        return (replace(variances[0], weight=sum(m.weight for m in merged)), *others)
    if means:
        sums = [Mean(**vars(m)) for m in metrics if isinstance(m, Sum)]
        return (*(m for m in metrics if not isinstance(m, Sum)), *sums)
    return tuple(metrics)


def _check_selection(where: str, metrics: Sequence[Metric], private: Selection | None) -> None:
    if private is not None and private.strategy not in _STRATEGIES:
        raise UsageError(f"{where}: PipelineDP has no {private.strategy}; use one of {', '.join(_STRATEGIES)}")
    if private is not None and private.hierarchy is not None:
        raise UsageError(f"{where}: PipelineDP has no hierarchical keys; run without --engine=pipelinedp")
    if not metrics:
        raise UsageError(f"{where}: PipelineDP's aggregation needs a metric; run without --engine=pipelinedp")


def _check_metrics(where: str, metrics: Sequence[Metric]) -> None:
    for metric in metrics:
        if not isinstance(metric, _DOES):
            raise UsageError(
                f"{where}: PipelineDP has no {metric.kind}; leave {metric.name} out, or run without --engine=pipelinedp"
            )
    values = {(m.column, m.low, m.high) for m in metrics if isinstance(m, Clipped)}
    totals = {(m.column, m.low_total, m.high_total) for m in metrics if isinstance(m, SumOfTotals)}
    vectors = {(m.columns, m.norm, m.max_norm) for m in metrics if isinstance(m, VectorSum)}
    if len(values) + len(totals) + len(vectors) > 1:
        raise UsageError(
            f"{where}: PipelineDP reads one column with one pair of bounds in a stage; give each column, and each pair "
            "of bounds, a stage of its own"
        )


def _check_bounds(where: str, metrics: Sequence[Metric], limits: Bounds, private: Selection | None) -> None:
    totals = any(isinstance(m, SumOfTotals) for m in metrics)
    if limits.l1 is not None:
        if private is not None:
            raise UsageError(f"{where}: PipelineDP fails on bounds.l1 with private partitions; use l0 and linf")
        for metric in metrics:
            if not isinstance(metric, _AT_LEAST_L1):
                raise UsageError(f"{where}: PipelineDP has no {metric.kind} of {metric.name} under bounds.l1; use l0")
    if totals and limits.linf is not None and not any(isinstance(m, Count) for m in metrics):
        raise UsageError(
            f"{where}: PipelineDP doesn't apply bounds.linf before it adds up a unit's total; leave linf out"
        )
    if private is not None and private.strategy not in _STRATEGIES:
        raise UsageError(
            f"{where}: PipelineDP has no {private.strategy}; choose one of {', '.join(_STRATEGIES)} as the strategy"
        )


def _check_vectors(where: str, metrics: Sequence[Metric], limits: Bounds, stage: Stage) -> None:
    for metric in metrics:
        if not isinstance(metric, VectorSum):
            continue
        if stage.selection is None:
            raise UsageError(
                f"{where}: PipelineDP fails on a vector_sum with public partitions; use private ones, or our engine"
            )
        if limits.linf != 1:
            raise UsageError(
                f"{where}: PipelineDP shortens the sum of a unit's vectors, not each vector; set bounds.linf to 1"
            )
        if (stage.noise, metric.norm) in (("laplace", "l2"), ("gaussian", "l1")):
            raise UsageError(
                f"{where}: PipelineDP has no {stage.noise} noise for a vector's {metric.norm} norm; "
                "use laplace with l1, gaussian with l2, or linf"
            )


def _shares_count(where: str, metrics: Sequence[Metric], stage: Stage) -> bool:
    """Whether the noisy unit count that selects is released too."""
    private = stage.selection
    if private is None or not isinstance(private, Thresholding) or not any(isinstance(m, UnitCount) for m in metrics):
        return False
    if private.pre_threshold > 1:
        raise UsageError(
            f"{where}: PipelineDP can't release the unit count of a selection with a pre_threshold; leave "
            "privacy_id_count or pre_threshold out"
        )
    if private.strategy != f"{stage.noise}_thresholding":
        raise UsageError(
            f"{where}: PipelineDP releases the unit count of {stage.noise}_thresholding only, got {private.strategy}; "
            "change the strategy or the noise"
        )
    return True


def _grid(where: str, metrics: Sequence[Metric]) -> FloatGrid | None:
    """Where values lie, so that PipelineDP's sums of floats are exact."""
    valued = [m for m in metrics if isinstance(m, Clipped | SumOfTotals)]
    if not valued:
        return None
    first, kinds = valued[0], {m.kind for m in valued}
    low, high = (first.low_total, first.high_total) if isinstance(first, SumOfTotals) else (first.low, first.high)
    try:
        return FloatGrid.for_bounds(
            low, high, squares="variance" in kinds, centred=not ("sum" in kinds and not kinds & {"mean", "variance"})
        )
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
