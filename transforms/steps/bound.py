"""Bounds contributions: one batch of partition accumulators a user shard.

Every row is routed by a hash of its privacy unit, so a unit meets all its rows in one shard; blocks where few units
hold many rows are cut down before the shuffle. Where each row is a unit of its own, rows accumulate where they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.arrays import hashing
from dpbeam.engine.bounding import contributions, hierarchy, unit_rows, votes
from dpbeam.engine.bounding.hierarchy import Hierarchy
from dpbeam.engine.stage import StageSpec
from dpbeam.reading import tallies
from dpbeam.transforms.steps.read import label, place
from dpbeam.transforms.wire.beam_types import Batches, Reports
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.control import Outbox, Shuffle, receive
from dpbeam.transforms.wire.progress import WorkProgress
from dpbeam.transforms.wire.staging import Area

REPORTS = "reports"
SEEDER = -1  # the sender of the empty messages that make every destination exist


class _Route(ContainedDoFn):
    """Routes a block's rows to user shards, after dropping or cutting what needs no other blocks."""

    step = "BoundAtSource"

    def __init__(
        self,
        spec: StageSpec,
        shards: int,
        salt: bytes,
        public: pa.Table | None,
        kept_leaves: Hierarchy | None,
        shuffle: str,
    ) -> None:
        self._spec, self._shards, self._salt, self._public = spec.of_input, shards, salt, public
        self._votes = spec.votes
        self._cells_of = None if kept_leaves is None else kept_leaves.cells_of
        self._shuffle = shuffle

    def work(self, element: pa.RecordBatch) -> Iterator[object]:
        split, block, last = place(element)
        outbox = Outbox(self._shuffle, split, block, last=last)
        counted = None
        if self._votes:
            element, counted = tallies.apart(element, self._spec.unit)
        rows = element.select(contributions.input_columns(self._spec)).replace_schema_metadata(None)
        if self._public is not None:
            rows = accumulate.filter_public(rows, self._spec, self._public)
        rows = contributions.prebound(rows, self._spec, self._salt, (split, block), self._cells_of)
        messages = [
            message
            for shard, part in contributions.split_by_unit(rows, self._spec, self._shards, self._salt)
            for message in outbox.send(shard, part)
        ]
        if counted is not None:
            counted = counted.replace_schema_metadata(None)
            hashes = hashing.hash_column(counted.column(self._spec.unit), hashing.seed_for(self._salt, "route"))
            for shard, part in contributions.split(counted, hashes, self._shards):
                messages += outbox.send(shard, part)
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
    """Bounds and accumulates all rows of one user shard; the shard is the sender of its accumulators."""

    step = "Bound"

    def __init__(
        self,
        spec: StageSpec,
        salt: bytes,
        kept_leaves: Hierarchy | None,
        shuffle: str,
        sealed: Area | None,
        progress: WorkProgress,
    ) -> None:
        self._spec, self._salt, self._kept_leaves, self._shuffle = spec, salt, kept_leaves, shuffle
        self._sealed, self._progress = sealed, progress

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        shard, batches = element
        received, report = receive(self._shuffle, shard, batches)
        if self._sealed is not None:  # tags are of no use here: a batch that is read again gets another
            received.sort(key=lambda batch: _fingerprint(batch, self._salt))
        if self._kept_leaves is None or self._spec.votes:
            cells_of = None if self._kept_leaves is None else self._kept_leaves.cells_of
            bounded = unit_rows.bound(received, self._spec, self._salt, (shard,), cells_of)
        else:
            bounded = hierarchy.bound(received, self._spec, self._kept_leaves, self._salt, (shard,))
        accumulators = accumulate.accumulate(bounded, self._spec)
        if self._sealed is not None:
            self._sealed.seal(f"{self._shuffle}-{shard}", _fingerprint(accumulators, self._salt))
        accumulated = label(accumulators, shard, 0, last=True)
        yield accumulated
        yield beam.pvalue.TaggedOutput(REPORTS, report)
        self._progress.done(shard)


def _fingerprint(batch: pa.RecordBatch, salt: bytes) -> bytes:
    """Tells batches of one schema apart; of no use to who doesn't know the salt."""
    digest = hashlib.blake2b(digest_size=32, key=salt)
    digest.update(batch.serialize())
    return digest.digest()


class _AccumulateRows(ContainedDoFn):
    """Accumulates a block whose rows are units of their own, under the block's own label."""

    step = "Accumulate"

    def __init__(self, spec: StageSpec, public: pa.Table | None, kept_leaves: Hierarchy | None) -> None:
        self._spec, self._public, self._kept_leaves = spec, public, kept_leaves

    def work(self, element: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        split, block, last = place(element)
        counted = None
        if self._spec.votes:
            element, counted = tallies.apart(element, None)
        rows = element.select(contributions.input_columns(self._spec.of_input)).replace_schema_metadata(None)
        if self._public is not None:
            rows = accumulate.filter_public(rows, self._spec.of_input, self._public)
        if counted is not None:
            voted = accumulate.accumulate(votes.of_rows(rows.num_rows, counted), self._spec)
            yield label(voted, split, block, last=last)
            return
        if self._kept_leaves is not None:
            rows = hierarchy.roll_up(rows, self._kept_leaves)
        accumulated = label(accumulate.accumulate_rows(rows, self._spec), split, block, last=last)
        yield accumulated


@dataclass(eq=False)
class BoundContributions(beam.PTransform[Batches, tuple[Batches, Reports]]):
    """At most `l0` partitions a unit and `linf` rows a (unit, partition), both chosen uniformly, then accumulated.

    Guarantee: one unit more or less changes at most `l0` partitions' accumulators, each by at most what `linf` rows
    of clipped values add up to (an `other` of hierarchical keys: those of several leaves, `l0` in all); the samples of
    other units don't depend on it, given that `salt` stays secret.

    Rows of somebody's own pipeline come from nobody knows how many places (`splits` is None), and may be others when a
    runner executes steps again. Then what each shard gives is `sealed`: a shard that is executed again gives the same,
    or the run fails. Else a unit might count in `l0` partitions of one execution and in `l0` of another.

    Result: a tuple of accumulator batches labelled with their sender, and the reports of the shuffle.

    Raises:
        ValueError: rows are units of their own, and `splits` is None: nothing would tell a row that is read twice.
    """

    spec: StageSpec
    shards: int
    salt: bytes = field(repr=False)
    public: pa.Table | None
    splits: int | None
    schema: pa.Schema
    """Schema of a validated block."""
    sealed: Area | None = None
    kept_leaves: Hierarchy | None = None
    """Of hierarchical keys, the kept leaves: rows are bounded by leaves, then rolled up to their cells."""

    senders: frozenset[int] = field(init=False)
    """The labels the accumulators carry: user shards, or the splits where rows are units."""
    shuffles: tuple[Shuffle, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._name = f"{self.spec.name}.users"
        if self.spec.unit is None:
            if self.splits is None:
                raise ValueError("rows that are units of their own must come from splits that are known")
            self.senders, self.shuffles = frozenset(range(self.splits)), ()
        else:
            self.senders = frozenset(range(self.shards))
            senders = None if self.splits is None else frozenset((SEEDER, *range(self.splits)))
            self.shuffles = (Shuffle(name=self._name, senders=senders, destinations=self.shards),)

    def expand(self, blocks: Batches) -> tuple[Batches, Reports]:
        if self.spec.unit is None:
            return (
                blocks
                | "AccumulateRows"
                >> beam.ParDo(_AccumulateRows(self.spec, self.public, self.kept_leaves)).with_output_types(
                    pa.RecordBatch
                )
            ), ()
        empty = pa.schema([self.schema.field(name) for name in contributions.input_columns(self.spec.of_input)])
        seeds = seed(blocks.pipeline, "Seed", self._name, [pa.RecordBatch.from_pylist([], schema=empty)] * self.shards)
        routed = blocks | "BoundAtSource" >> messages(
            _Route(self.spec, self.shards, self.salt, self.public, self.kept_leaves, self._name)
        )
        progress = WorkProgress(f"aggregating {self.spec.name}", self.shards)
        bound = _BoundShard(self.spec, self.salt, self.kept_leaves, self._name, self.sealed, progress)
        bounded = (
            (routed.main, seeds.main)
            | "Together" >> beam.Flatten()
            | "ByUserShard" >> beam.GroupByKey()
            | "Bound" >> beam.ParDo(bound).with_outputs(REPORTS, main="main")
        )
        return bounded.main, (routed[REPORTS], seeds[REPORTS], bounded[REPORTS])


def messages(dofn: beam.DoFn, *others: str) -> beam.PTransform[Any, beam.pvalue.DoOutputsTuple]:
    """A ParDo of (destination, batch) messages that also puts out reports, and `others`."""
    typed = beam.ParDo(dofn).with_output_types(tuple[int, pa.RecordBatch])
    sent: beam.PTransform[Any, beam.pvalue.DoOutputsTuple] = typed.with_outputs(*others, REPORTS, main="main")
    return sent


def seed(pipeline: beam.Pipeline, name: str, shuffle: str, batches: list[pa.RecordBatch]) -> beam.pvalue.DoOutputsTuple:
    """Sends `batches[i]` to destination i of a shuffle, each destination's once."""
    once = pipeline | f"{name}Once" >> beam.Impulse()
    sent: beam.pvalue.DoOutputsTuple = once | name >> messages(_Seed(shuffle, batches))
    return sent
