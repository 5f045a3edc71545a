"""The metrics of a stage as the policy states them: each kind with what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dpbeam.policy.schema.auto import ClipOrAuto
from dpbeam.policy.schema.base import (
    MAX_MAGNITUDE,
    ONE_KEY,
    AnyScalar,
    Bound,
    Clip,
    Name,
    ScalarOrList,
    Strict,
    Weight,
    exactly_one,
)
from dpbeam.queries import custom
from dpbeam.queries.bounds import Norm
from dpbeam.queries.metric import MetricKind

METRIC_KINDS: tuple[MetricKind, ...] = get_args(MetricKind)
MAX_EDGES = 10_001
MAX_K = 100
MAX_COLUMNS = 4096
"""The most bin edges of a histogram, and the most columns that a metric lists; a vector is one column."""

_EXPECTED = f"must be count, privacy_id_count, or a mapping from one of {', '.join(METRIC_KINDS[2:])}"

Rank = Annotated[float, Field(ge=0, le=1)]


class CountArgs(Strict):
    """What every metric may say: its share of the budget, and its column in the results."""

    weight: Weight = 1.0
    name: Name | None = None


class ValueArgs(CountArgs):
    """A metric of a column's values, clipped to [low, high]: a sum, mean, variance, median and the like."""

    column: Name
    low: ClipOrAuto
    high: ClipOrAuto


class SumArgs(CountArgs):
    """A sum of a column: of values clipped to [low, high], or of units' totals clipped to [low_total, high_total]."""

    column: Name
    low: ClipOrAuto | None = None
    high: ClipOrAuto | None = None
    low_total: Clip | None = None
    high_total: Clip | None = None

    @model_validator(mode="after")
    def _bounded(self) -> SumArgs:
        values, totals = (self.low, self.high), (self.low_total, self.high_total)
        if (None in values) == (None in totals) or (values, totals).count((None, None)) != 1:
            raise PydanticCustomError("sum_bounds", "must have either low and high, or low_total and high_total")
        return self


class QuantilesArgs(ValueArgs):
    """The values below which the parts `ranks` of the rows lie."""

    ranks: Annotated[tuple[Rank, ...], Field(strict=False, min_length=1, max_length=100)]


class HistogramArgs(CountArgs):
    """Rows by interval of `edges`."""

    column: Name
    edges: Annotated[tuple[Clip, ...], Field(strict=False, min_length=2, max_length=MAX_EDGES)]


class VectorSumArgs(CountArgs):
    """The sum of vectors, whose numbers lie in `columns`, each scaled down to a `norm` of at most `max_norm`."""

    columns: Annotated[tuple[Name, ...], Field(strict=False, min_length=1, max_length=MAX_COLUMNS)]
    norm: Norm
    max_norm: Annotated[float, Field(ge=1e-15, le=MAX_MAGNITUDE)]


class ColumnArgs(CountArgs):
    """Distinct values of `column`."""

    column: Name


class TopKArgs(CountArgs):
    """The `k` most frequent values of `column`: of all of them, or of `candidates`, a list known beforehand."""

    model_config = ConfigDict(
        json_schema_extra={"not": {"required": ["pre_threshold", "candidates"]}},
    )

    column: Name
    k: Annotated[int, Field(ge=1, le=MAX_K)]
    max_values: Bound
    pre_threshold: Bound = 1
    candidates: Annotated[tuple[AnyScalar, ...], Field(strict=False, min_length=1, max_length=MAX_EDGES)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> TopKArgs:
        if self.candidates is not None and (self.k > len(self.candidates) or self.pre_threshold != 1):
            raise PydanticCustomError("top_k", "must have at least k candidates, and with candidates no pre_threshold")
        return self


class CustomArgs(CountArgs):
    """A registered custom metric of `columns`, with its own `params`."""

    metric: Name
    columns: Annotated[tuple[Name, ...], Field(strict=False, min_length=1, max_length=MAX_COLUMNS)]
    params: dict[Name, ScalarOrList] = Field(default_factory=dict)

    def build(self) -> custom.CustomMetric:
        """The metric itself.

        Raises:
            UsageError: it isn't registered, can't be built from these params, or declares no sensitivity.
        """
        return custom.build(self.metric, len(self.columns), self.params)


MetricArgs = (
    CountArgs | SumArgs | ValueArgs | QuantilesArgs | HistogramArgs | VectorSumArgs | ColumnArgs | TopKArgs | CustomArgs
)


ARGUMENTS: Mapping[MetricKind, type[MetricArgs]] = {
    "count": CountArgs,
    "privacy_id_count": CountArgs,
    "sum": SumArgs,
    "mean": ValueArgs,
    "variance": ValueArgs,
    "stddev": ValueArgs,
    "quantiles": QuantilesArgs,
    "median": ValueArgs,
    "min": ValueArgs,
    "max": ValueArgs,
    "vector_sum": VectorSumArgs,
    "histogram": HistogramArgs,
    "distinct_count": ColumnArgs,
    "top_k": TopKArgs,
    "custom": CustomArgs,
}


class MetricChoice(Strict):
    """One metric, under the key of its kind."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    count: CountArgs | None = None
    privacy_id_count: CountArgs | None = None
    sum: SumArgs | None = None
    mean: ValueArgs | None = None
    variance: ValueArgs | None = None
    stddev: ValueArgs | None = None
    quantiles: QuantilesArgs | None = None
    median: ValueArgs | None = None
    min: ValueArgs | None = None
    max: ValueArgs | None = None
    vector_sum: VectorSumArgs | None = None
    histogram: HistogramArgs | None = None
    distinct_count: ColumnArgs | None = None
    top_k: TopKArgs | None = None
    custom: CustomArgs | None = None

    @model_validator(mode="after")
    def _one(self) -> MetricChoice:
        return exactly_one(self, METRIC_KINDS)

    @property
    def kind(self) -> MetricKind:
        """The key under which the metric stands."""
        return next(kind for kind in METRIC_KINDS if getattr(self, kind) is not None)

    @property
    def args(self) -> MetricArgs:
        """What stands under that key."""
        return cast(MetricArgs, getattr(self, self.kind))

    @property
    def result_name(self) -> str:
        """The metric's column in the results, or what its columns' names begin with."""
        args = self.args
        if args.name is not None:
            return args.name
        if isinstance(args, QuantilesArgs):
            return args.column
        if isinstance(args, SumArgs | ValueArgs | HistogramArgs | ColumnArgs | TopKArgs):
            return f"{args.column}_{self.kind}"
        if isinstance(args, CustomArgs):
            return f"{args.columns[0]}_{args.metric}" if len(args.columns) == 1 else args.metric
        return self.kind


def _metric_word(value: object) -> object:
    if isinstance(value, str):
        if value not in ("count", "privacy_id_count"):
            raise PydanticCustomError("metric", _EXPECTED)
        return {value: {}}
    return value


MetricEntry = Annotated[
    MetricChoice,
    BeforeValidator(_metric_word, json_schema_input_type=Literal["count", "privacy_id_count"] | MetricChoice),
]
