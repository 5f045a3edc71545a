"""A query on a pandas or Beam data frame, and how it runs: its rows through our engine, its results into a frame."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pipeline_dp
from apache_beam.options.pipeline_options import PipelineOptions

from dpbeam.adapters.pipelinedp import frame_columns
from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import PrivateAggregate
from dpbeam.adapters.pipelinedp.private_rows import unique_label
from dpbeam.transforms.sources.python_keys import key_text
from dpbeam.transforms.wire.containment import ContainedDoFn, from_runner

CHUNK_ROWS = 20_000


@dataclass(frozen=True)
class Budget:
    """What one run of a query costs.

    Raises:
        UsageError: (when the query runs) ε or δ isn't above 0, or δ isn't below 1.
    """

    epsilon: float
    delta: float = 0


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    metric: Any
    name: str
    column: str | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Groups:
    """What rows are grouped by, and what one unit may contribute."""

    columns: tuple[str, ...]
    one: bool
    """Whether the columns were given as one name: then keys are values, else tuples."""
    most_groups: int
    most_rows: int
    public: Any


def is_pandas(df: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(df, pandas.DataFrame)


def is_deferred(df: Any) -> bool:
    frames = sys.modules.get("apache_beam.dataframe.frames")
    return frames is not None and isinstance(df, frames.DeferredDataFrame)


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """A query on a data frame: `QueryBuilder` makes it, `run_query` runs it."""

    df: Any = field(repr=False)
    unit: str
    groups: Groups
    value: str | None
    aggregations: tuple[Aggregation, ...]

    def run_query(self, budget: Budget, noise_kind: Any = pipeline_dp.NoiseKind.LAPLACE) -> Any:
        """A frame of the same kind, with the columns grouped by and one for each thing computed; a row a group.

        A pandas frame is worked on here and now, and its result sorted; a Beam frame's result is computed when its
        pipeline runs.

        Guarantee: each call is (`budget.epsilon`, `budget.delta`)-DP by itself, and draws noise of its own: two calls
        cost the sum. The names and types of the frame's columns count as public. Rows in which the unit's, a group's or
        the value's column is missing are left out. Of a Beam frame: its own steps are Beam's, so their errors may quote
        rows; and what was computed over several rows (a rank, a groupby, a de-duplication) before the query breaks it,
        as it does in pandas.

        Raises:
            UsageError: the budget or the bounds aren't in their ranges.
            RunFailed: (pandas) the job failed; a missing type of key is named.
        """
        accountant = SharedBudgetAccountant(budget.epsilon, budget.delta)
        step = _Aggregate(self, self._params(noise_kind), accountant)
        return _on_pandas(self, step) if is_pandas(self.df) else _on_beam(self, step)

    @property
    def read(self) -> list[str]:
        """The columns that are read: of the unit, the groups, the values."""
        return [self.unit, *self.groups.columns, *([] if self.value is None else [self.value])]

    @property
    def types(self) -> list[Any]:
        """The plain types of the columns of the unit and the groups."""
        return [frame_columns.plain(self.df.dtypes[name]) for name in (self.unit, *self.groups.columns)]

    def _params(self, noise_kind: Any) -> pipeline_dp.AggregateParams:
        return pipeline_dp.AggregateParams(
            metrics=[each.metric for each in self.aggregations],
            noise_kind=noise_kind,
            max_partitions_contributed=self.groups.most_groups,
            max_contributions_per_partition=self.groups.most_rows,
            min_value=self.aggregations[0].low,
            max_value=self.aggregations[0].high,
        )


@dataclass(eq=False)
class _Aggregate(beam.PTransform[Any, Any]):
    """Aggregates pandas frames with the query's columns into (key, figures in the order of the query's
    aggregations)."""

    query: Query
    params: Any
    accountant: SharedBudgetAccountant

    def expand(self, frames: Any) -> Any:
        query, one = self.query, self.query.groups.one
        public = frame_columns.public_keys(query.groups.public, query.types[1:], one=one)
        rows = frames | "Rows" >> beam.ParDo(_Rows(query.types, one=one))
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=_unit, partition_extractor=_key, value_extractor=_value
        )
        aggregate = PrivateAggregate(self.params, extractors, self.accountant, public)
        names = [each.metric.name.lower() for each in query.aggregations]
        released = rows | "Aggregate" >> aggregate | "Figures" >> beam.ParDo(_Figures(names))
        self.accountant.compute_budgets()
        return released


def _on_pandas(query: Query, step: _Aggregate) -> Any:
    read = query.df[query.read]
    frames = [read.iloc[start : start + CHUNK_ROWS] for start in range(0, len(read), CHUNK_ROWS)]
    token = secrets.token_hex(16)
    collected = _COLLECTED[token] = []
    try:
        pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(flags=[]))
        pipeline | beam.Create(frames or [read]) | "Query" >> step | "Collect" >> beam.ParDo(_Collect(token))
        _finished(pipeline)
    finally:
        del _COLLECTED[token]
    result = _filled(_empty(query), collected, one=query.groups.one)
    # By the keys: the runner's order may tell of rows.
    return result.sort_values(list(query.groups.columns), key=_sortable, ignore_index=True)


def _sortable(keys: Any) -> Any:
    return keys.map(key_text) if keys.dtype == object else keys


def _finished(pipeline: beam.Pipeline) -> None:
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        failed = from_runner(error)
    else:
        return
    raise failed


def _on_beam(query: Query, step: _Aggregate) -> Any:
    from apache_beam.dataframe.convert import to_dataframe, to_pcollection

    read = query.df[query.read]
    frames: Any = to_pcollection(read, yield_elements="pandas")
    pipeline, empty = frames.pipeline, _empty(query)
    released = frames | unique_label(pipeline, "PrivateQuery") >> step
    made = released | unique_label(pipeline, "PrivateFrames") >> beam.ParDo(_Frames(empty, one=query.groups.one))
    return to_dataframe(made, proxy=empty)


def _empty(query: Query) -> Any:
    """The result without rows."""
    kinds = dict(zip(query.groups.columns, query.types[1:], strict=True))
    kinds |= {each.name: "float64" for each in query.aggregations}
    pandas = frame_columns.pandas()
    return pandas.DataFrame({name: pandas.Series(dtype=kind) for name, kind in kinds.items()})


def _filled(empty: Any, released: Sequence[tuple[Any, tuple[float, ...]]], *, one: bool) -> Any:
    rows = [(*((key,) if one else key), *figures) for key, figures in released]
    columns = list(zip(*rows, strict=True)) or [()] * len(empty.columns)
    named = zip(empty.columns, empty.dtypes, columns, strict=True)
    return frame_columns.pandas().DataFrame(
        {name: frame_columns.column(numbers, kind) for name, kind, numbers in named}
    )


class _Rows(ContainedDoFn):
    """A pandas frame into its rows (unit, key, value), without those that lack any of the three.

    `types` are the plain types of the unit's column and the keys'; a column after those is the value's.
    """

    step = "Rows"

    def __init__(self, types: Sequence[Any], *, one: bool) -> None:
        self._types, self._one = types, one

    def work(self, element: Any) -> Iterator[tuple[Any, Any, Any]]:
        whole = element.dropna()
        columns = [whole.iloc[:, place] for place in range(whole.shape[1])]
        units, *keys = (frame_columns.values(*typed) for typed in zip(columns, self._types, strict=False))
        read = keys[0] if self._one else list(zip(*keys, strict=True))
        yield from zip(units, read, columns[-1].tolist(), strict=True)


class _Figures(ContainedDoFn):
    """A (partition key, MetricsTuple) into (partition key, figures by these names)."""

    step = "Figures"

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def work(self, element: tuple[Any, Any]) -> Iterator[tuple[Any, tuple[float, ...]]]:
        key, metrics = element
        yield key, tuple(getattr(metrics, name) for name in self._names)


class _Frames(ContainedDoFn):
    """A released group into a frame of one row."""

    step = "Frames"

    def __init__(self, empty: Any, *, one: bool) -> None:
        self._empty, self._one = empty, one

    def work(self, element: tuple[Any, tuple[float, ...]]) -> Iterator[Any]:
        yield _filled(self._empty, [element], one=self._one)


_COLLECTED: dict[str, list[Any]] = {}
"""What pipelines that run in this process have released so far, by the token of the query that waits for it."""


class _Collect(ContainedDoFn):
    """Hands what is released to the query that waits for it, in the process that it was started from."""

    step = "Collect"

    def __init__(self, token: str) -> None:
        self._token = token

    def work(self, element: Any) -> Iterator[Any]:
        _COLLECTED[self._token].append(element)
        yield from ()


def _unit(row: tuple[Any, Any, Any]) -> Any:
    return row[0]


def _key(row: tuple[Any, Any, Any]) -> Any:
    return row[1]


def _value(row: tuple[Any, Any, Any]) -> Any:
    return row[2]
