"""The reference engine: a stage of validated rows released by PipelineDP's own engine, to compare ours with.

This is the one place where rows are Python tuples: PipelineDP takes no others. It serves to check our own engine
against; it is some hundred times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pipeline_dp
import pyarrow as pa

from dpbeam.adapters.reference import result_table
from dpbeam.adapters.reference.stepped import SteppedEngine
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.kernels import shorten
from dpbeam.engine.arrays import hashing
from dpbeam.engine.bounding import contributions
from dpbeam.engine.release.results import result_schema
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import RunFailed
from dpbeam.mechanisms import randomness
from dpbeam.mechanisms.float_grid import FloatGrid, vector_step
from dpbeam.queries.quantities import TOTAL_REACH, Total, Vector
from dpbeam.transforms.steps.read import place
from dpbeam.transforms.wire.beam_types import Batches, Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn, contained

Row = tuple[Any, tuple[Any, ...], Any]
"""(privacy unit, partition key, value) as PipelineDP gets it; see `plain`."""


def plain(column: pa.Array) -> list[Any]:
    """A column of units or keys as Python values that Beam can group by: text, numbers, booleans; dates as numbers."""
    kind = column.type
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def keys_of(batch: pa.RecordBatch, spec: StageSpec) -> list[tuple[Any, ...]]:
    """The partition key of each row of partitions."""
    return _keys_in(batch, spec.keys)


def _keys_in(batch: pa.RecordBatch, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    parts = [plain(batch.column(name)) for name in names]
    return list(zip(*parts, strict=True)) if parts else [()] * batch.num_rows


def key_columns(keys: list[tuple[Any, ...]], spec: StageSpec) -> list[pa.Array]:
    """What `keys_of` gave, as columns of the stage's key types."""
    columns = []
    for at, field in enumerate(accumulate.key_fields(spec)):
        values = [key[at] for key in keys]
        if pa.types.is_date32(field.type):
            columns.append(pa.array(values, pa.int32()).cast(field.type))
        elif pa.types.is_timestamp(field.type):
            columns.append(pa.array(values, pa.int64()).cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return columns


def rows_of(block: pa.RecordBatch, spec: StageSpec, grid: FloatGrid | None) -> Iterator[Row]:
    """A block's rows as PipelineDP gets them: validated, so without nulls and NaN; values in their bounds, on a grid.

    Guarantee: PipelineDP's sums of these values, of squares of their distances from the middle and of these vectors
    are exact in floats, so that no order of rows moves them further than one row's bounds say; and no value or vector
    is beyond its bound, so that its own clipping changes nothing.
    """
    if spec.unit is None:
        split, number, _ = place(block)
        units: list[Any] = [(split, number, i) for i in range(block.num_rows)]
    else:
        units = plain(block.column(spec.unit))
    yield from zip(units, _keys_in(block, spec.input_keys), _values(block, spec, grid), strict=True)


def _values(block: pa.RecordBatch, spec: StageSpec, grid: FloatGrid | None) -> list[Any]:
    vector = next((q for q in spec.quantities if isinstance(q, Vector)), None)
    if vector is not None:
        return [tuple(row) for row in _vectors(block, vector).tolist()]
    if grid is None:
        return [0.0] * block.num_rows
    values = block.column(spec.value_columns[0]).to_numpy(zero_copy_only=False)
    if any(isinstance(q, Total) for q in spec.quantities):
        snapped: list[float] = grid.snap(values, TOTAL_REACH * max(abs(grid.low), abs(grid.high))).tolist()
        return snapped
    clipped: list[float] = grid.clip(values).tolist()
    return clipped


def _vectors(block: pa.RecordBatch, quantity: Vector) -> Any:
    """The rows' vectors within their norm, rounded towards 0 to a grid."""
    numbers = [contributions.numbers(block.column(name)).astype(np.float64) for name in quantity.columns]
    step = vector_step(quantity.max_norm)
    return np.trunc(shorten(np.column_stack(numbers), quantity.norm, quantity.max_norm) / step) * step


class _Rows(ContainedDoFn):
    step = "Rows"

    def __init__(self, spec: StageSpec, grid: FloatGrid | None) -> None:
        self._spec, self._grid = spec, grid

    def work(self, element: pa.RecordBatch) -> Iterator[Row]:
        yield from rows_of(element, self._spec, self._grid)


class ContainedBackend(pipeline_dp.BeamBackend):
    """PipelineDP's Beam backend, whose steps raise fixed texts: PipelineDP's own errors may quote rows."""

    def map(self, col: Any, fn: Callable[..., Any], stage_name: str, resource_hints: Any = None) -> Any:
        return super().map(col, partial(_contained, stage_name, fn), stage_name, resource_hints)

    def flat_map(self, col: Any, fn: Callable[..., Any], stage_name: str, resource_hints: Any = None) -> Any:
        return super().flat_map(col, partial(_contained_list, stage_name, fn), stage_name, resource_hints)

    def map_tuple(self, col: Any, fn: Callable[..., Any], stage_name: str, resource_hints: Any = None) -> Any:
        return super().map_tuple(col, partial(_contained, stage_name, fn), stage_name, resource_hints)

    def map_values(self, col: Any, fn: Callable[..., Any], stage_name: str, resource_hints: Any = None) -> Any:
        return super().map_values(col, partial(_contained, stage_name, fn), stage_name, resource_hints)

    def filter(self, col: Any, fn: Callable[..., Any], stage_name: str) -> Any:
        return super().filter(col, partial(_contained, stage_name, fn), stage_name)


def _contained(step: str, fn: Callable[..., Any], *args: Any) -> Any:
    randomness.discard_inherited()  # any of PipelineDP's steps may draw
    return contained(step, lambda: fn(*args))


def _contained_list(step: str, fn: Callable[..., Any], *args: Any) -> list[Any]:
    randomness.discard_inherited()
    return contained(step, lambda: list(fn(*args)))


class _Route(ContainedDoFn):
    """Turns a list of (key, MetricsTuple) into released rows, keyed by the number of their result shard."""

    step = "Release"

    def __init__(self, spec: StageSpec, result_shards: int) -> None:
        self._spec, self._result_shards = spec, result_shards

    def work(self, element: list[tuple[tuple[Any, ...], Any]]) -> Iterator[tuple[int, pa.RecordBatch]]:
        returned: list[Mapping[str, Any]] = [metrics._asdict() for _, metrics in element]
        keys = key_columns([key for key, _ in element], self._spec)
        released = result_table.table(keys, returned, self._spec)
        shards = hashing.shard_of(hashing.hash_rows(released, self._spec.keys, hashing.ROUTE_SEED), self._result_shards)
        for part in np.unique(shards).tolist():
            yield int(part), released.filter(pa.array(shards == part))


class _OneShard(ContainedDoFn):
    """Joins all released rows of one result shard to one batch, sorted by key."""

    step = "Gather"

    def __init__(self, spec: StageSpec, public: dict[int, int] | None) -> None:
        self._spec, self._public = spec, public

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[tuple[int, pa.RecordBatch]]:
        part, batches = element
        table = pa.Table.from_batches(list(batches), schema=result_schema(self._spec))
        names = list(self._spec.keys)
        distinct = table.num_rows if not names else table.group_by(names).aggregate([]).num_rows
        if distinct != table.num_rows or (self._public is not None and distinct != self._public.get(part, 0)):
            raise RunFailed("the runner lost or doubled partitions of PipelineDP's; nothing was published. Run again")
        table = table.sort_by([(name, "ascending") for name in names]) if names else table
        whole = table.combine_chunks().to_batches()
        yield part, whole[0] if whole else pa.RecordBatch.from_pylist([], schema=result_schema(self._spec))


@dataclass(eq=False)
class PipelineDPAggregate(beam.PTransform[Batches, Sharded]):
    """Releases a stage's blocks by PipelineDP's engine, as rows keyed by result shard.

    `params` and `accountant` are PipelineDP's, the accountant filled in by the plan; `steps` those of its noise. A
    shard that shows a partition twice (two draws), or lacks a public one, ends the run.
    """

    spec: StageSpec
    params: Any
    grid: FloatGrid | None
    steps: Mapping[str, float]
    accountant: Any
    public: pa.Table | None
    result_shards: int

    def expand(self, blocks: Batches) -> Sharded:
        engine = SteppedEngine(self.accountant, ContainedBackend(), self.steps)
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=lambda row: row[0],
            partition_extractor=lambda row: row[1],
            value_extractor=lambda row: row[2],
        )
        rows = blocks | "Rows" >> beam.ParDo(_Rows(self.spec, self.grid))
        known = self._known()
        public = None if known is None else keys_of(known, self.spec)
        aggregated = engine.aggregate(rows, self.params, extractors, public)
        self.accountant.compute_budgets()
        released = (
            aggregated
            | "Batch" >> beam.BatchElements(min_batch_size=100, max_batch_size=10_000)
            | "Release"
            >> beam.ParDo(_Route(self.spec, self.result_shards)).with_output_types(tuple[int, pa.RecordBatch])
        )
        empty = pa.RecordBatch.from_pylist([], schema=result_schema(self.spec))
        seeds = (
            blocks.pipeline
            | "Shards" >> beam.Create(list(range(self.result_shards)), reshuffle=False)
            | "Seed" >> beam.Map(lambda part: (part, empty)).with_output_types(tuple[int, pa.RecordBatch])
        )
        shards: Sharded = (
            (released, seeds)
            | "Together" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Gather"
            >> beam.ParDo(_OneShard(self.spec, self._public_rows())).with_output_types(tuple[int, pa.RecordBatch])
        )
        return shards

    def _known(self) -> pa.RecordBatch | None:
        """The public partitions, if any; without keys, the whole table."""
        if not self.spec.keys:
            return accumulate.whole(self.spec)
        return None if self.public is None else accumulate.zeros(self.public, self.spec)

    def _public_rows(self) -> dict[int, int] | None:
        """How many public partitions each result shard must hold."""
        known = self._known()
        if known is None:
            return None
        return {
            part: rows.num_rows for part, rows in accumulate.split_by_partition(known, self.spec, self.result_shards)
        }
