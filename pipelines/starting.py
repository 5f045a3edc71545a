"""A data file comes in; a first policy for it goes out. Reads a header or footer, and no values."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dpbeam.errors import UsageError
from dpbeam.policy.starter import starter_policy


def starter(data: Path, *, folder: Path | None) -> str:
    """The policy's text; its source path is relative to `folder` (default: the current one), where it will lie.

    Raises:
        UsageError: the file is missing, empty, or neither Parquet nor CSV.
    """
    format = "parquet" if data.suffix in (".parquet", ".pq") else "csv"
    try:
        schema = pq.read_schema(data) if format == "parquet" else _csv_schema(data)
    except OSError as error:
        raise UsageError(f"{data} can't be read ({error.strerror or 'not a data file'})") from None
    except (pa.ArrowException, UnicodeDecodeError):
        raise UsageError(f"{data} is not a {format} file with column names that can be read") from None
    dataset = re.sub(r"[^a-z0-9_-]", "-", data.stem.lower()).strip("-_")[:64] or "my-data"
    path = os.path.relpath(data, folder or Path.cwd())
    return starter_policy(schema, path=path, format=format, dataset=dataset)


def _csv_schema(data: Path) -> pa.Schema:
    """Every column as text: a CSV file states no types, and guessing them would read values."""
    with data.open("rb") as file:
        header = file.readline(1 << 20)
    if not header.strip():
        raise UsageError(f"{data} is empty; a CSV file starts with a line of column names")
    names = pacsv.read_csv(pa.BufferReader(header.rstrip(b"\r\n") + b"\n")).column_names
    return pa.schema([(name, pa.string()) for name in names])
