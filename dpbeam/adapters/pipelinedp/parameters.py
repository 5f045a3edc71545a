"""The parameters of a PipelineDP job read as a stage of ours, and as the mechanisms that it needs.

`AggregateParams` and `SelectPartitionsParams` are taken as they are. What they say that would rest on trust in the
data, or that our engine doesn't do, is refused by name. What PipelineDP 0.2 hasn't got yet has the default of 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import pipeline_dp
import pyarrow as pa
from pipeline_dp.aggregate_params import NormKind

from dpbeam.accounting.requests import Request, check_positive
from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.adapters.pipelinedp.parameters_check import check_aggregate, check_select
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import UsageError
from dpbeam.policy.schema.base import MAX_BOUND, MAX_MAGNITUDE
from dpbeam.queries.bounds import Bounds, Norm
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.means import Mean, Variance
from dpbeam.queries.metrics.quantiles import Quantiles
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.query import Public, Stage
from dpbeam.queries.selections import GaussianThresholding, LaplaceThresholding, Selection, TruncatedGeometric

UNIT, KEY, VALUE = "privacy_id", "partition_key", "value"
"""The columns that PipelineDP's extractors fill."""

_STRATEGIES: dict[str, type[Selection]] = {
    "TRUNCATED_GEOMETRIC": TruncatedGeometric,
    "LAPLACE_THRESHOLDING": LaplaceThresholding,
    "GAUSSIAN_THRESHOLDING": GaussianThresholding,
}
_MAX_LENGTH = 2**16
"""Of vectors. A policy's are shorter (`dpbeam.reading.vectors`), for there each number has columns in files."""
_NORMS: dict[NormKind, Norm] = {NormKind.L1: "l1", NormKind.L2: "l2", NormKind.Linf: "linf"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of the `MetricsTuple` that PipelineDP would return: the result columns it is made from.

    A vector has several; a noise's standard deviation has none, but the quantity whose noise it is.
    """

    name: str
    columns: tuple[str, ...] = ()
    noise_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What a call of PipelineDP's engine asks, and what is returned of each partition."""

    stage: Stage
    fields: tuple[Field, ...]

    @property
    def spec(self) -> StageSpec:
        """The stage as the engine knows it before its budget is computed: without its noise."""
        return StageSpec(
            name=self.stage.name,
            unit=UNIT,
            keys=self.stage.keys,
            key_types=self.stage.key_types,
            bounds=self.stage.bounds,
            metrics=self.stage.metrics,
            noise={},
            selection=None,
        )


def aggregate_stage(params: Any, *, name: str, public: pa.Table | None) -> Migrated:
    """The stage that does what `DPEngine.aggregate` does with these parameters; `public` are the public partitions, a
    table of one column, if there are any.

    Guarantee: each of the stage's noisy quantities, and its selection, has its request, for the sensitivity that
    follows from the parameters' bounds (as derived twice, here and by `check_plan`); nothing that PipelineDP would take
    on trust is taken.

    Raises:
        UsageError: not AggregateParams; or something in them that our engine doesn't do, or that isn't safe.
    """
    if not isinstance(params, pipeline_dp.AggregateParams):
        raise UsageError(f"params must be pipeline_dp.AggregateParams, got {type(params).__name__}")
    _check_trust(params, public is not None)
    metrics = tuple(_metrics(params))
    stage = Stage(
        name=name,
        keys=(KEY,),
        key_types=("string",),
        partitions=_private(params) if public is None else Public(table=public),
        bounds=_bounds(params),
        metrics=metrics,
        noise=params.noise_kind.value,
        weight=_weight(params.budget_weight),
    )
    check_aggregate(params, _requests(stage), public=public is not None)
    return Migrated(stage=stage, fields=tuple(_fields(params, metrics, shared=stage.shares_count)))


def select_stage(params: Any, *, name: str) -> Migrated:
    """The stage that does what `DPEngine.select_partitions` does with these parameters.

    Raises:
        UsageError: as `aggregate_stage`.
    """
    if not isinstance(params, pipeline_dp.SelectPartitionsParams):
        raise UsageError(f"params must be pipeline_dp.SelectPartitionsParams, got {type(params).__name__}")
    _check_not_enforced(params)
    stage = Stage(
        name=name,
        keys=(KEY,),
        key_types=("string",),
        partitions=_private(params),
        bounds=Bounds(l0=_whole("max_partitions_contributed", params.max_partitions_contributed)),
        metrics=(),
        noise=None,
        weight=_weight(params.budget_weight),
    )
    check_select(params, _requests(stage))
    return Migrated(stage=stage, fields=())


def _requests(stage: Stage) -> tuple[Request, ...]:
    try:
        return stage_requests(stage)
    except ValueError as error:
        raise UsageError(f"metrics can't be computed together: {error}") from None


def _check_not_enforced(params: Any) -> None:
    if getattr(params, "contribution_bounds_already_enforced", False):
        raise UsageError(
            "contribution_bounds_already_enforced must be False: dpbeam bounds what each privacy id contributes itself"
        )


def _check_trust(params: Any, public: bool) -> None:
    if params.custom_combiners:
        raise UsageError("custom_combiners can't be run: they are PipelineDP's; use its engine for them")
    if not params.metrics:
        raise UsageError("metrics must name at least one metric; to select partitions alone, call select_partitions")
    _check_not_enforced(params)
    if not getattr(params, "perform_cross_partition_contribution_bounding", True):
        raise UsageError(
            "perform_cross_partition_contribution_bounding must be True: dpbeam bounds what each privacy id contributes"
        )
    if params.public_partitions_already_filtered and not public:
        raise UsageError(
            "public_partitions_already_filtered must go with public_partitions: without them PipelineDP would show "
            "every partition, selected by nothing"
        )


def _bounds(params: Any) -> Bounds:
    if params.max_contributions is not None:
        return Bounds(l1=_whole("max_contributions", params.max_contributions))
    return Bounds(
        l0=_whole("max_partitions_contributed", params.max_partitions_contributed),
        linf=_whole("max_contributions_per_partition", params.max_contributions_per_partition),
    )


def _whole(name: str, value: Any, most: int = MAX_BOUND) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= most:
        raise UsageError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
    return int(value)  # NumPy's integers, too, are whole numbers to PipelineDP


def _weight(value: Any) -> float:
    check_positive("budget_weight", value)
    return float(value)


def _private(params: Any) -> Selection:
    return _strategy(params)(pre_threshold=_whole("pre_threshold", params.pre_threshold or 1))


def _strategy(params: Any) -> type[Selection]:
    if getattr(params, "post_aggregation_thresholding", False):
        if pipeline_dp.Metrics.PRIVACY_ID_COUNT not in params.metrics:
            raise UsageError("post_aggregation_thresholding needs PRIVACY_ID_COUNT among the metrics; add it")
        return LaplaceThresholding if params.noise_kind.value == "laplace" else GaussianThresholding
    strategy = params.partition_selection_strategy
    if strategy.name not in _STRATEGIES:
        raise UsageError(
            f"partition_selection_strategy must be one of {', '.join(_STRATEGIES)}, got {strategy.name}; "
            "GAUSSIAN_THRESHOLDING comes nearest"
        )
    return _STRATEGIES[strategy.name]


def _metrics(params: Any) -> list[Metric]:
    metrics = [_metric(asked, params) for asked in dict.fromkeys(params.metrics) if not asked.is_percentile]
    ranks = tuple(sorted({_rank(asked.parameter) for asked in params.metrics if asked.is_percentile}))
    if ranks:
        low, high = _value_bounds(params, "PERCENTILE")
        metrics.append(Quantiles(name="percentiles", column=VALUE, low=low, high=high, ranks=ranks))
    return metrics


_CLIPPED: dict[str, type[Sum | Mean | Variance]] = {"SUM": Sum, "MEAN": Mean, "VARIANCE": Variance}


def _metric(asked: Any, params: Any) -> Metric:
    match asked.name:
        case "COUNT":
            return Count(name="count")
        case "PRIVACY_ID_COUNT":
            return UnitCount(name="privacy_id_count")
        case "SUM" if params.min_sum_per_partition is not None:
            low, high = _ordered("sum_per_partition", params.min_sum_per_partition, params.max_sum_per_partition)
            return SumOfTotals(name="sum", column=VALUE, low_total=low, high_total=high)
        case "SUM" | "MEAN" | "VARIANCE":
            low, high = _value_bounds(params, asked.name)
            return _CLIPPED[asked.name](name=asked.name.lower(), column=VALUE, low=low, high=high)
        case "VECTOR_SUM":
            return _vector(params)
    raise UsageError(f"metrics: dpbeam has no {asked.name} of PipelineDP's; leave it out, or use PipelineDP's engine")


def _vector(params: Any) -> Metric:
    most, norm = params.vector_max_norm, params.vector_norm_kind
    length = _whole("vector_size", params.vector_size, _MAX_LENGTH)
    check_positive("vector_max_norm", most)
    if not most <= MAX_MAGNITUDE:
        raise UsageError(f"vector_max_norm must be at most 1e15, got {most!r}")
    if norm not in _NORMS:
        raise UsageError(f"vector_norm_kind must be NormKind.L1, L2 or Linf, got {norm!r}")
    return VectorSum(name="vector_sum", columns=(VALUE,), length=length, norm=_NORMS[norm], max_norm=float(most))


def _value_bounds(params: Any, metric: str) -> tuple[float, float]:
    if params.min_value is None or params.max_value is None:
        raise UsageError(f"min_value and max_value must be given for {metric}")
    return _ordered("value", params.min_value, params.max_value)


def _ordered(what: str, low: Any, high: Any) -> tuple[float, float]:
    numbers = all(isinstance(bound, Real) and not isinstance(bound, bool) for bound in (low, high))
    if not (numbers and -MAX_MAGNITUDE <= low < high <= MAX_MAGNITUDE):
        raise UsageError(f"min_{what} must be below max_{what}, both within ±1e15, got {low!r} and {high!r}")
    return float(low), float(high)


def _rank(percentile: Any) -> float:
    if isinstance(percentile, bool) or not isinstance(percentile, Real) or not 0 <= float(percentile) <= 100:
        raise UsageError(f"PERCENTILE must be between 0 and 100, got {percentile!r}")
    return float(percentile) / 100


def _fields(params: Any, metrics: Sequence[Metric], *, shared: bool) -> list[Field]:
    """The fields of PipelineDP's `MetricsTuple`, in its order."""
    known = {metric.kind: metric for metric in metrics}
    moments = ("variance", "count", "sum", "mean") if "variance" in known else ("mean", "count", "sum")
    order = [*moments, "privacy_id_count", "vector_sum"]
    if not known.keys() & {"variance", "mean"}:
        order = ["count", "sum", "privacy_id_count", "vector_sum"]
    noise_stated = getattr(params, "output_noise_stddev", False)
    fields: list[Field] = []
    for kind in order:
        if kind not in known:
            continue
        metric = known[kind]
        fields.append(Field(name=kind, columns=metric.released))
        # PipelineDP states the noise of these alone, and not where it makes them from a mean or thresholds them.
        stated = kind == "privacy_id_count" or (kind in ("count", "sum") and not known.keys() & {"variance", "mean"})
        if noise_stated and stated and not (kind == "privacy_id_count" and shared):
            fields.append(Field(name=f"{kind}_noise_stddev", noise_of=metric.quantities[0].name))
    quantiles = known.get("quantiles")
    if isinstance(quantiles, Quantiles):
        of_rank = dict(zip(quantiles.ranks, quantiles.released, strict=True))
        asked = (metric.parameter for metric in params.metrics if metric.is_percentile)
        # 50 and 50.0 are one percentile; PipelineDP has one name for both, and fails on it.
        named = {percentile_name(percentile): of_rank[_rank(percentile)] for percentile in asked}
        fields += [Field(name=name, columns=(column,)) for name, column in named.items()]
    return fields


def percentile_name(percentile: float) -> str:
    """What PipelineDP calls a percentile's field."""
    whole = round(percentile)
    return f"percentile_{whole}" if whole == percentile else f"percentile_{percentile}".replace(".", "_")
