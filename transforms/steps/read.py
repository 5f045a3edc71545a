"""Reads portions of the source (a part of a file, or several small files) as blocks of raw rows.

A block is a record batch that knows its place: portion, number within it, and whether it is the portion's last,
in the schema's metadata. Each portion gives at least one block, if need be an empty one, so that a lost one shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.errors import RunFailed
from dpbeam.queries.source import InputSpec
from dpbeam.reading import formats
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.progress import WorkProgress
from dpbeam.transforms.wire.source_files import is_the_one, open_source

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
