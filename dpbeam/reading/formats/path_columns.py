"""Columns whose values stand in a file's path, as folders `name=value`, and are constant in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.queries.source import InputSpec
from dpbeam.reading.formats.base import shown

_NULL = "__HIVE_DEFAULT_PARTITION__"


def without_path_columns(spec: InputSpec) -> InputSpec:
    """The spec with the columns alone that lie inside the files."""
    if not spec.path_columns:
        return spec
    return replace(spec, columns=tuple(c for c in spec.columns if c.name not in spec.path_columns), path_columns=())


def values_in(path: str, spec: InputSpec) -> dict[str, bytes | None]:
    """Each path column's value as text in a file's path: percent-escapes are undone, Hive's default is null.

    Raises:
        UsageError: a folder `name=value` is lacking, or there twice.
    """
    values_of: dict[str, bytes | None] = {}
    for name in spec.path_columns:
        values = [part.partition("=")[2] for part in re.split(r"[/\\]", path)[:-1] if part.partition("=")[0] == name]
        if len(values) != 1:
            many = "no folder" if not values else f"{len(values)} folders"
            raise UsageError(
                f"{shown(path)}: its path has {many} {name}=…, and source.path_columns says that the column {name} "
                "stands there. Correct source.path or source.path_columns."
            )
        values_of[name] = None if values[0] == _NULL else unquote_to_bytes(values[0])
    return values_of


def with_path_columns(batches: Iterable[pa.RecordBatch], path: str, spec: InputSpec) -> Iterator[pa.RecordBatch]:
    """The batches with the path columns as constants, in the order of `spec`.

    Guarantee: row-local. A row's value is the text in the path of the file that it lies in.
    """
    values = values_in(path, spec)
    names = [column.name for column in spec.columns]
    for batch in batches:
        rows = batch.num_rows
        columns = [
            pa.repeat(pa.scalar(values[name], pa.binary()), rows) if name in values else batch.column(name)
            for name in names
        ]
        yield pa.RecordBatch.from_arrays(columns, names=names)
