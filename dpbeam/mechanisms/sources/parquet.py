"""An open Parquet file in, the needed columns of one row group out, in the file's own types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.errors import UsageError
from dpbeam.mechanisms.sources.base import BATCH_BYTES, Split, attempt, damaged, still
from dpbeam.mechanisms.sources.fields import Path, extract, leaf, locate
from dpbeam.mechanisms.spec import InputSpec

_MAGIC = b"PAR1"
_ARROW_KEY = b"ARROW:schema"


def inspect(file: IO[bytes], spec: InputSpec, path: str) -> list[Split]:
    """One split a row group, none if there are none. Reads the footer.

    Raises:
        UsageError: not a whole Parquet file, or a column is lacking, doubled or of another type.
    """
    metadata = _open(file, spec, path)[0].metadata
    groups = range(metadata.num_row_groups)
    return [Split(path, group, size=metadata.row_group(group).total_byte_size) for group in groups]


def read(file: IO[bytes], spec: InputSpec, path: str, row_group: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The row group's needed columns; of structs, the needed fields alone are read.

    Raises:
        RunFailed: it is damaged, or another file than `inspect` saw.
    """
    found, paths = still(lambda: _open(file, spec, path), path)
    names = [column.name for column in spec.columns]
    numbers = sum(column.length or 0 for column in spec.columns)  # as stated: no list of the file is looked at for it
    batch_rows = max(1, min(batch_rows, BATCH_BYTES // (8 * numbers))) if numbers else batch_rows
    leaves = list(dict.fromkeys(".".join(each) for each in paths))
    # An error may quote a value: `attempt` gives None for it, and False marks the end.
    batches = attempt(lambda: found.iter_batches(batch_size=batch_rows, row_groups=[row_group], columns=leaves))
    while batches is not None:
        batch = attempt(lambda: next(batches, False))
        if batch is False:
            return
        columns = None if batch is None else attempt(partial(_extracted, batch, paths))
        if columns is None:
            break
        yield pa.RecordBatch.from_arrays(columns, names=names)
    raise damaged(path)


def _extracted(batch: pa.RecordBatch, paths: list[Path]) -> list[pa.Array]:
    return [extract(batch, path) for path in paths]


def _open(file: IO[bytes], spec: InputSpec, path: str) -> tuple[pq.ParquetFile, list[Path]]:
    file.seek(0, io.SEEK_END)
    if file.tell() == 0:
        raise UsageError(
            f"{path} is empty (0 bytes): not a Parquet file. Write it again, or leave it out of source.path."
        )
    file.seek(0)
    found = attempt(lambda: pq.ParquetFile(file, page_checksum_verification=True))
    schema = None if found is None else attempt(lambda: found.schema_arrow)
    if schema is None:
        raise UsageError(
            f"{path} is not a whole Parquet file: its footer can't be read. It may be truncated, encrypted or of "
            "another format; write it again, or correct source.format."
        )
    paths = [locate(column, schema, path, "Parquet") for column in spec.columns]
    kinds = [leaf(schema, each) for each in paths]
    if any(kind is not None and pa.types.is_fixed_size_list(kind) for kind in kinds):
        found = attempt(lambda: _with_plain_lists(file))
        if found is None:
            raise UsageError(f"{path}: the footer of this Parquet file can't be read. Write it again.")
    return found, paths


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
    return pq.ParquetFile(file, metadata=metadata, page_checksum_verification=True)
