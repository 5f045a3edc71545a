"""For jobs that were written for PipelineDP: its engine's calls, its parameters and its results, on our engine.

    engine = DPEngine(accountant)                                        # in place of pipeline_dp.DPEngine(…)
    results = engine.aggregate(rows, params, extractors, public_partitions)
    accountant.compute_budgets()

docs/from_pipelinedp.md shows the move, and where the two differ.
"""

from __future__ import annotations

import copy
import functools
from collections import namedtuple
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pipeline_dp
import pyarrow as pa

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant, StageBudget
from dpbeam.adapters.pipelinedp.explain import ExplainComputationReport, Explanation, check_container, fill
from dpbeam.adapters.pipelinedp.parameters import KEY, UNIT, Field, Migrated, aggregate_stage, select_stage
from dpbeam.engine.stage import planned_stage
from dpbeam.errors import UsageError
from dpbeam.mechanisms.noise_width import std
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.transforms.private_aggregate import AggregatePrivately, Budget
from dpbeam.transforms.sources.python_keys import NotAKey, from_text, key_text
from dpbeam.transforms.sources.python_rows import Extract, ExtractColumns, refusal
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn


class DPEngine:
    """Takes the calls of `pipeline_dp.DPEngine` on Beam collections, with its parameters as they are.

    Args:
        budget_accountant: a `SharedBudgetAccountant`; its `compute_budgets()` is called after all aggregations, and
            before the pipeline runs.
        backend: a `pipeline_dp.BeamBackend`, or None: there is no other.
    """

    def __init__(self, budget_accountant: SharedBudgetAccountant, backend: Any = None) -> None:
        if not isinstance(budget_accountant, SharedBudgetAccountant):
            raise UsageError(
                "budget_accountant must be a dpbeam.adapters.pipelinedp.SharedBudgetAccountant(total_epsilon, "
                f"total_delta), got {type(budget_accountant).__name__}"
            )
        if backend is not None and not isinstance(backend, pipeline_dp.BeamBackend):
            raise UsageError(f"backend must be pipeline_dp.BeamBackend or left out, got {type(backend).__name__}")
        self._accountant = budget_accountant
        self._reports: list[Any] = []

    def aggregate(
        self,
        col: Any,
        params: Any,
        data_extractors: Any,
        public_partitions: Any = None,
        out_explain_computation_report: Any = None,
    ) -> Any:
        """A collection of (partition key, MetricsTuple).

        `out_explain_computation_report`, an `ExplainComputationReport`, says what was done once the budgets are
        computed.

        Raises:
            UsageError: something of the parameters isn't safe, or isn't done here; see docs/from_pipelinedp.md.
        """
        report = _container(out_explain_computation_report)
        step = PrivateAggregate(params, data_extractors, self._accountant, public_partitions, report)
        return self._applied(col, "Aggregate", step)

    def select_partitions(self, col: Any, params: Any, data_extractors: Any) -> Any:
        """A collection of the partition keys that are kept.

        Raises:
            UsageError: as `aggregate`.
        """
        step = PrivateSelectPartitions(params, data_extractors, self._accountant, _container(None))
        return self._applied(col, "SelectPartitions", step)

    def explain_computations_report(self) -> list[str]:
        """The report of each call, in their order.

        Raises:
            ValueError: `compute_budgets` hasn't run yet.
        """
        if not self._accountant.mechanisms:  # PipelineDP 0.2 fails there with a NameError
            raise ValueError("the reports can't be made yet. Was BudgetAccountant.compute_budget() called?")
        return [report.text() for report in self._reports]

    def calculate_private_contribution_bounds(self, *_: Any, **__: Any) -> Any:
        """Refused: bounds are found by a policy's `auto`."""
        raise UsageError(
            "calculate_private_contribution_bounds isn't done here: state max_partitions_contributed, or let a policy "
            "find it with l0: {auto: {max: …}}"
        )

    def add_dp_noise(self, *_: Any, **__: Any) -> Any:
        """Refused: nothing here can tell what one unit did to figures that are aggregated already."""
        raise UsageError(
            "add_dp_noise isn't done here: it would take a sensitivity on trust; call aggregate on the rows"
        )

    def _applied(self, rows: Any, name: str, step: PrivateAggregate | PrivateSelectPartitions) -> Any:
        released = rows | f"DP{name}_{len(self._reports) + 1}" >> step
        self._reports.append(step.report)
        return released


@dataclass(eq=False)
class PrivateAggregate(beam.PTransform[beam.PCollection[Any], beam.PCollection[Any]]):
    """`DPEngine.aggregate` as a transform of any rows into (partition key, MetricsTuple).

    `report`, an `ExplainComputationReport`, says what was done once the budgets are computed.
    """

    params: Any
    extractors: Any
    accountant: SharedBudgetAccountant
    public_partitions: Any = None
    report: Any = None

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        report, public = _container(self.report), _public_table(self.public_partitions)
        name = f"aggregate_{self.accountant.stages}"
        params = copy.deepcopy(
            self.params
        )  # a job may change its own for the next aggregation, before this is explained
        migrated = aggregate_stage(params, name=name, public=public)
        released, budget = _released(rows, migrated, self.extractors, self.accountant, params, public)
        shown = None if public is None else public.num_rows
        told = Explanation(method="aggregate", params=params, budget=budget, accountant=self.accountant, public=shown)
        fill(report, told)
        tuples: beam.PCollection[Any] = released | "MetricsTuples" >> beam.ParDo(_ToTuples(migrated, budget))
        return tuples


@dataclass(eq=False)
class PrivateSelectPartitions(beam.PTransform[beam.PCollection[Any], beam.PCollection[Any]]):
    """`DPEngine.select_partitions` as a transform of any rows into partition keys; `report` as above."""

    params: Any
    extractors: Any
    accountant: SharedBudgetAccountant
    report: Any = None

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        report = _container(self.report)
        params = copy.deepcopy(self.params)
        migrated = select_stage(params, name=f"select_{self.accountant.stages}")
        released, budget = _released(rows, migrated, self.extractors, self.accountant, params, None)
        told = Explanation(
            method="select_partitions", params=params, budget=budget, accountant=self.accountant, public=None
        )
        fill(report, told)
        keys: beam.PCollection[Any] = released | "Keys" >> beam.ParDo(_ToKeys())
        return keys


def _released(
    rows: beam.PCollection[Any],
    migrated: Migrated,
    extractors: Any,
    accountant: SharedBudgetAccountant,
    params: Any,
    public: pa.Table | None,
) -> tuple[Batches, StageBudget]:
    if not rows.windowing.is_default():
        raise UsageError("the rows must be in the global window: a guarantee for each window is none for all of them")
    extract = _extract(extractors, migrated)
    budget = accountant.add_stage(migrated.stage, aggregation_weight=params.budget_weight)
    aggregate = AggregatePrivately(migrated.spec, budget, public)
    return rows | "Extract" >> ExtractColumns(extract) | "Private" >> aggregate, budget


def _container(report: Any) -> Any:
    """The container that a report is put into: the one given, or a new one."""
    if report is None:
        return ExplainComputationReport()
    check_container(report)
    return report


def _extract(extractors: Any, migrated: Migrated) -> Extract:
    if not isinstance(extractors, pipeline_dp.DataExtractors):
        raise UsageError(f"data_extractors must be pipeline_dp.DataExtractors, got {type(extractors).__name__}")
    columns = migrated.spec.value_columns
    needed = ["privacy_id_extractor", "partition_extractor", *(["value_extractor"] if columns else [])]
    for name in needed:
        if getattr(extractors, name) is None:
            raise UsageError(f"data_extractors.{name} must be given for these metrics")
    lengths = [metric.numbers for metric in migrated.spec.metrics if isinstance(metric, VectorSum)]
    return Extract(
        unit=extractors.privacy_id_extractor,
        key=extractors.partition_extractor,
        value=extractors.value_extractor if columns else None,
        vector=lengths[0] if lengths else None,
        columns=(UNIT, KEY, *columns),
    )


def _public_table(partitions: Any) -> pa.Table | None:
    """The public partitions, each once, as the engine knows keys."""
    if partitions is None:
        return None
    if isinstance(partitions, beam.PCollection):
        raise UsageError("public_partitions must be a list or set: a collection could depend on the rows")
    if isinstance(partitions, str) or not isinstance(partitions, Collection) or not partitions:
        raise UsageError("public_partitions must be a list or set with at least one partition key, or None")
    try:
        keys = dict.fromkeys(map(key_text, partitions))
    except NotAKey as other:
        raise UsageError(refusal("public_partitions", other)) from None
    if None in keys:
        raise UsageError("public_partitions must have no None, NaN or infinite key: rows of such a key are left out")
    return pa.table({KEY: pa.array(list(keys), pa.string())})


class _ToTuples(ContainedDoFn):
    """Turns a batch of released rows into (partition key, MetricsTuple)."""

    step = "MetricsTuples"

    def __init__(self, migrated: Migrated, budget: Budget) -> None:
        self._migrated, self._budget = migrated, budget

    def work(self, element: pa.RecordBatch) -> Iterator[tuple[Any, Any]]:
        fields = self._migrated.fields
        values = [self._values(field, element) for field in fields]
        names = tuple(field.name for field in fields)
        for key, *row in zip(element.column(KEY).to_pylist(), *values, strict=True):
            yield from_text(key), metrics_tuple(names, tuple(row))

    def _values(self, field: Field, batch: pa.RecordBatch) -> list[Any]:
        if field.noise_of is not None:
            spec = planned_stage(UNIT, self._migrated.stage, self._budget.mechanisms)
            return [std(spec.noise[field.noise_of])] * batch.num_rows
        columns = [batch.column(name).to_numpy() for name in field.columns]
        return list(np.column_stack(columns)) if field.name == "vector_sum" else columns[0].tolist()


class _ToKeys(ContainedDoFn):
    step = "Keys"

    def work(self, element: pa.RecordBatch) -> Iterator[Any]:
        yield from map(from_text, element.column(KEY).to_pylist())


@functools.cache
def _tuple_type(names: tuple[str, ...]) -> Any:
    new_type: Any = namedtuple  # whose fields are known only now
    made = new_type("MetricsTuple", names)
    made.__reduce__ = lambda self: (metrics_tuple, (names, tuple(self)))
    return made


def metrics_tuple(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    """A `MetricsTuple` as PipelineDP's: its fields are the metrics asked for."""
    return _tuple_type(names)(*values)
