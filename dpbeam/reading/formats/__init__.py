"""Source files of every format: checked by names and types, then read as raw Arrow batches, a piece at a time.

Files come opened by the caller (binary, seekable) and stay the caller's to close. `inspect_file` looks at names and
types before anything is charged; `read_split` is the first to read values. A format is one module, listed in `READERS`;
`base` says what all of them keep to.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import IO, Protocol

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.queries.source import Format, InputSpec
from dpbeam.reading.formats import arrow, avro, delimited, jsonl, parquet
from dpbeam.reading.formats.base import BATCH_BYTES, BATCH_ROWS, Split, Stamp, changed, shown
from dpbeam.reading.formats.path_columns import values_in, with_path_columns, without_path_columns

__all__ = [
    "BATCH_ROWS",
    "READERS",
    "FormatModule",
    "Portion",
    "Split",
    "Stamp",
    "changed",
    "gather",
    "inspect_file",
    "portions",
    "read_split",
    "shown",
]

Portion = tuple[Split, ...]
"""Splits that one worker reads one after another: many small files are few portions."""

_PORTION_BYTES = 8 << 20
_OPENING_BYTES = 64 << 10
"""What opening a file costs, as bytes read in the same time."""


class FormatModule(Protocol):
    """What a module of a format has. Files come open and seekable; errors name `path` and quote no value."""

    def inspect(self, file: IO[bytes], spec: InputSpec, path: str, size: int) -> list[Split]:
        """The parts, at least one, that workers may read side by side: from names and types, without reading values.

        Raises:
            UsageError: not a file of the format, or a column is lacking, doubled or of another type.
        """

    def read(
        self, file: IO[bytes], spec: InputSpec, split: Split, path: str, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """The columns of `spec` of the rows in the split: the same batches whenever it is read.

        Raises:
            RunFailed: the file is damaged, or another than `inspect` saw.
            DataError: a row that can't be taken apart, under `on_invalid: fail`.
        """


READERS: Mapping[Format, FormatModule] = {
    "csv": delimited,
    "parquet": parquet,
    "jsonl": jsonl,
    "avro": avro,
    "arrow": arrow,
}


def inspect_file(file: IO[bytes], spec: InputSpec, path: str) -> list[Split]:
    """Checks that the file has the columns of `spec`, readable as their types; returns its splits in the file's order.

    Reads a CSV file's first line, the footer of a Parquet or Arrow file, an Avro file's header, of a JSONL file nothing
    but its size and first bytes; no values. A split is a Parquet file's row group, an Arrow file's record batch, or a
    range of bytes of a big JSONL file, or of a CSV file without quoted line breaks; else the whole file. There is
    always a split: no rows are valid, and come from one that gives none.

    Raises:
        UsageError: not such a file, or a column is lacking, doubled or of another type; says the remedy.
    """
    within = without_path_columns(spec)
    if not within.columns:
        raise UsageError(
            "columns must name at least one column that lies in the files: none is declared, so there is nothing to "
            "read."
        )
    values_in(path, spec)
    seen = shown(path)
    try:
        file.seek(0, io.SEEK_END)
        splits = READERS[spec.format].inspect(file, within, seen, file.tell())
    except OSError as error:
        reason = type(error).__name__
    else:
        return [replace(each, path=path) for each in splits]
    raise UsageError(f"{seen} can't be read ({reason}). Check the file and its storage.")


def read_split(
    file: IO[bytes], split: Split, spec: InputSpec, *, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows of one split as batches of at most `batch_rows`, with the columns of `spec` in its order, raw.

    CSV columns come as binary: an empty field is null, a quoted empty field is an empty text. JSONL columns come as
    text, numbers and booleans, or as binary with bytes that are no text where a value isn't of its column's type.
    Columns of other formats come in the file's own types, path columns as binary. A CSV row of the wrong width, or a
    line that isn't a JSON object, is left out, or fails the run if a column declares `on_invalid: fail`. Memory is
    bounded by the block, or by the row group's needed columns as stored, plus a batch.

    The same file gives the same batches, so a bundle that is executed again samples the same rows.

    Guarantee: which rows come, and what is in them, is decided row by row, where a row is a record of the format. A
    CSV file whose quotes don't pair up has other records than its writer meant (docs/input.md).

    Raises:
        RunFailed: the file can't be read to its end, or is no longer what `inspect_file` saw.
        DataError: a CSV row of the wrong width, or a line that isn't a JSON object, under `on_invalid: fail`.
    """
    batches = READERS[spec.format].read(file, without_path_columns(spec), split, shown(split.path), batch_rows)
    if spec.path_columns:
        batches = with_path_columns(batches, split.path, spec)
    for batch in batches:
        step = max(1, min(batch_rows, batch.num_rows * BATCH_BYTES // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def portions(splits: Iterable[Split]) -> tuple[Portion, ...]:
    """The splits in their order, small neighbours together, so that 10,000 small files are some dozens of portions."""
    groups: list[list[Split]] = []
    filled = _PORTION_BYTES
    for split in splits:
        size = split.size + _OPENING_BYTES
        if filled + size > _PORTION_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(split)
        filled += size
    return tuple(tuple(each) for each in groups)


def gather(batches: Iterable[pa.RecordBatch], *, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of the batches in their order, neighbours of one schema joined up to `batch_rows`."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if held and (rows > batch_rows or size > BATCH_BYTES or not batch.schema.equals(held[0].schema)):
            yield _joined(held)
            held, rows, size = [], batch.num_rows, batch.nbytes
        if any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
            yield batch  # each batch has a dictionary of its own
            rows = size = 0
        else:
            held.append(batch)
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)  # which copies a single one too
