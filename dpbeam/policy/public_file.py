"""Files that a policy takes for public, CSV or Parquet: their rows as they stand there, and their digests."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.reading.casting import is_text

MAX_FILE_BYTES = 2**30
MAX_BYTES = 2**31 - 2**20
"""Of all rows in memory: what one column of text may hold. A file may be far smaller than what it unpacks to."""
_FILE_ROWS = 1 << 12

Bad = Callable[[str, str], Exception]
"""Makes an error of a rule that the file breaks, and a remedy."""


def raw_rows(
    name: str, folder: Path, most_rows: int, bad: Bad, *, wanted: str, fewer: str, with_missing: bool = False
) -> tuple[pa.Table | None, str]:
    """The file's rows, of a CSV as text in bytes, and its `sha256:…`. There are no rows (None) if they are more than
    `most_rows`, as far as that is known without unpacking them.

    `folder` is where a relative path starts. `wanted` says what to name instead of a file that can't be read, `fewer`
    what to do about one that is too large. `with_missing` takes an empty field of a CSV for a missing value, not for
    an empty text.

    Raises:
        What `bad` makes: there is no such file, it can't be read, or is too large.
    """
    path = folder / name
    try:
        if path.exists() and not path.is_file():
            raise bad("must be a file", wanted)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise bad(f"must not be larger than {MAX_FILE_BYTES >> 20} MiB", f"{fewer}.")
        content = path.read_bytes()
    except FileNotFoundError:
        raise bad("does not exist", "Check the path; it starts at the policy's folder.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise bad(f"can't be read: {reason}", "Name a readable file.") from None
    try:
        if path.suffix == ".parquet":
            raw = _parquet(content, most_rows)
        else:
            from dpbeam.reading.formats.delimited import all_as_text  # lazily, for few policies name a file

            raw = all_as_text(io.BytesIO(content), with_missing=with_missing)
        if raw is not None and sum(map(_unpacked_bytes, raw.columns)) > MAX_BYTES:
            rule = f"must not hold more than {MAX_BYTES >> 20:,} MiB of keys when it is unpacked"
            raise bad(rule, f"{fewer}, or shorter keys.")
    except (pa.ArrowException, OSError, ValueError):
        raise bad("is not a CSV or Parquet file that can be read", wanted) from None
    return raw, "sha256:" + hashlib.sha256(content).hexdigest()


def _parquet(content: bytes, most_rows: int) -> pa.Table | None:
    """The file's rows, of which no more are unpacked than tell that they are too large; None if its footer already
    states too many."""
    from dpbeam.reading.formats.parquet_file import columns_of, open_parquet  # likewise

    file = pa.BufferReader(content)
    parquet = open_parquet(file)
    if parquet.metadata.num_rows > most_rows:
        return None
    schema = parquet.schema_arrow
    batches: list[pa.RecordBatch] = []
    size = 0
    for group in range(parquet.metadata.num_row_groups if len(set(schema.names)) == len(schema) else 0):
        for columns in columns_of(file, parquet, group, [(name,) for name in schema.names], _FILE_ROWS):
            batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
            size += sum(map(_unpacked_bytes, columns))
            if size > MAX_BYTES:
                return pa.Table.from_batches(batches)
    return pa.Table.from_batches(batches, schema)


def _unpacked_bytes(column: pa.Array | pa.ChunkedArray) -> int:
    """What the values take, those of a dictionary as often as they stand in rows."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    size = 0
    for chunk in chunks:
        if pa.types.is_dictionary(chunk.type) and is_text(chunk.type.value_type):
            lengths = pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)
            size += pc.sum(lengths).as_py() or 0
        else:
            size += chunk.nbytes
    return size
