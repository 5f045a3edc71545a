"""Accumulators of many shards go in, from several threads; one merged row a partition comes out, in result parts.

They are merged as they come, so that a partition is held about once, not once for every shard that it is in.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pyarrow as pa

from dpbeam.mechanisms import accumulate
from dpbeam.mechanisms.spec import StageSpec

_BUCKETS = 16
_PENDING_ROWS = 1 << 18


@dataclass(kw_only=True)
class _Bucket:
    batches: list[pa.RecordBatch] = field(default_factory=list)
    merged_rows: int = 0
    pending_rows: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(kw_only=True)
class Tally:
    """The running sum of one stage's accumulators, spread over `parts` result shards by a fixed hash of the key.

    Guarantee: each part is the exact sum of all that was added, whatever the order and the threads: sums are int64
    fixed point, and a sum beyond int64 is refused.
    """

    spec: StageSpec
    parts: int
    _buckets: list[_Bucket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._each = max(1, _BUCKETS // self.parts)
        self._buckets = [_Bucket() for _ in range(self.parts * self._each)]

    def add(self, accumulators: pa.RecordBatch) -> None:
        """Adds accumulators in."""
        for number, rows in accumulate.split_by_partition(accumulators, self.spec, len(self._buckets)):
            bucket = self._buckets[number]
            with bucket.lock:
                bucket.batches.append(rows)
                bucket.pending_rows += rows.num_rows
                if bucket.pending_rows > max(_PENDING_ROWS, 2 * bucket.merged_rows):
                    self._merge(bucket)

    def part(self, number: int) -> pa.RecordBatch:
        """The merged accumulators of one result shard. To be taken once, when all is added: it lets go of them."""
        found: list[pa.RecordBatch] = []
        for at in range(number * self._each, (number + 1) * self._each):
            found += self._buckets[at].batches
            self._buckets[at] = _Bucket()
        return accumulate.merge(found, self.spec)

    def _merge(self, bucket: _Bucket) -> None:
        merged = accumulate.merge(bucket.batches, self.spec)
        bucket.batches, bucket.merged_rows, bucket.pending_rows = [merged], merged.num_rows, 0
