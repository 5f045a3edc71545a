"""A merge buffer: takes batches from several threads, and holds few that amount to the same.

They are merged as they come, so that what is held depends on what they come to, not on how many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

PENDING_BYTES = 8 << 20
"""What a buffer lets wait, if nothing else is said."""


@dataclass(kw_only=True)
class MergeBuffer:
    """Batches that `merge` makes one of.

    Held are about three times the bytes of what is merged, or `most_pending_bytes`: many wait for one merge, so a row
    is merged about once.

    Guarantee: `merge(batches)` in the end is `merge` of all that was added, whatever the order and the threads, if
    merging is associative and commutative.
    """

    merge: Callable[[list[pa.RecordBatch]], pa.RecordBatch]
    most_pending_bytes: int
    batches: list[pa.RecordBatch] = field(default_factory=list)
    merged_bytes: int = 0
    pending_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, batch: pa.RecordBatch) -> None:
        """Puts a batch on the buffer."""
        with self.lock:
            self.batches.append(batch)
            self.pending_bytes += batch.nbytes
            if self.pending_bytes > max(self.most_pending_bytes, 2 * self.merged_bytes):
                merged = self.merge(self.batches)
                self.batches, self.merged_bytes, self.pending_bytes = [merged], merged.nbytes, 0


def merged_as_they_come(
    batches: Iterable[pa.RecordBatch],
    merge: Callable[[list[pa.RecordBatch]], pa.RecordBatch],
    most_pending_bytes: int | None = None,
) -> list[pa.RecordBatch]:
    """Few batches that come to the same as `batches`, which need not be held at a time."""
    buffer = MergeBuffer(
        merge=merge, most_pending_bytes=PENDING_BYTES if most_pending_bytes is None else most_pending_bytes
    )
    for batch in batches:
        buffer.add(batch)
    return buffer.batches
