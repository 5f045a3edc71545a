"""Bounds contributions: blocks of typed rows go in; one batch of partition accumulators a user shard comes out.

Every row is routed by a hash of its privacy unit, so a unit meets all its rows in one shard; blocks where few units
hold many rows are cut down before the shuffle. Where each row is a unit of its own, rows accumulate where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.bounding import contributions, hierarchy, unit_rows
from dpbeam.engine.bounding.hierarchy import Hierarchy
from dpbeam.query.spec import StageSpec
from dpbeam.transforms.steps.read import label, place
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.control import Outbox, Shuffle, receive
from dpbeam.transforms.wire.progress import Parts

REPORTS = "reports"
SEEDER = -1  # the sender of the empty messages that make every destination exist


def route_columns(spec: StageSpec) -> list[str]:
    """The columns a stage needs from a block: unit, keys, summed values, each once."""
    unit = () if spec.unit is None else (spec.unit,)
    return list(dict.fromkeys((*unit, *spec.keys, *spec.value_columns)))


class _Route(ContainedDoFn):
    """A block in; its rows out, keyed by user shard, after what can be dropped or cut without other blocks."""

    step = "BoundAtSource"

    def __init__(
        self,
        spec: StageSpec,
        shards: int,
        salt: bytes,
        public: pa.Table | None,
        among: Hierarchy | None,
        shuffle: str,
    ) -> None:
        self._spec, self._shards, self._salt, self._public = spec.of_input, shards, salt, public
        self._cells_of = None if among is None else among.cells_of
        self._shuffle = shuffle

    def work(self, element: pa.RecordBatch) -> Iterator[object]:
        split, block, last = place(element)
        outbox = Outbox(self._shuffle, split, block, last=last)
        rows = element.select(route_columns(self._spec)).replace_schema_metadata(None)
        if self._public is not None:
            rows = accumulate.filter_public(rows, self._spec, self._public)
        rows = contributions.prebound(rows, self._spec, self._salt, (split, block), self._cells_of)
        messages = [
            message
            for shard, part in contributions.split_by_unit(rows, self._spec, self._shards, self._salt)
            for message in outbox.send(shard, part)
        ]
        yield from messages
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


class _Seed(ContainedDoFn):
    """Sends one batch to every destination of a shuffle, so that each of them exists and reports."""

    step = "Seed"

    def __init__(self, shuffle: str, batches: list[pa.RecordBatch]) -> None:
        self._shuffle, self._batches = shuffle, batches

    def work(self, element: object) -> Iterator[object]:
        outbox = Outbox(self._shuffle, SEEDER, 0, last=True)
        for destination, batch in enumerate(self._batches):
            yield from outbox.send(destination, batch)
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


class _BoundShard(ContainedDoFn):
    """All rows of one user shard in; its accumulators out, labelled with the shard as their sender."""

    step = "Bound"

    def __init__(self, spec: StageSpec, salt: bytes, among: Hierarchy | None, shuffle: str, progress: Parts) -> None:
        self._spec, self._salt, self._among, self._shuffle = spec, salt, among, shuffle
        self._progress = progress

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        shard, batches = element
        found, report = receive(self._shuffle, shard, batches)
        if self._among is None:
            bounded = unit_rows.bound(found, self._spec, self._salt, (shard,))
        else:
            bounded = hierarchy.bound(found, self._spec, self._among, self._salt, (shard,))
        accumulated = label(accumulate.accumulate(bounded, self._spec), shard, 0, last=True)
        yield accumulated
        yield beam.pvalue.TaggedOutput(REPORTS, report)
        self._progress.done(shard)


class _AccumulateRows(ContainedDoFn):
    """A block whose rows are units of their own in; its accumulators out, under the block's own label."""

    step = "Accumulate"

    def __init__(self, spec: StageSpec, public: pa.Table | None, among: Hierarchy | None) -> None:
        self._spec, self._public, self._among = spec, public, among

    def work(self, element: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        split, block, last = place(element)
        rows = element.select(route_columns(self._spec.of_input)).replace_schema_metadata(None)
        if self._public is not None:
            rows = accumulate.filter_public(rows, self._spec, self._public)
        if self._among is not None:
            rows = hierarchy.roll_up(rows, self._among)
        accumulated = label(accumulate.accumulate_rows(rows, self._spec), split, block, last=last)
        yield accumulated


@dataclass(eq=False)
class BoundContributions(beam.PTransform):
    """At most `l0` partitions a unit and `linf` rows a (unit, partition), both chosen uniformly, then accumulated.

    Guarantee: one unit more or less changes at most `l0` partitions' accumulators, each by at most what `linf` rows
    of clipped values add up to (an `other` of hierarchical keys: those of several leaves, `l0` in all); the samples of
    other units don't depend on it, given that `salt` stays secret.

    Result: a tuple of accumulator batches labelled with their sender, and the reports of the shuffle.
    """

    spec: StageSpec
    shards: int
    salt: bytes
    public: pa.Table | None
    splits: int
    schema: pa.Schema
    """Schema of a validated block."""
    among: Hierarchy | None = None
    """Of hierarchical keys, the kept leaves: rows are bounded by leaves, then rolled up to their cells."""

    senders: frozenset[int] = field(init=False)
    """The labels the accumulators carry: user shards, or the splits where rows are units."""
    shuffles: tuple[Shuffle, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._name = f"{self.spec.name}.users"
        if self.spec.unit is None:
            self.senders, self.shuffles = frozenset(range(self.splits)), ()
        else:
            self.senders = frozenset(range(self.shards))
            senders = frozenset((SEEDER, *range(self.splits)))
            self.shuffles = (Shuffle(name=self._name, senders=senders, destinations=self.shards),)

    def expand(
        self, blocks: beam.PCollection[pa.RecordBatch]
    ) -> tuple[beam.PCollection[pa.RecordBatch], tuple[beam.PCollection[object], ...]]:
        if self.spec.unit is None:
            return (
                blocks
                | "AccumulateRows"
                >> beam.ParDo(_AccumulateRows(self.spec, self.public, self.among)).with_output_types(pa.RecordBatch)
            ), ()
        empty = pa.schema([self.schema.field(name) for name in route_columns(self.spec.of_input)])
        seeds = seed(blocks.pipeline, "Seed", self._name, [pa.RecordBatch.from_pylist([], schema=empty)] * self.shards)
        routed = blocks | "BoundAtSource" >> messages(
            _Route(self.spec, self.shards, self.salt, self.public, self.among, self._name)
        )
        progress = Parts(f"aggregating {self.spec.name}", self.shards)
        bound = _BoundShard(self.spec, self.salt, self.among, self._name, progress)
        bounded = (
            (routed.main, seeds.main)
            | "Together" >> beam.Flatten()
            | "ByUserShard" >> beam.GroupByKey()
            | "Bound" >> beam.ParDo(bound).with_outputs(REPORTS, main="main")
        )
        return bounded.main, (routed[REPORTS], seeds[REPORTS], bounded[REPORTS])


def messages(dofn: beam.DoFn) -> beam.PTransform:
    """A ParDo of (destination, batch) messages that also puts out reports."""
    return beam.ParDo(dofn).with_output_types(tuple[int, pa.RecordBatch]).with_outputs(REPORTS, main="main")


def seed(pipeline: beam.Pipeline, name: str, shuffle: str, batches: list[pa.RecordBatch]) -> beam.pvalue.DoOutputsTuple:
    """Sends `batches[i]` to destination i of a shuffle, each destination's once."""
    return pipeline | f"{name}Once" >> beam.Create([None], reshuffle=False) | name >> messages(_Seed(shuffle, batches))
