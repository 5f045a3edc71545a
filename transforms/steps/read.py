"""Reads portions of the source (a part of a file, or several small files) as blocks of raw rows.

A block is a record batch that knows its place: portion, number within it, and whether it is the portion's last,
in the schema's metadata. Each portion gives at least one block, if need be an empty one, so that a lost one shows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from dpbeam.errors import RunFailed
from dpbeam.queries.source import InputSpec
from dpbeam.reading import formats, memory
from dpbeam.reading.formats.base import is_local
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.progress import WorkProgress

_PLACE = b"dpbeam.block"


def label(batch: pa.RecordBatch, split: int, block: int, *, last: bool) -> pa.RecordBatch:
    """The batch with its place in the input in its schema's metadata."""
    return batch.replace_schema_metadata({_PLACE: f"{split}/{block}/{int(last)}".encode()})


def place(batch: pa.RecordBatch) -> tuple[int, int, bool]:
    """(split, block, is last) of a block made by `label`."""
    metadata = batch.schema.metadata or {}
    if _PLACE not in metadata:
        raise RunFailed("a block lost its place in the input; nothing was published")
    split, block, last = metadata[_PLACE].split(b"/")
    return int(split), int(block), last == b"1"


def open_source(path: str) -> IO[bytes]:
    """A seekable binary file, as stored: Arrow's own reader for local files and for what this process holds
    in memory, Beam's for every other file system."""
    if memory.is_held(path):
        kept: IO[bytes] = memory.opened(path)
        return kept
    if is_local(path):
        here: IO[bytes] = pa.OSFile(path)
        return here
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def is_the_one(file: IO[bytes], stamp: formats.Stamp | None) -> bool:
    """Whether a file that `open_source` opened is the one that was listed, whatever lies under its name by now.

    Guarantee: asked of the open file, so a file that is put in another's place and taken away again is told where it
    was read. Assumes that another version shows in size, time of change or, on the machine that listed it, inode. (On
    other machines a path may lead through another file system to the same file.)
    """
    if stamp is None:
        return True
    stats = os.fstat(file.fileno())
    is_here = stamp.host == socket.gethostname()
    return (stats.st_size, stats.st_mtime_ns) == (stamp.size, stamp.changed) and (
        not is_here or stats.st_ino == stamp.inode
    )


def raw_blocks(
    portion: formats.Portion, spec: InputSpec, *, batch_rows: int = formats.BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows of a portion as its files hold them, in batches of at most `batch_rows`; the same each time.

    Raises:
        RunFailed: see `sources.read_split`; or a file is another than was listed.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        for split in portion:
            with open_source(split.path) as file:
                if not is_the_one(file, split.stamp):
                    raise formats.changed(formats.shown(split.path))
                yield from formats.read_split(file, split, spec, batch_rows=batch_rows)

    return formats.gather(batches(), batch_rows=batch_rows)


class _ReadSplit(ContainedDoFn):
    step = "Read"

    def __init__(self, spec: InputSpec, progress: WorkProgress) -> None:
        self._spec, self._progress = spec, progress

    def work(self, element: tuple[int, formats.Portion]) -> Iterator[pa.RecordBatch]:
        number, portion = element
        held, block = None, 0
        for batch in raw_blocks(portion, self._spec):
            if held is not None:
                yield label(held, number, block, last=False)
                block += 1
            held = batch
        if held is None:
            held = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
        yield label(held, number, block, last=True)
        self._progress.done(number)


@dataclass(eq=False)
class ReadBlocks(beam.PTransform[beam.pvalue.PBegin, Batches]):
    """Reads the portions of `spec`'s input into numbered blocks of its needed columns, as the source holds them."""

    spec: InputSpec
    splits: tuple[formats.Portion, ...]

    def expand(self, pbegin: beam.pvalue.PBegin) -> Batches:
        blocks: Batches = (
            pbegin
            | "Splits" >> beam.Create(list(enumerate(self.splits)), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "ReadSplit"
            >> beam.ParDo(_ReadSplit(self.spec, WorkProgress("reading", len(self.splits)))).with_output_types(
                pa.RecordBatch
            )
        )
        return blocks
