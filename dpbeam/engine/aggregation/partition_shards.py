"""The accumulators of many shards merged, as several threads bring them: one row a partition, by result shard.

They are merged as they come, so that a partition is held about once, not once for every shard that it is in. `merged`
does the same for one result shard, from one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.aggregation.merge_buffer import MergeBuffer, merged_as_they_come
from dpbeam.engine.stage import StageSpec

_BUCKETS = 16


def merged(accumulators: Iterable[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """The exact sum of accumulators, whatever their order: as `accumulate.merge`, but not all held at a time."""
    return accumulate.merge(merged_as_they_come(accumulators, partial(accumulate.merge, spec=spec)), spec)


@dataclass(kw_only=True)
class PartitionShards:
    """The running sum of one stage's accumulators, by result shard: a fixed hash of the key says which.

    About `pending_bytes` of them wait to be merged, or twice as much as there is merged: many wait for one sort.

    Guarantee: each result shard is the exact sum of all that was added, whatever the order and the threads: sums are
    int64 fixed point, and a sum beyond int64 is refused.
    """

    spec: StageSpec
    result_shards: int
    pending_bytes: int
    _buckets: list[MergeBuffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._each = max(1, _BUCKETS // self.result_shards)
        self._buckets = [self._bucket() for _ in range(self.result_shards * self._each)]

    def add(self, accumulators: pa.RecordBatch) -> None:
        """Adds accumulators to the sums."""
        for number, rows in accumulate.split_by_partition(accumulators, self.spec, len(self._buckets)):
            self._buckets[number].add(rows)

    def merged(self, number: int) -> pa.RecordBatch:
        """The merged accumulators of one result shard. To be taken once, when all is added: it lets go of them."""
        accumulators: list[pa.RecordBatch] = []
        for at in range(number * self._each, (number + 1) * self._each):
            accumulators += self._buckets[at].batches
            self._buckets[at] = self._bucket()
        return accumulate.merge(accumulators, self.spec)

    def _bucket(self) -> MergeBuffer:
        merge = partial(accumulate.merge, spec=self.spec)
        return MergeBuffer(merge=merge, most_pending_bytes=self.pending_bytes // (self.result_shards * self._each))
