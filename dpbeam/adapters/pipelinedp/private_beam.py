"""PipelineDP's private collections, on our engine: the same transforms and parameters as `pipeline_dp.private_beam`.

    private = rows | MakePrivate(budget_accountant=accountant, privacy_id_extractor=lambda row: row.user)
    sums = private | Sum(pipeline_dp.SumParams(…))
    accountant.compute_budgets()

Guarantee: all that comes out of all private collections of one `SharedBudgetAccountant` is (`total_epsilon`,
`total_delta`)-DP together, the unit being a privacy id with all its rows, as `MakePrivate` read them: each result comes
out of `DPEngine`, with its bounds, its selection and noise of that accountant. It holds if the functions given to
`MakePrivate`, `Map`, `FlatMap` and the parameters are functions of one row: what they make of a row depends on no other
row, and they write or send nothing. `Map` and `FlatMap` keep the privacy id of the row that an element was made from,
and never see it. What breaks it: a function that looks at other rows (a global, a side input, a model that was fitted
to the rows), one whose exceptions or logs are shown to others, an id that several rows of one person don't share, and
public partitions that were read off the rows. As everywhere with `DPEngine`, a runner that repeats work may draw twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import apache_beam as beam
import pipeline_dp
from pipeline_dp import private_beam as theirs

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import PrivateAggregate, PrivateSelectPartitions
from dpbeam.adapters.pipelinedp.private_rows import FirstFigure, OfRow, WithId, id_of, of_row, one_row, unique_label
from dpbeam.errors import UsageError

__all__ = [
    "CombinePerKey",
    "CombinePerKeyParams",
    "Count",
    "FlatMap",
    "MakePrivate",
    "Map",
    "Mean",
    "PrivacyIdCount",
    "PrivateCombineFn",
    "PrivatePCollection",
    "PrivatePTransform",
    "SelectPartitions",
    "Sum",
    "Variance",
]

PrivateCombineFn = theirs.PrivateCombineFn
"""PipelineDP's base class for combiners with noise of their own, so that jobs can be read: `CombinePerKey` refuses."""
CombinePerKeyParams = theirs.CombinePerKeyParams

Pairs = Any
"""A collection of (privacy id, row)."""


class PrivatePTransform(beam.PTransform[Pairs, Any]):
    """What a private collection takes. Only this module's own: another could put out rows as they are."""

    def __init__(self, label: str | None = None) -> None:
        super().__init__(label)
        self._accountant: SharedBudgetAccountant | None = None

    def __rrshift__(self, label: str) -> PrivatePTransform:
        self.label = label
        return self

    @property
    def accountant(self) -> SharedBudgetAccountant:
        """That of the private collection.

        Raises:
            UsageError: it is applied to another collection.
        """
        if self._accountant is None:
            raise UsageError(
                f"{type(self).__name__} must be applied to a PrivatePCollection: make one with rows | "
                "MakePrivate(budget_accountant=accountant, privacy_id_extractor=…)"
            )
        return self._accountant


class PrivatePCollection:
    """Rows with their privacy ids, out of which come only results of the private transforms.

    Args:
        pcol: a collection of (privacy id, row).
        budget_accountant: pays for all that comes out.

    Raises:
        UsageError: `budget_accountant` is no SharedBudgetAccountant.
    """

    def __init__(self, pcol: Pairs, budget_accountant: SharedBudgetAccountant) -> None:
        _check_accountant(budget_accountant)
        self._pairs = pcol
        self._accountant = budget_accountant

    def __or__(self, private_transform: Any) -> Any:
        """A PrivatePCollection after `Map` and `FlatMap`; else a collection of results. Labels are made unique.

        Raises:
            UsageError: not one of this module's transforms, or one that refuses its parameters.
        """
        if type(private_transform) not in (*_ANONYMIZING, Map, FlatMap):
            kind = type(private_transform)
            raise UsageError(
                f"a PrivatePCollection takes the transforms of dpbeam.adapters.pipelinedp.private_beam alone, got "
                f"{kind.__module__}.{kind.__qualname__}; what works on single rows is private_beam.Map or FlatMap"
            )
        private_transform._accountant = self._accountant
        pipeline = self._pairs.pipeline
        applied = pipeline.apply(private_transform, self._pairs, unique_label(pipeline, private_transform.label))
        anonymous = type(private_transform) in _ANONYMIZING
        return applied if anonymous else PrivatePCollection(applied, self._accountant)


class MakePrivate(beam.PTransform[Any, Any]):
    """Rows into a `PrivatePCollection`: each with its privacy id, by which all that follows is bounded.

    Args:
        budget_accountant: a `SharedBudgetAccountant`; its `compute_budgets()` is called before the pipeline runs.
        privacy_id_extractor: of a row, whose it is (docs/from_pipelinedp.md has the types). Rows of None are left out.

    Raises:
        UsageError: `budget_accountant` is another accountant.
    """

    def __init__(
        self,
        budget_accountant: SharedBudgetAccountant,
        privacy_id_extractor: Callable[[Any], Any],
        label: str | None = None,
    ) -> None:
        super().__init__(label)
        _check_accountant(budget_accountant)
        self._accountant = budget_accountant
        self._extractor = privacy_id_extractor

    def expand(self, rows: Any) -> PrivatePCollection:
        pairs = rows | "PrivacyIds" >> beam.ParDo(WithId(self._extractor)).with_output_types(tuple[Any, Any])
        return PrivatePCollection(pairs, self._accountant)


class Map(PrivatePTransform):
    """Each row into what `fn` makes of it, with the same privacy id.

    Guarantee: as this module's, if `fn` is a function of the one row.
    """

    def __init__(self, fn: Callable[[Any], Any], label: str | None = None) -> None:
        super().__init__(label)
        self._fn = fn

    def expand(self, pairs: Pairs) -> Pairs:
        self.accountant  # noqa: B018  # refuses collections that aren't private
        each = functools.partial(one_row, self._fn)
        return pairs | "Rows" >> beam.ParDo(OfRow("Map", each)).with_output_types(tuple[Any, Any])


class FlatMap(PrivatePTransform):
    """Each row into all that `fn` makes of it, none or many, each with the row's privacy id.

    Guarantee: as this module's, if `fn` is a function of the one row. However many come of a row, they count as rows of
    its privacy id, which the bounds of each aggregation hold for.
    """

    def __init__(self, fn: Callable[[Any], Iterable[Any]], label: str | None = None) -> None:
        super().__init__(label)
        self._fn = fn

    def expand(self, pairs: Pairs) -> Pairs:
        self.accountant  # noqa: B018  # refuses collections that aren't private
        return pairs | "Rows" >> beam.ParDo(OfRow("FlatMap", self._fn)).with_output_types(tuple[Any, Any])


class _Aggregation(PrivatePTransform):
    """One figure of each partition: a collection of (partition key, figure)."""

    metric: ClassVar[Any]

    def __init__(
        self,
        params: Any,
        label: str | None = None,
        public_partitions: Any = None,
        out_explain_computaton_report: Any = None,
    ) -> None:
        super().__init__(label)
        self._params, self._public, self._report = params, public_partitions, out_explain_computaton_report

    def expand(self, pairs: Pairs) -> Any:
        accountant = self.accountant
        params, extractors = _aggregate_params(self._params, self.metric), _extractors(self._params)
        step = PrivateAggregate(params, extractors, accountant, self._public, self._report)
        return pairs | "Aggregate" >> step | "Figures" >> beam.ParDo(FirstFigure())


class Count(_Aggregation):
    """Rows, by `pipeline_dp.CountParams`."""

    metric = pipeline_dp.Metrics.COUNT

    def __init__(
        self,
        count_params: pipeline_dp.CountParams,
        label: str | None = None,
        public_partitions: Any = None,
        out_explain_computaton_report: Any = None,
    ) -> None:
        _check_params(count_params, pipeline_dp.CountParams)
        super().__init__(count_params, label, public_partitions, out_explain_computaton_report)


class PrivacyIdCount(_Aggregation):
    """Privacy ids, by `pipeline_dp.PrivacyIdCountParams`."""

    metric = pipeline_dp.Metrics.PRIVACY_ID_COUNT

    def __init__(
        self,
        privacy_id_count_params: pipeline_dp.PrivacyIdCountParams,
        label: str | None = None,
        public_partitions: Any = None,
        out_explain_computaton_report: Any = None,
    ) -> None:
        _check_params(privacy_id_count_params, pipeline_dp.PrivacyIdCountParams)
        super().__init__(privacy_id_count_params, label, public_partitions, out_explain_computaton_report)


class Sum(_Aggregation):
    """Sums of values, by `pipeline_dp.SumParams`."""

    metric = pipeline_dp.Metrics.SUM

    def __init__(
        self,
        sum_params: pipeline_dp.SumParams,
        label: str | None = None,
        public_partitions: Any = None,
        out_explain_computaton_report: Any = None,
    ) -> None:
        _check_params(sum_params, pipeline_dp.SumParams)
        super().__init__(sum_params, label, public_partitions, out_explain_computaton_report)


class Mean(_Aggregation):
    """Means of values, by `pipeline_dp.MeanParams`."""

    metric = pipeline_dp.Metrics.MEAN

    def __init__(
        self,
        mean_params: pipeline_dp.MeanParams,
        label: str | None = None,
        public_partitions: Any = None,
        out_explain_computaton_report: Any = None,
    ) -> None:
        _check_params(mean_params, pipeline_dp.MeanParams)
        super().__init__(mean_params, label, public_partitions, out_explain_computaton_report)


class Variance(_Aggregation):
    """Variances of values, by `pipeline_dp.VarianceParams`."""

    metric = pipeline_dp.Metrics.VARIANCE

    def __init__(
        self,
        variance_params: pipeline_dp.VarianceParams,
        label: str | None = None,
        public_partitions: Any = None,
        out_explain_computaton_report: Any = None,
    ) -> None:
        _check_params(variance_params, pipeline_dp.VarianceParams)
        super().__init__(variance_params, label, public_partitions, out_explain_computaton_report)


class SelectPartitions(PrivatePTransform):
    """The partition keys that are kept, by `pipeline_dp.SelectPartitionsParams`."""

    def __init__(
        self, select_partitions_params: Any, partition_extractor: Callable[[Any], Any], label: str | None = None
    ) -> None:
        super().__init__(label)
        self._params, self._partition = select_partitions_params, partition_extractor

    def expand(self, pairs: Pairs) -> Any:
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=id_of, partition_extractor=functools.partial(of_row, self._partition)
        )
        return pairs | "Select" >> PrivateSelectPartitions(self._params, extractors, self.accountant)


class CombinePerKey(PrivatePTransform):
    """Refused: a combiner adds noise of its own, at a sensitivity that nothing here can derive.

    Raises:
        UsageError: always.
    """

    def __init__(self, combine_fn: Any, params: Any, label: str | None = None) -> None:
        raise UsageError(
            f"CombinePerKey({type(combine_fn).__name__}) can't be run: a PrivateCombineFn draws noise of its own, and "
            "nothing here can tell whether it is enough. Use Count, PrivacyIdCount, Sum, Mean or Variance, or "
            "DPEngine.aggregate for percentiles and vector sums; what these can't compute can be a custom metric of a "
            "policy, which says what a row adds and leaves bounds and noise to dpbeam (docs/custom_metrics.md)"
        )


_ANONYMIZING = (Count, PrivacyIdCount, Sum, Mean, Variance, SelectPartitions)


def _check_accountant(accountant: Any) -> None:
    if not isinstance(accountant, SharedBudgetAccountant):
        raise UsageError(
            "budget_accountant must be a dpbeam.adapters.pipelinedp.SharedBudgetAccountant(total_epsilon, "
            f"total_delta), got {type(accountant).__name__}"
        )


def _check_params(params: Any, kind: type) -> None:
    if not isinstance(params, kind):
        raise UsageError(f"the parameters must be pipeline_dp.{kind.__name__}, got {type(params).__name__}")


_FIELDS = (
    "noise_kind",
    "max_partitions_contributed",
    "max_contributions_per_partition",
    "min_value",
    "max_value",
    "budget_weight",
    "pre_threshold",
)


def _aggregate_params(params: Any, metric: Any) -> pipeline_dp.AggregateParams:
    """The same for one metric of `DPEngine.aggregate`; a privacy id is counted with one row of a partition."""
    if params.contribution_bounds_already_enforced:  # which PipelineDP's own checks would name by other parameters
        raise UsageError(
            "contribution_bounds_already_enforced must be False: dpbeam bounds what each privacy id contributes itself"
        )
    given = {name: getattr(params, name) for name in _FIELDS if hasattr(params, name)}
    return pipeline_dp.AggregateParams(metrics=[metric], **{"max_contributions_per_partition": 1} | given)


def _extractors(params: Any) -> pipeline_dp.DataExtractors:
    value = getattr(params, "value_extractor", None)
    return pipeline_dp.DataExtractors(
        privacy_id_extractor=id_of,
        partition_extractor=functools.partial(of_row, params.partition_extractor),
        value_extractor=None if value is None else functools.partial(of_row, value),
    )
