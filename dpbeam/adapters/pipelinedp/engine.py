"""For jobs that were written for PipelineDP: its engine's calls, its parameters and its results, on our engine.

    engine = DPEngine(accountant)                                        # in place of pipeline_dp.DPEngine(…)
    results = engine.aggregate(rows, params, extractors, public_partitions)
    accountant.compute_budgets()

docs/from_pipelinedp.md shows the move, and where the two differ.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pipeline_dp
import pyarrow as pa

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
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

_EXPLAINED = "the accountant's mechanisms and certificate say what was done"


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
        self._calls = 0

    def aggregate(
        self,
        col: Any,
        params: Any,
        data_extractors: Any,
        public_partitions: Any = None,
        out_explain_computation_report: Any = None,
    ) -> Any:
        """A collection of (partition key, MetricsTuple).

        Raises:
            UsageError: something of the parameters isn't safe, or isn't done here; see docs/from_pipelinedp.md.
        """
        if out_explain_computation_report is not None:
            raise UsageError(f"out_explain_computation_report can't be filled: {_EXPLAINED}")
        step = PrivateAggregate(params, data_extractors, self._accountant, public_partitions)
        return col | self._label("Aggregate") >> step

    def select_partitions(self, col: Any, params: Any, data_extractors: Any) -> Any:
        """A collection of the partition keys that are kept.

        Raises:
            UsageError: as `aggregate`.
        """
        return col | self._label("SelectPartitions") >> PrivateSelectPartitions(
            params, data_extractors, self._accountant
        )

    def explain_computations_report(self) -> list[str]:
        """Refused: PipelineDP's reports are of its own steps."""
        raise UsageError(f"explain_computations_report isn't done here: {_EXPLAINED}")

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

    def _label(self, name: str) -> str:
        self._calls += 1
        return f"DP{name}_{self._calls}"


@dataclass(eq=False)
class PrivateAggregate(beam.PTransform[beam.PCollection[Any], beam.PCollection[Any]]):
    """`DPEngine.aggregate` as a transform: any rows in, (partition key, MetricsTuple) out."""

    params: Any
    extractors: Any
    accountant: SharedBudgetAccountant
    public_partitions: Any = None

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        public = _public_table(self.public_partitions)
        name = f"aggregate_{self.accountant.stages}"
        migrated = aggregate_stage(self.params, name=name, public=public)
        released, budget = _released(rows, migrated, self.extractors, self.accountant, self.params, public)
        tuples: beam.PCollection[Any] = released | "MetricsTuples" >> beam.ParDo(_ToTuples(migrated, budget))
        return tuples


@dataclass(eq=False)
class PrivateSelectPartitions(beam.PTransform[beam.PCollection[Any], beam.PCollection[Any]]):
    """`DPEngine.select_partitions` as a transform: any rows in, partition keys out."""

    params: Any
    extractors: Any
    accountant: SharedBudgetAccountant

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        migrated = select_stage(self.params, name=f"select_{self.accountant.stages}")
        released, _ = _released(rows, migrated, self.extractors, self.accountant, self.params, None)
        keys: beam.PCollection[Any] = released | "Keys" >> beam.ParDo(_ToKeys())
        return keys


def _released(
    rows: beam.PCollection[Any],
    migrated: Migrated,
    extractors: Any,
    accountant: SharedBudgetAccountant,
    params: Any,
    public: pa.Table | None,
) -> tuple[Batches, Budget]:
    if not rows.windowing.is_default():
        raise UsageError("the rows must be in the global window: a guarantee for each window is none for all of them")
    extract = _extract(extractors, migrated)
    budget = accountant.add_stage(migrated.stage, aggregation_weight=params.budget_weight)
    aggregate = AggregatePrivately(migrated.spec, budget, public)
    return rows | "Extract" >> ExtractColumns(extract) | "Private" >> aggregate, budget


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
    """A batch of released rows in; (partition key, MetricsTuple) out."""

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
