"""The plan for one worker, without a shuffle: from the source's splits to each stage's merged accumulators.

Reading, validating, bounding and accumulating are one step: rows are sorted into user shards in memory and never meet
a shuffle of the runner. The kernels are those of the plan with shuffles, so both have the same law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dpbeam.array_types import U16, Mask
from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.partition_shards import PartitionShards
from dpbeam.engine.arrays import hashing
from dpbeam.engine.bounding import contributions, hierarchy, unit_rows, votes
from dpbeam.engine.bounding.hierarchy import Hierarchy
from dpbeam.engine.bounding.shard_buffer import ShardBuffer, Total
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import RunFailed
from dpbeam.queries.source import InputSpec
from dpbeam.reading import formats, rows, tallies
from dpbeam.transforms.steps.bound import REPORTS
from dpbeam.transforms.steps.read import raw_blocks
from dpbeam.transforms.wire.beam_types import Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn, leave_time_uncounted
from dpbeam.transforms.wire.control import RECEIVED, SENT, Report, Shuffle
from dpbeam.transforms.wire.progress import WorkProgress

T = TypeVar("T")
Sink = Callable[[int, int, pa.RecordBatch, pa.RecordBatch | None], Total]
"""Takes a split's number, a block's number in it, and its rows."""

BLOCK_ROWS = 1 << 19
"""Rows of a split that are sorted into shards at a time."""
_SHARED_BLOCKS = 4
"""Where several threads share a split, a block is cut in as many."""
_CROWD_ROWS = 4096
_PENDING_PART = 16
"""Beside its room for rows, a sixteenth as much for accumulators that wait to be merged."""
_STAGE = "stage."


@dataclass(frozen=True, kw_only=True)
class OneWorker:
    """How one worker goes through the input: units are sorted into `shards`, held in `room_bytes`, by `threads`."""

    shards: int
    room_bytes: int
    threads: int


class _Aggregate(ContainedDoFn):
    """Passes over the input until every shard is done; each pass finishes as many as there is room for."""

    step = "Aggregate"

    def __init__(
        self,
        plan: OneWorker,
        source: InputSpec,
        splits: tuple[formats.Portion, ...],
        stages: tuple[StageSpec, ...],
        public: Mapping[str, pa.Table],
        result_shards: int,
        salt: bytes,
        kept_leaves: Mapping[str, Hierarchy] = MappingProxyType({}),
    ) -> None:
        self._plan, self._source, self._splits, self._kept_leaves = plan, source, splits, dict(kept_leaves)
        self._stages, self._public, self._result_shards, self._salt = stages, public, result_shards, salt

    def work(self, element: object) -> Iterator[object]:
        leave_time_uncounted()
        pending = self._plan.room_bytes // _PENDING_PART // len(self._stages)
        merged_by_stage = {
            spec.name: PartitionShards(spec=spec, result_shards=self._result_shards, pending_bytes=pending)
            for spec in self._stages
        }
        threads = ThreadPoolExecutor(self._plan.threads, thread_name_prefix="dpbeam")
        try:
            if self._stages[0].unit is None:
                read = partial(self._read, partial(self._count_rows, merged_by_stage), threads)
                sent = _each(threads, "reading", read, range(len(self._splits)))
                received = sum(sent.values(), Total())
            else:
                sent, received = self._through(merged_by_stage, threads)
            for name, accumulators in merged_by_stage.items():
                if name in self._public:
                    accumulators.add(accumulate.zeros(self._public[name], accumulators.spec))
                elif not accumulators.spec.keys:
                    accumulators.add(accumulate.whole(accumulators.spec))
                merged = _each(threads, "merging", accumulators.merged, range(self._result_shards))
                for part in range(self._result_shards):
                    yield beam.pvalue.TaggedOutput(_STAGE + name, (part, merged[part]))
        finally:
            threads.shutdown(cancel_futures=True)
        name = _shuffle_name(self._stages)
        for split, total in sent.items():
            report: Report = (name, SENT, split, 0, True, {0: (total.rows, total.tags)})
            yield beam.pvalue.TaggedOutput(REPORTS, report)
        report = (name, RECEIVED, 0, 0, True, {0: (received.rows, received.tags)})
        yield beam.pvalue.TaggedOutput(REPORTS, report)

    def _through(
        self, merged_by_stage: Mapping[str, PartitionShards], threads: ThreadPoolExecutor
    ) -> tuple[dict[int, Total], Total]:
        """Adds up the whole input. Returns what each split sent, by the first pass, and what all shards received."""
        shards, splits = self._plan.shards, range(len(self._splits))
        first, sent, received = 0, None, Total()
        while first < shards:
            buffer = ShardBuffer(shards=shards, first=first, last=shards, room_bytes=self._plan.room_bytes)
            read = _each(threads, "reading", partial(self._read, partial(self._buffer, buffer), threads), splits)
            if sent not in (None, read):
                raise RunFailed(
                    "the source changed while it was read; nothing was published. Run again when it is settled; a "
                    "file that was written anew is another input, and is charged anew"
                )
            largest_first = (first + np.argsort(-buffer.settle(), kind="stable")).tolist()
            bound = _each(threads, "aggregating", partial(self._bound, buffer, merged_by_stage), largest_first)
            sent, received, first = read, sum(bound.values(), received), buffer.last
        return sent or {}, received

    def _read(self, sink: Sink, threads: ThreadPoolExecutor, number: int) -> Total:
        """One split: its blocks of typed rows, of the columns that the stages need, go to `sink`.

        Where there are fewer splits than threads, the others take blocks off this one, so none waits for a thread that
        waits itself.
        """
        idle = self._plan.threads - len(self._splits)
        given, total = list[Future[Total]](), Total()
        batch_rows = BLOCK_ROWS // _SHARED_BLOCKS if idle > 0 else BLOCK_ROWS
        blocks = raw_blocks(self._splits[number], self._source, batch_rows=batch_rows)
        for block, raw in enumerate(blocks):
            if sum(not each.done() for each in given) < idle:
                given.append(threads.submit(self._take, sink, number, block, raw))
            else:
                total += self._take(sink, number, block, raw)
        return sum((each.result() for each in given), total)

    def _take(self, sink: Sink, number: int, block: int, raw: pa.RecordBatch) -> Total:
        columns = (contributions.input_columns(spec.of_input) for spec in self._stages)
        needed = list(dict.fromkeys(chain.from_iterable(columns)))
        batch, counted = self._prepared(raw)
        return sink(number, block, batch.select(needed).replace_schema_metadata(None), counted)

    def _prepared(self, raw: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """A block's rows, and the tallies of its units where a stage's units vote on what became of theirs."""
        if any(stage.votes for stage in self._stages):
            return tallies.prepare_counted(raw, self._source, self._stages[0].unit)
        return rows.prepare(raw, self._source), None

    def _buffer(
        self, buffer: ShardBuffer, split: int, block: int, batch: pa.RecordBatch, counted: pa.RecordBatch | None
    ) -> Total:
        """Puts a block and its tallies into the buffer."""
        total = self._buffer_rows(buffer, split, block, batch)
        if counted is None:
            return total
        return total + buffer.put((len(self._splits) + split, block), counted, self._shards(counted))

    def _buffer_rows(self, buffer: ShardBuffer, split: int, block: int, batch: pa.RecordBatch) -> Total:
        """Puts a block into the buffer, in two where few units have many of its rows: theirs are cut down first, to
        what any stage may keep. Votes ask for no more: of what their stage doesn't need they need the number alone."""
        stages = [spec.of_input for spec in self._stages if not spec.votes]
        if len(stages) == 1:
            batch = self._of_public(batch, stages[0])
        shard = self._shards(batch)
        sizes = np.bincount(shard, minlength=self._plan.shards)
        crowded = (sizes > 3 * len(shard) // self._plan.shards + _CROWD_ROWS)[shard]
        if not crowded.any():
            return buffer.put((split, 2 * block), batch, shard)
        many = batch.filter(pa.array(crowded))
        wanted = [(stage, self._public_rows(many, stage)) for stage in stages]
        cells_of = {name: kept_leaves.cells_of for name, kept_leaves in self._kept_leaves.items()}
        cut = contributions.prebound_together(many, wanted, self._salt, (split, block), cells_of)
        calm = np.flatnonzero(~crowded)
        total = buffer.put((split, 2 * block), batch.take(pa.array(calm)), shard[calm])
        return total + buffer.put((split, 2 * block + 1), cut, self._shards(cut))

    def _bound(self, buffer: ShardBuffer, merged_by_stage: Mapping[str, PartitionShards], shard: int) -> Total:
        """Bounds one user shard for every stage, and adds up what is kept."""
        batches, total = buffer.take(shard)
        for stage in self._stages:
            kept_leaves = self._kept_leaves.get(stage.of_input.name)
            own = [batch for batch in batches if stage.votes or not tallies.is_tally(batch)]
            if kept_leaves is None or stage.votes:
                public = [b if tallies.is_tally(b) else self._of_public(b, stage.of_input) for b in own]
                cells_of = None if kept_leaves is None else kept_leaves.cells_of
                bounded = unit_rows.bound(public, stage, self._salt, (shard,), cells_of)
            else:
                bounded = hierarchy.bound(own, stage, kept_leaves, self._salt, (shard,))
            merged_by_stage[stage.name].add(accumulate.accumulate(bounded, stage))
        return total

    def _count_rows(
        self,
        merged_by_stage: Mapping[str, PartitionShards],
        split: int,
        block: int,
        batch: pa.RecordBatch,
        counted: pa.RecordBatch | None,
    ) -> Total:
        """Adds up rows that are units of their own: nothing of them needs to be kept."""
        for stage in self._stages:
            if stage.votes and counted is not None:
                kept = self._of_public(batch, stage.of_input).num_rows
                merged_by_stage[stage.name].add(accumulate.accumulate(votes.of_rows(kept, counted), stage))
                continue
            kept_leaves = self._kept_leaves.get(stage.name)
            own = self._of_public(batch, stage) if kept_leaves is None else hierarchy.roll_up(batch, kept_leaves)
            merged_by_stage[stage.name].add(accumulate.accumulate_rows(own, stage))
        return Total(rows=batch.num_rows)

    def _shards(self, batch: pa.RecordBatch) -> U16:
        return hashing.route_here(batch.column(self._stages[0].unit), self._salt, self._plan.shards)

    def _of_public(self, batch: pa.RecordBatch, stage: StageSpec) -> pa.RecordBatch:
        public = self._public_of(stage)
        return batch if public is None else accumulate.filter_public(batch, stage, public)

    def _public_rows(self, batch: pa.RecordBatch, stage: StageSpec) -> Mask | None:
        public = self._public_of(stage)
        return None if public is None else accumulate.of_public(batch, stage, public)

    def _public_of(self, stage: StageSpec) -> pa.Table | None:
        """The partitions that rows of a stage must be of: of hierarchical keys every row has a cell."""
        return None if stage.name in self._kept_leaves else self._public.get(stage.name)


@dataclass(eq=False)
class AggregateInOneWorker(beam.PTransform[beam.pvalue.PBegin, tuple[dict[str, Sharded], beam.PCollection[object]]]):
    """From the source to each stage's merged accumulators, in one step on one worker.

    Guarantee: as `BoundContributions` and `AccumulateByPartition` in a row. Units are routed by a hash of their
    value alone, a shard is bounded when all its rows are there, and once; every pass sees the same splits.

    Result: by stage, a collection of (result shard, merged accumulators), each shard once; and the reports of the one
    shuffle that replaces all others: the rows of the splits must be those that the shards were bounded from.
    """

    plan: OneWorker
    source: InputSpec
    splits: tuple[formats.Portion, ...]
    stages: tuple[StageSpec, ...]
    public: Mapping[str, pa.Table]
    result_shards: int
    salt: bytes = field(repr=False)
    kept_leaves: Mapping[str, Hierarchy] = field(default_factory=dict)
    """The kept leaves of stages with hierarchical keys: rows are bounded by leaves, then rolled up to their cells."""

    @property
    def shuffle(self) -> Shuffle:
        return Shuffle(name=_shuffle_name(self.stages), senders=frozenset(range(len(self.splits))), destinations=1)

    def expand(self, pbegin: beam.pvalue.PBegin) -> tuple[dict[str, Sharded], beam.PCollection[object]]:
        work = _Aggregate(
            self.plan,
            self.source,
            self.splits,
            self.stages,
            self.public,
            self.result_shards,
            self.salt,
            self.kept_leaves,
        )
        tags = {spec.name: _STAGE + spec.name for spec in self.stages}
        outputs = (
            pbegin | "Once" >> beam.Impulse() | "Aggregate" >> beam.ParDo(work).with_outputs(REPORTS, *tags.values())
        )
        return {name: outputs[tag] for name, tag in tags.items()}, outputs[REPORTS]


def _shuffle_name(stages: tuple[StageSpec, ...]) -> str:
    """Another in each job of a run: the jobs' stages have different names."""
    return f"{stages[0].name}.rows"


def _each(threads: ThreadPoolExecutor, what: str, work: Callable[[int], T], numbers: Iterable[int]) -> dict[int, T]:
    """What `work` gives for each number. The first error ends the waiting; what hasn't begun doesn't begin."""
    futures = {threads.submit(work, number): number for number in numbers}
    progress, results = WorkProgress(what, len(futures)), {}
    try:
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            progress.done(futures[future])
    finally:
        for future in futures:
            future.cancel()
    return results
