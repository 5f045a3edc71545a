"""Weighs partitions: one round's kept partitions, by result shard.

Rows meet by unit, which spread their weight over their partitions; the weights meet by partition. With a saturation the
weight that is over it goes back to the units once, and on to the partitions, before there is any noise. Every message
through every shuffle is counted at both ends.

What meets in a shard is merged as it comes: a user shard is held as its units' sampled pairs, each once, and a
partition's shard as its partitions' weight rows, in `pre_threshold` rows each at most (docs/scale.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.merge_buffer import merged_as_they_come
from dpbeam.engine.arrays import hashing
from dpbeam.engine.arrays.grouping import ordering
from dpbeam.engine.rounds import weighing, weight_tables
from dpbeam.engine.rounds.earlier_rounds import EarlierRounds
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import RunFailed
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.transforms.steps.bound import REPORTS, SEEDER, messages, seed
from dpbeam.transforms.steps.read import place
from dpbeam.transforms.wire.arrow_coder import MAX_MESSAGE_BYTES
from dpbeam.transforms.wire.beam_types import Batches, Reports, Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.control import Inbox, Outbox, Shuffle, receive

_PAIRS_PENDING_BYTES = 4 << 20
"""Pairs that wait to be merged: they take eight times their size to be sampled."""
_FROM = "__from"
"""The column that says which user shard a weight row came from, so that an answer finds its way back."""


@dataclass(frozen=True, kw_only=True)
class _Round:
    """What the steps of a round share. `known` is what the rounds before it found."""

    spec: StageSpec
    shards: int
    result_shards: int
    salt: bytes = field(repr=False)
    known: EarlierRounds | None

    def shuffle(self, name: str) -> str:
        return f"{self.spec.name}.{name}"


class _Step(ContainedDoFn):
    def __init__(self, round: _Round) -> None:
        self._round = round


class _Sample(_Step):
    """Samples a block's distinct (unit, partition) pairs, as far as they can matter, and routes them to user shards."""

    step = "SampleAtSource"

    def work(self, element: pa.RecordBatch) -> Iterator[object]:
        spec = self._round.spec
        split, block, last = place(element)
        outbox = Outbox(self._round.shuffle("users"), split, block, last=last)
        rows = element.select(weighing.columns_of(spec)).replace_schema_metadata(None)
        rows = weighing.without_kept(rows, spec, self._round.known)
        pairs = weighing.sample([rows], spec, self._round.salt, self._round.known).batch(spec)
        sent = [
            message
            for shard, part in weighing.split_by_unit(pairs, spec, self._round.shards, self._round.salt)
            for message in outbox.send(shard, part)
        ]
        yield from sent
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


class _Share(_Step):
    """Shares out the weight of one user shard's units among their partitions. Where there is a saturation only their
    sums are, to be asked about, and the pairs that got them go to the shard itself, to be met there by the answers.

    Held are the shard's distinct pairs, about eight times over: no more than `l0` of a unit, however many blocks it is
    in.
    """

    step = "Share"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        round = self._round
        spec = round.spec
        shard, batches = element
        inbox = Inbox(round.shuffle("users"), shard)
        sampled = merged_as_they_come((rows for _, rows in inbox.open(batches)), self._sampled, _PAIRS_PENDING_BYTES)
        pairs = weighing.chosen(sampled, spec, round.salt, round.known)
        given = weighing.weight_rows(pairs, weighing.shares(pairs), spec)
        if spec.weighing.saturation:
            asked = weight_tables.summed([given], spec)
            yield from _to_partitions(
                round, "shares", shard, asked.append_column(_FROM, pa.array([shard] * asked.num_rows, pa.int64()))
            )
            back = Outbox(round.shuffle("returns"), shard, 0, last=True)
            for _, message in back.send(shard, _ordered(pairs.batch(spec), weighing.columns_of(spec), round.salt)):
                yield beam.pvalue.TaggedOutput("pairs", (shard, message))
            yield beam.pvalue.TaggedOutput(REPORTS, back.report())
        else:
            yield from _to_partitions(round, "partitions", shard, weight_tables.folded([given], spec))
        yield beam.pvalue.TaggedOutput(REPORTS, inbox.report())

    def _sampled(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        return weighing.sample(batches, self._round.spec, self._round.salt, self._round.known).batch(self._round.spec)


class _Return(_Step):
    """Returns what a partition shard has beyond the saturation, to each user shard that gave any of it.

    Held is one sum a partition, about four times over. So the messages are gone through twice: what goes back is known
    when all have been added up, and to whom it goes only they say.

    Raises:
        RunFailed: they are not the same messages the second time.
    """

    step = "Return"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        spec = self._round.spec
        part, batches = element
        name = self._round.shuffle("shares")
        inbox, again = Inbox(name, part), Inbox(name, part)
        sums = merged_as_they_come((rows for _, rows in inbox.open(batches)), partial(weight_tables.summed, spec=spec))
        returns = _ordered(weighing.returned(sums, spec), spec.keys, self._round.salt)
        outbox = Outbox(self._round.shuffle("returns"), self._round.shards + part, 0, last=True)
        for tag, asked in again.open(batches):
            if returns.num_rows and asked.num_rows:
                shard = asked.column(_FROM)[0].as_py()
                yield from outbox.send(
                    shard, accumulate.filter_public(returns, spec, _keys(asked, spec)), answering=tag
                )
        if again.report() != inbox.report():
            raise RunFailed(f"shuffle {name} didn't deliver the same messages when they were read again")
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())
        yield beam.pvalue.TaggedOutput(REPORTS, inbox.report())


class _SendOn(_Step):
    """Sends on, by partition, what comes back to one user shard, and its shares anew.

    Held are the shard's distinct pairs, about eight times over, and at most one answer for each of their partitions.
    """

    step = "SendOn"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        spec = self._round.spec
        shard, batches = element
        received, report = receive(self._round.shuffle("returns"), shard, batches)
        replies = [batch for batch in received if weighing.PART in batch.schema.names]
        own = [batch for batch in received if weighing.PART not in batch.schema.names]
        yield beam.pvalue.TaggedOutput(REPORTS, report)
        if not own:
            return  # a shard always sends itself its pairs: they were lost, and the control totals will say so
        pairs = weighing.chosen(own, spec, self._round.salt, self._round.known)
        shares = weighing.shares(pairs)
        given = [weighing.weight_rows(pairs, shares, spec), weighing.sent_on(pairs, shares, replies, spec)]
        yield from _to_partitions(self._round, "partitions", shard, weight_tables.folded(given, spec))


class _Weigh(_Step):
    """Weighs the partitions of one shard exactly, from all that units gave them.

    Held are the partitions' weight rows, folded, about four times over: `pre_threshold` rows of a partition at most,
    however many units and user shards give it weight.
    """

    step = "Weigh"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        part, batches = element
        spec = self._round.spec
        inbox = Inbox(self._round.shuffle("partitions"), part)
        weighed = weighing.weigh(
            merged_as_they_come((rows for _, rows in inbox.open(batches)), partial(weight_tables.folded, spec=spec)),
            spec,
        )
        yield part, weighed
        yield beam.pvalue.TaggedOutput(REPORTS, inbox.report())


class _Draw(ContainedDoFn):
    """Draws the noise of weights, and decides by it what is said of each partition."""

    step = "AddNoise"

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec
        self._noise: AdditiveNoise | None = None

    def setup(self) -> None:
        self._noise = weighing.noise_of(self._spec)

    def work(self, element: tuple[int, pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
        part, weighed = element
        told = weighing.draw(weighed, self._spec, self._noise or weighing.noise_of(self._spec))
        yield part, told


@dataclass(eq=False)
class WeighPartitions(beam.PTransform[Batches, tuple[Sharded, Reports]]):
    """One round of DP-SIPS, MAD or MAD2R, from validated blocks to (result shard, what the round says of its
    partitions).

    Guarantee: what comes out is private as the round's mechanism states, given that `known` comes from the rounds
    before it and that `salt` stays secret. Everything before `AddNoise` is a function of rows and salt alone, so a step
    that is executed again gives the same; after it, the staged sink and the launcher see to one draw.

    Result: a collection of (shard, batch), and the reports of the shuffles.
    """

    spec: StageSpec
    shards: int
    result_shards: int
    salt: bytes = field(repr=False)
    known: pa.Table | None
    splits: int
    schema: pa.Schema
    """Schema of a validated block."""

    shuffles: tuple[Shuffle, ...] = field(init=False)

    def __post_init__(self) -> None:
        known = None if self.known is None else EarlierRounds(table=self.known)
        self._round = _Round(
            spec=self.spec, shards=self.shards, result_shards=self.result_shards, salt=self.salt, known=known
        )
        users = frozenset(range(self.shards))
        name = self._round.shuffle
        self.shuffles = (
            Shuffle(name=name("users"), senders=frozenset((SEEDER, *range(self.splits))), destinations=self.shards),
            Shuffle(name=name("partitions"), senders=users | {SEEDER}, destinations=self.result_shards),
        )
        if self.spec.weighing.saturation:
            answers = frozenset(range(self.shards + self.result_shards))
            self.shuffles += (
                Shuffle(name=name("shares"), senders=users | {SEEDER}, destinations=self.result_shards),
                Shuffle(name=name("returns"), senders=answers, destinations=self.shards),
            )

    def expand(self, blocks: Batches) -> tuple[Sharded, Reports]:
        round = self._round
        empty = pa.schema([self.schema.field(name) for name in weighing.columns_of(self.spec)])
        pairs = pa.RecordBatch.from_pylist([], schema=empty)
        weight_rows = pa.RecordBatch.from_pylist([], schema=weight_tables.weight_schema(self.spec))
        sums = pa.RecordBatch.from_pylist([], schema=weight_tables.sums_schema(self.spec))
        seeds = seed(blocks.pipeline, "Seed", round.shuffle("users"), [pairs] * self.shards)
        sampled = blocks | "SampleAtSource" >> messages(_Sample(round))
        by_unit = (sampled.main, seeds.main) | "Together" >> beam.Flatten() | "ByUserShard" >> beam.GroupByKey()
        reports = [sampled[REPORTS], seeds[REPORTS]]
        if self.spec.weighing.saturation:
            shared = by_unit | "Share" >> messages(_Share(round), "pairs")
            asked = seed(blocks.pipeline, "SeedShares", round.shuffle("shares"), [sums] * self.result_shards)
            answered = (
                (shared.main, asked.main)
                | "SharesTogether" >> beam.Flatten()
                | "SharesByPartition" >> beam.GroupByKey()
                | "Return" >> messages(_Return(round))
            )
            given = (
                (shared["pairs"], answered.main)
                | "ReturnsTogether" >> beam.Flatten()
                | "ReturnsByUserShard" >> beam.GroupByKey()
                | "SendOn" >> messages(_SendOn(round))
            )
            reports += [shared[REPORTS], asked[REPORTS], answered[REPORTS]]
        else:
            given = by_unit | "Share" >> messages(_Share(round))
        skeleton = seed(blocks.pipeline, "Skeleton", round.shuffle("partitions"), [weight_rows] * self.result_shards)
        weighed = (
            (given.main, skeleton.main)
            | "WeightsTogether" >> beam.Flatten()
            | "ByPartitionShard" >> beam.GroupByKey()
            | "Weigh" >> messages(_Weigh(round))
        )
        reports += [given[REPORTS], skeleton[REPORTS], weighed[REPORTS]]
        told = weighed.main | "AddNoise" >> beam.ParDo(_Draw(self.spec)).with_output_types(tuple[int, pa.RecordBatch])
        return told, tuple(reports)


def _to_partitions(round: _Round, shuffle: str, shard: int, given: pa.RecordBatch) -> Iterator[object]:
    """The messages that carry rows to the partitions' shards, and their report.

    Guarantee: the same rows give the same messages, in whatever order they are: so a bundle that is executed again
    sends what it sent before. If the pieces of one batch came from two orders, rows might be lost and others doubled.
    """
    outbox = Outbox(round.shuffle(shuffle), shard, 0, last=True)
    sent = [
        message
        for part, rows in accumulate.split_by_partition(given, round.spec, round.result_shards)
        for message in outbox.send(part, _ordered(rows, round.spec.keys, round.salt))
    ]
    yield from sent
    yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


def _ordered(rows: pa.RecordBatch, columns: Sequence[str], salt: bytes) -> pa.RecordBatch:
    """Rows that one message has no room for, in an order that depends on them and the salt alone: by a keyed hash of 64
    bits, for which nobody can make up equal ones."""
    if rows.nbytes <= MAX_MESSAGE_BYTES:
        return rows
    hashes, seed = [], hashing.seed_for(salt, "order")
    for name in columns:
        column, hashed = rows.column(name), np.zeros(rows.num_rows, dtype=np.uint64)
        hashed[np.flatnonzero(column.is_valid())] = hashing.hash_column(column.drop_null(), seed)
        hashes.append(hashed)
    mixed = hashing.mix_columns(hashes, rows.num_rows, seed)
    return rows.take(pa.array(ordering(mixed, 64)))


def _keys(batch: pa.RecordBatch, spec: StageSpec) -> pa.Table:
    return pa.Table.from_batches([batch.select(list(spec.keys))])
