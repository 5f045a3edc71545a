"""A shard buffer: collects the rows of each user shard from several threads, and gives them in the order of their
blocks.

The in-memory counterpart of a shuffle, for input that one worker goes through by itself. It holds no more than it was
given room for: shards that don't fit leave whole, and are for another pass over the input.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64, U16, U64
from dpbeam.engine.arrays import hashing

Place = tuple[int, int]
"""A block's split, and its number in it."""

_MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Total:
    """Rows, and the sum of their tags: every row counts with the tag of its block and shard, so a block that is lost
    where another is doubled, or a piece in another shard, changes the sum (but for a collision of 64-bit hashes)."""

    rows: int = 0
    tags: int = 0

    def __add__(self, other: Total) -> Total:
        return Total(rows=self.rows + other.rows, tags=(self.tags + other.tags) & _MASK)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Rows in order of their shards; those of the i-th shard held are [starts[i], starts[i + 1])."""

    place: Place
    rows: pa.RecordBatch
    starts: I64
    tags: U64

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.rows.schema.names)


@dataclass(kw_only=True)
class ShardBuffer:
    """Holds the rows of shards `first` to `last` (exclusive) of `shards` in `room_bytes`.

    When they need more, the upper half of the shards leaves and `last` sinks, until only `first` is left: that one
    stays whatever it needs, so that every pass over the input finishes a shard.
    """

    shards: int
    first: int
    last: int
    room_bytes: int
    _blocks: list[_Block] = field(default_factory=list, repr=False)
    _held_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def put(self, place: Place, rows: pa.RecordBatch, shard: U16) -> Total:
        """Takes the rows of one block, row i of which is of shard `shard[i]`. Returns the total of *all* its rows,
        also of those that are for another pass.

        Guarantee: a shard that is held in the end has all rows that were put for it, if each block of the
        input is put once.
        """
        sizes = np.bincount(shard, minlength=self.shards).astype(np.uint64)
        tags = _tags(place, self.shards)
        total = Total(rows=len(shard), tags=int((sizes * tags).sum(dtype=np.uint64)))
        first, last = self.first, self.last  # it may sink meanwhile: `_keep` cuts the block again
        if (first, last) == (0, self.shards):
            picked = np.argsort(shard, kind="stable")
        else:
            inside = np.flatnonzero((shard >= first) & (shard < last))
            picked = inside[np.argsort(shard[inside], kind="stable")]
        starts = np.concatenate(([0], np.cumsum(sizes[first:last].astype(np.int64))))
        self._keep(_Block(place=place, rows=rows.take(pa.array(picked)), starts=starts, tags=tags[first:last]))
        return total

    def settle(self) -> I64:
        """Ends the putting: how many rows each shard has, from `first` to `last`."""
        self._blocks.sort(key=lambda block: block.place)
        return sum((np.diff(block.starts) for block in self._blocks), np.zeros(self.last - self.first, dtype=np.int64))

    def take(self, shard: int) -> tuple[list[pa.RecordBatch], Total]:
        """All rows of one shard, in few batches, and their total as found here."""
        at, total = shard - self.first, Total()
        pieces: dict[tuple[str, ...], list[pa.RecordBatch]] = {}
        for block in self._blocks:
            start, end = int(block.starts[at]), int(block.starts[at + 1])
            if start < end:
                pieces.setdefault(block.columns, []).append(block.rows.slice(start, end - start))
                total += Total(rows=end - start, tags=(end - start) * int(block.tags[at]))
        return [_joined(batches) for batches in pieces.values()], total

    def _keep(self, block: _Block) -> None:
        with self._lock:
            block = self._cut(block)
            self._blocks.append(block)
            self._held_bytes += block.rows.nbytes
            while self._held_bytes > self.room_bytes and self.last > self.first + 1:
                self.last = self.first + (self.last - self.first) // 2
                for i, held in enumerate(self._blocks):  # each gives its memory back before the next is copied
                    self._blocks[i] = self._cut(held)
                self._held_bytes = sum(held.rows.nbytes for held in self._blocks)

    def _cut(self, block: _Block) -> _Block:
        """The block without the shards that have left, copied, so that their memory is given back."""
        stay = self.last - self.first
        if len(block.starts) == stay + 1:
            return block
        rows = block.rows.take(pa.array(np.arange(block.starts[stay])))
        return _Block(place=block.place, rows=rows, starts=block.starts[: stay + 1], tags=block.tags[:stay])


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches)
    arrays = [pa.concat_arrays(column.chunks) for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


def _tags(place: Place, shards: int) -> U64:
    """The tags of a block's rows, by shard."""
    seed = hashing.derive(b"", "piece", *place) & _MASK
    return hashing.mix64(hashing.mix64(np.arange(shards, dtype=np.uint64), seed), seed ^ 0xA5A5A5A5A5A5A5A5)
