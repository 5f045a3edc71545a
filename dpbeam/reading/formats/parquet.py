"""Parquet files: one split a row group, in the file's own types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.errors import UsageError
from dpbeam.queries.source import InputSpec
from dpbeam.reading import memory
from dpbeam.reading.formats.base import BATCH_BYTES, Split, attempt, damaged, still
from dpbeam.reading.formats.fields import Path, as_hex, leaf, locate
from dpbeam.reading.formats.parquet_file import columns_of, open_parquet

_MAGIC = b"PAR1"
_ARROW_KEY = b"ARROW:schema"


def inspect(file: IO[bytes], spec: InputSpec, path: str, size: int) -> list[Split]:
    """One split a row group; of a file without row groups, which is how an empty result is written, one that names
    none and gives no rows. Reads the footer.

    Raises:
        UsageError: not a whole Parquet file, or a column is lacking, doubled or of another type.
    """
    parquet, paths = _open(file, spec, path)
    metadata, hexed = parquet.metadata, as_hex(spec.columns, parquet.schema_arrow, paths)
    return [
        Split(path, group, size=metadata.row_group(group).total_byte_size, as_hex=hexed)
        for group in range(metadata.num_row_groups)
    ] or [Split(path, as_hex=hexed)]


def read(file: IO[bytes], spec: InputSpec, split: Split, path: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The row group's needed columns; of structs, the needed fields alone are read.

    Raises:
        RunFailed: it is damaged, or another file than `inspect` saw.
    """
    parquet, paths = still(lambda: _open(file, spec, path), path)
    row_group = split.row_group
    if row_group is None:
        if parquet.metadata.num_row_groups:
            raise damaged(path)
        return
    names = [column.name for column in spec.columns]
    numbers = sum(column.length or 0 for column in spec.columns)  # as stated: no list of the file is looked at for it
    batch_rows = max(1, min(batch_rows, BATCH_BYTES // (8 * numbers))) if numbers else batch_rows
    batches = columns_of(file, parquet, row_group, paths, batch_rows)
    # An error may quote a value: `attempt` gives None for it, and False marks the end.
    while (columns := attempt(lambda: next(batches, False))) is not None:
        if columns is False:
            return
        yield pa.RecordBatch.from_arrays(columns, names=names)
    raise damaged(path)


def file_schema(file: IO[bytes], path: str) -> pa.Schema:
    """The Arrow types of the file's columns, as `read` gives them.

    Raises:
        pa.ArrowException, OSError: not a whole Parquet file.
    """
    return open_parquet(file).schema_arrow


def _open(file: IO[bytes], spec: InputSpec, path: str) -> tuple[pq.ParquetFile, list[Path]]:
    file.seek(0, io.SEEK_END)
    if file.tell() == 0:
        raise UsageError(
            f"{path} is empty (0 bytes): not a Parquet file. Write it again, or leave it out of source.path."
        )
    file.seek(0)
    parquet = attempt(lambda: open_parquet(file))
    schema = None if parquet is None else attempt(lambda: parquet.schema_arrow)
    if schema is None:
        raise UsageError(
            f"{path} is not a whole Parquet file: its footer can't be read. It may be truncated, encrypted or of "
            "another format; write it again, or correct source.format."
        )
    stored = not memory.is_held(path)
    paths = [
        locate(column, schema, path, "Parquet" if stored else "Arrow", is_stored=stored) for column in spec.columns
    ]
    kinds = [leaf(schema, each) for each in paths]
    if any(kind is not None and pa.types.is_fixed_size_list(kind) for kind in kinds):
        parquet = attempt(lambda: _with_plain_lists(file))
        if parquet is None:
            raise UsageError(f"{path}: the footer of this Parquet file can't be read. Write it again.")
    return parquet, paths


def _with_plain_lists(file: IO[bytes]) -> pq.ParquetFile:
    """The file with its columns in Parquet's own types, where a list has no size.

    Arrow leaves its types under a key in the footer. By these pyarrow 25 reads lists of a fixed size, and fails where
    one is missing: in the middle of a run. Without that key a missing list is one.
    """
    file.seek(-8, io.SEEK_END)
    tail = file.read(8)
    size = int.from_bytes(tail[:4], "little")
    file.seek(-8 - size, io.SEEK_END)
    before, key, after = file.read(size).rpartition(_ARROW_KEY)
    footer = before + key.lower() + after
    metadata = pq.read_metadata(pa.BufferReader(_MAGIC + footer + tail))
    file.seek(0)
    return open_parquet(file, metadata=metadata)
