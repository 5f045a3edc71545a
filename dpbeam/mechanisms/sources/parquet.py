"""An open Parquet file in, the needed columns of one row group out, in the file's own types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.errors import UsageError
from dpbeam.mechanisms.sources.base import Split, attempt, damaged, still
from dpbeam.mechanisms.sources.fields import Path, extract, locate
from dpbeam.mechanisms.spec import InputSpec


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
    return found, [locate(column, schema, path, "Parquet") for column in spec.columns]
