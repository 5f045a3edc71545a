"""Merges accumulators by partition, into result shards.

Partitions are routed by a fixed hash of their keys, so the number and contents of the shards don't depend on how the
input was sharded. Public partitions join here as zero rows, also those nobody contributed to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate, partition_shards
from dpbeam.engine.stage import StageSpec
from dpbeam.transforms.steps.bound import REPORTS, SEEDER, messages, seed
from dpbeam.transforms.steps.read import place
from dpbeam.transforms.wire.beam_types import Batches, Reports, Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.control import Inbox, Outbox, Shuffle


class _RoutePartitions(ContainedDoFn):
    step = "RoutePartitions"

    def __init__(self, spec: StageSpec, result_shards: int, shuffle: str) -> None:
        self._spec, self._result_shards, self._shuffle = spec, result_shards, shuffle

    def work(self, element: pa.RecordBatch) -> Iterator[object]:
        sender, block, last = place(element)
        outbox = Outbox(self._shuffle, sender, block, last=last)
        routed = [
            message
            for part, rows in accumulate.split_by_partition(
                element.replace_schema_metadata(None), self._spec, self._result_shards
            )
            for message in outbox.send(part, rows)
        ]
        yield from routed
        yield beam.pvalue.TaggedOutput(REPORTS, outbox.report())


class _Merge(ContainedDoFn):
    step = "Merge"

    def __init__(self, spec: StageSpec, shuffle: str) -> None:
        self._spec, self._shuffle = spec, shuffle

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[object]:
        part, batches = element
        inbox = Inbox(self._shuffle, part)
        merged = partition_shards.merged((rows for _, rows in inbox.open(batches)), self._spec)
        yield part, merged
        yield beam.pvalue.TaggedOutput(REPORTS, inbox.report())


@dataclass(eq=False)
class AccumulateByPartition(beam.PTransform[Batches, tuple[Sharded, Reports]]):
    """Merges accumulators into `result_shards` result shards, one row a partition, keyed by the shard's number.

    Sums are int64 fixed point, so the result is exact and the same for any sharding and order.
    """

    spec: StageSpec
    result_shards: int
    public: pa.Table | None
    senders: frozenset[int]
    shuffle: Shuffle = field(init=False)

    def __post_init__(self) -> None:
        self.shuffle = Shuffle(
            name=f"{self.spec.name}.partitions", senders=self.senders | {SEEDER}, destinations=self.result_shards
        )

    def expand(self, accumulators: Batches) -> tuple[Sharded, Reports]:
        routed = accumulators | "RoutePartitions" >> messages(
            _RoutePartitions(self.spec, self.result_shards, self.shuffle.name)
        )
        seeds = seed(accumulators.pipeline, "Skeleton", self.shuffle.name, self._skeleton())
        merged = (
            (routed.main, seeds.main)
            | "Together" >> beam.Flatten()
            | "ByPartitionShard" >> beam.GroupByKey()
            | "Merge" >> messages(_Merge(self.spec, self.shuffle.name))
        )
        return merged.main, (routed[REPORTS], seeds[REPORTS], merged[REPORTS])

    def _skeleton(self) -> list[pa.RecordBatch]:
        """For each result shard its public partitions as zero rows, or no rows."""
        shards = [accumulate.empty(self.spec) for _ in range(self.result_shards)]
        known = None if self.public is None else accumulate.zeros(self.public, self.spec)
        if not self.spec.keys:
            known = accumulate.whole(self.spec)
        if known is not None:
            for part, rows in accumulate.split_by_partition(known, self.spec, self.result_shards):
                shards[part] = rows
        return shards
