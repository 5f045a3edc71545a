"""Weighs partitions: blocks of typed rows go in; one round's kept partitions come out, in result shards.

Rows meet by unit, which spread their weight over their partitions; the weights meet by partition. With a saturation the
weight that is over it goes back to the units once, and on to the partitions, before there is any noise. Every message
through every shuffle is counted at both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa

from dpbeam.mechanisms import accumulate, rounds
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.spec import StageSpec
from transforms.bound import REPORTS, SEEDER, messages, seed
from transforms.containment import ContainedDoFn
from transforms.control import Outbox, Shuffle, receive
from transforms.read import place

_FROM = "__from"
"""The column that says which user shard a tally came from, so that an answer finds its way back."""


@dataclass(frozen=True, kw_only=True)
class _Round:
    """What the steps of a round share. `known` is what the rounds before it found."""

    spec: StageSpec
    shards: int
    parts: int
    salt: bytes
    known: pa.Table | None

    def shuffle(self, name: str) -> str:
        return f"{self.spec.name}.{name}"


class _Step(ContainedDoFn):
    def __init__(self, round: _Round) -> None:
        self._round = round


class _Sample(_Step):
    """A block in; its distinct (unit, partition) pairs out, as far as they can matter, keyed by user shard."""

    step = "SampleAtSource"

    def work(self, element: pa.RecordBatch) -> Iterator[object]:
        spec = self._round.spec
        split, block, last = place(element)
        outbox = Outbox(self._round.shuffle("users"), split, block, last=last)
        rows = element.select(rounds.columns_of(spec)).replace_schema_metadata(None)
        rows = rounds.unfound(rows, spec, self._round.known)
        pairs = rounds.sample([rows], spec, self._round.salt, self._round.known).batch(spec)
        sent = [
            message
            for shard, part in rounds.split_by_unit(pairs, spec, self._round.shards, self._round.salt)
            for message in outbox.send(shard, part)
        ]
        yield from sent
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


class _Share(_Step):
    """All pairs of one user shard in; the units' shares out, by partition. Where there is a saturation these are asked
    about first, and the pairs that got them go to the shard itself, to be met there by the answers."""

    step = "Share"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        round = self._round
        spec = round.spec
        shard, batches = element
        found, report = receive(round.shuffle("users"), shard, batches)
        pairs = rounds.chosen(found, spec, round.salt, round.known)
        asks = bool(spec.weighing.saturation)
        given = rounds.tallies(pairs, rounds.shares(pairs), spec)
        yield from _to_partitions(round, "shares" if asks else "partitions", shard, given)
        if asks:
            back = Outbox(round.shuffle("returns"), shard, 0, last=True)
            for _, message in back.send(shard, pairs.batch(spec)):
                yield beam.pvalue.TaggedOutput("pairs", (shard, message))
            yield beam.pvalue.TaggedOutput(REPORTS, back.report())
        yield beam.pvalue.TaggedOutput(REPORTS, report)


class _Return(_Step):
    """All shares of one partition shard in; what goes back, to each user shard that has any of it."""

    step = "Return"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        spec = self._round.spec
        part, batches = element
        found, report = receive(self._round.shuffle("shares"), part, batches)
        outbox = Outbox(self._round.shuffle("returns"), self._round.shards + part, 0, last=True)
        parts = rounds.returned(found, spec)
        answers = []
        if parts.num_rows:
            for batch in found:
                if batch.num_rows:
                    shard = batch.column(_FROM)[0].as_py()
                    answers += list(outbox.send(shard, accumulate.filter_public(parts, spec, _keys(batch, spec))))
        yield from answers
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())
        yield beam.pvalue.TaggedOutput(REPORTS, report)


class _SendOn(_Step):
    """One user shard's pairs and what comes back to it in; its shares and what it sends on out, by partition."""

    step = "SendOn"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        spec = self._round.spec
        shard, batches = element
        found, report = receive(self._round.shuffle("returns"), shard, batches)
        replies = [batch for batch in found if rounds.PART in batch.schema.names]
        own = [batch for batch in found if rounds.PART not in batch.schema.names]
        yield beam.pvalue.TaggedOutput(REPORTS, report)
        if not own:
            return  # a shard always sends itself its pairs: they were lost, and the control totals will say so
        pairs = rounds.chosen(own, spec, self._round.salt, self._round.known)
        shares = rounds.shares(pairs)
        tallies = [rounds.tallies(pairs, shares, spec), rounds.sent_on(pairs, shares, replies, spec)]
        table = pa.Table.from_batches(tallies).combine_chunks()
        batch = table.to_batches()[0] if table.num_rows else tallies[0]
        yield from _to_partitions(self._round, "partitions", shard, batch)


class _Weigh(_Step):
    """All that one partition shard was given in; its partitions with their exact weights out."""

    step = "Weigh"

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        part, batches = element
        found, report = receive(self._round.shuffle("partitions"), part, batches)
        weighed = rounds.weigh(found, self._round.spec)
        yield part, weighed
        yield beam.pvalue.TaggedOutput(REPORTS, report)


class _Draw(ContainedDoFn):
    """Weights in; noise, and what is told of each partition, out."""

    step = "AddNoise"

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec
        self._noise: AdditiveNoise | None = None

    def setup(self) -> None:
        self._noise = rounds.noise_of(self._spec)

    def work(self, element: tuple[int, pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
        part, weighed = element
        told = rounds.draw(weighed, self._spec, self._noise or rounds.noise_of(self._spec))
        yield part, told


@dataclass(eq=False)
class WeighPartitions(beam.PTransform):
    """One round of DP-SIPS, MAD or MAD2R: validated blocks in; (result shard, its told partitions) out.

    Guarantee: what comes out is private as the round's mechanism states, given that `known` comes from the rounds
    before it and that `salt` stays secret. Everything before `AddNoise` is a function of rows and salt alone, so a step
    that is executed again gives the same; after it, the staged sink and the launcher see to one draw.

    Result: a collection of (shard, batch), and the reports of the shuffles.
    """

    spec: StageSpec
    shards: int
    parts: int
    salt: bytes
    known: pa.Table | None
    splits: int
    schema: pa.Schema
    """Schema of a validated block."""

    shuffles: tuple[Shuffle, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._round = _Round(spec=self.spec, shards=self.shards, parts=self.parts, salt=self.salt, known=self.known)
        users = frozenset(range(self.shards))
        name = self._round.shuffle
        self.shuffles = (
            Shuffle(name=name("users"), senders=frozenset((SEEDER, *range(self.splits))), destinations=self.shards),
            Shuffle(name=name("partitions"), senders=users | {SEEDER}, destinations=self.parts),
        )
        if self.spec.weighing.saturation:
            answers = frozenset(range(self.shards + self.parts))
            self.shuffles += (
                Shuffle(name=name("shares"), senders=users | {SEEDER}, destinations=self.parts),
                Shuffle(name=name("returns"), senders=answers, destinations=self.shards),
            )

    def expand(
        self, blocks: beam.PCollection[pa.RecordBatch]
    ) -> tuple[beam.PCollection[tuple[int, pa.RecordBatch]], tuple[beam.PCollection[object], ...]]:
        round = self._round
        empty = pa.schema([self.schema.field(name) for name in rounds.columns_of(self.spec)])
        pairs = pa.RecordBatch.from_pylist([], schema=empty)
        tallies = pa.RecordBatch.from_pylist([], schema=rounds.tally_schema(self.spec))
        seeds = seed(blocks.pipeline, "Seed", round.shuffle("users"), [pairs] * self.shards)
        sampled = blocks | "SampleAtSource" >> messages(_Sample(round))
        by_unit = (sampled.main, seeds.main) | "Together" >> beam.Flatten() | "ByUserShard" >> beam.GroupByKey()
        reports = [sampled[REPORTS], seeds[REPORTS]]
        if self.spec.weighing.saturation:
            shared = by_unit | "Share" >> _three(_Share(round))
            asked = seed(blocks.pipeline, "SeedShares", round.shuffle("shares"), [tallies] * self.parts)
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
        skeleton = seed(blocks.pipeline, "Skeleton", round.shuffle("partitions"), [tallies] * self.parts)
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
    """The messages that carry tallies to the partitions' shards, and their report."""
    outbox = Outbox(round.shuffle(shuffle), shard, 0, last=True)
    marked = given.append_column(_FROM, pa.array([shard] * given.num_rows, pa.int64()))
    sent = [
        message
        for part, rows in accumulate.split_by_partition(marked, round.spec, round.parts)
        for message in outbox.send(part, rows)
    ]
    yield from sent
    yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


def _keys(batch: pa.RecordBatch, spec: StageSpec) -> pa.Table:
    return pa.Table.from_batches([batch.select(list(spec.keys))])


def _three(dofn: beam.DoFn) -> beam.PTransform:
    """A ParDo of messages that also puts out pairs and reports."""
    return beam.ParDo(dofn).with_output_types(tuple[int, pa.RecordBatch]).with_outputs("pairs", REPORTS, main="main")
