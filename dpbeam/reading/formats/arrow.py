"""Arrow IPC files, which Feather files (version 2) are: one split a record batch, in the file's own types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.queries.source import InputSpec
from dpbeam.reading.formats.base import Split, attempt, damaged, still
from dpbeam.reading.formats.fields import Path, as_hex, extract, locate


def inspect(file: IO[bytes], spec: InputSpec, path: str, size: int) -> list[Split]:
    """One split a record batch; of a file without any, one that names none and gives no rows. Reads the footer.

    Raises:
        UsageError: not a whole Arrow IPC file, or a column is lacking, doubled or of another type.
    """
    reader = _open(file, path)
    paths = _paths(reader, spec, path)
    hexed, batches = as_hex(spec.columns, reader.schema, paths), reader.num_record_batches
    return [Split(path, group, size=size // batches, as_hex=hexed) for group in range(batches)] or [
        Split(path, as_hex=hexed)
    ]


def read(file: IO[bytes], spec: InputSpec, split: Split, path: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The needed columns of one record batch; other columns' bytes are passed by.

    The format has no checksums: a bit that flips inside a value makes another value. What would lead beyond the buffers
    (lengths, offsets, text that isn't UTF-8) fails the run.

    Raises:
        RunFailed: it is damaged, or another file than `inspect` saw.
    """
    paths = still(lambda: _paths(_open(file, path), spec, path), path)
    reader = attempt(lambda: _reader(file, paths))
    if reader is None or (split.row_group is None and reader.num_record_batches):
        raise damaged(path)
    if split.row_group is None:
        return
    names = [column.name for column in spec.columns]
    batch = attempt(lambda: _batch(reader, split.row_group or 0, paths, names))
    if batch is None:
        raise damaged(path)
    yield batch


def file_schema(file: IO[bytes], path: str) -> pa.Schema:
    """The Arrow types of the file's columns, as `read` gives them.

    Raises:
        UsageError: not a whole Arrow IPC file.
    """
    return _open(file, path).schema


def _open(file: IO[bytes], path: str) -> pa.ipc.RecordBatchFileReader:
    file.seek(0, io.SEEK_END)
    if file.tell() == 0:
        raise UsageError(
            f"{path} is empty (0 bytes): not an Arrow file. Write it again, or leave it out of source.path."
        )
    reader = attempt(lambda: pa.ipc.open_file(file))
    if reader is None or attempt(lambda: _names(pa.struct(list(reader.schema)))) is None:
        raise UsageError(
            f"{path} is not a whole Arrow IPC file: its footer can't be read. It may be truncated, a stream, a Feather "
            "file of version 1, or of another format; write it again, or correct source.format."
        )
    return reader


def _names(kind: pa.DataType) -> list[str]:
    """The names in a nested type, which Arrow doesn't look at before they are asked for.

    Raises:
        UnicodeDecodeError: one isn't UTF-8.
    """
    fields = [kind.field(number) for number in range(kind.num_fields)]
    return [name for field in fields for name in (field.name, *_names(field.type))]


def _paths(reader: pa.ipc.RecordBatchFileReader, spec: InputSpec, path: str) -> list[Path]:
    return [locate(column, reader.schema, path, "Arrow") for column in spec.columns]


def _reader(file: IO[bytes], paths: list[Path]) -> pa.ipc.RecordBatchFileReader:
    """Reads the top-level columns that `paths` lie in, and no others."""
    names = pa.ipc.open_file(file).schema.names
    fields = sorted({names.index(path[0]) for path in paths})
    return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False))


def _batch(reader: pa.ipc.RecordBatchFileReader, number: int, paths: list[Path], names: list[str]) -> pa.RecordBatch:
    """One record batch in memory of Arrow's own: uncompressed columns come in `bytes` of Python's, which no thread of
    Arrow's or Polars' may let go of as Python ends."""
    batch = reader.get_batch(number)
    batch.validate(full=True)
    batch = pa.RecordBatch.from_arrays([extract(batch, path) for path in paths], names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    with pa.ipc.open_stream(sink.getvalue()) as stream:
        return stream.read_next_batch()
