"""Rows of somebody's own pipeline as Arrow columns: dicts, named tuples, dataclasses, `beam.Row` and Arrow batches.

What a row's value becomes, and whether it is one of its column's type at all, is settled value by value, so that the
column's rules (`dpbeam.reading.rows`) find in memory what they would find in a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.utils.timestamp import Timestamp

from dpbeam.errors import RunFailed, UsageError
from dpbeam.queries.column_types import DeclaredType
from dpbeam.queries.source import Column
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.formats.fields import as_hex, extract, locate

_INVALID = b"\xff"
"""Stands for a value that isn't of its column's type: no text, so no value of any type."""
_PLAIN: Mapping[DeclaredType, type] = {"string": str, "int64": int, "float64": float, "bool": bool, "date": date}
"""The one Python type whose values Arrow takes as they are."""


def values_of(row: Any, columns: Sequence[Column]) -> tuple[Any, ...]:
    """What a Python row has in the columns. A key that a dict lacks is a missing value, as in a line of JSON.

    Guarantee: row-local, and as of now: what the row becomes depends on it and the columns alone, whatever a step that
    uses one object for many rows does to it afterwards.

    Raises:
        RunFailed: a row of another type, or of one that lacks a field.
    """
    values = (_value(row, column) for column in columns)
    return tuple(
        _numbers(value) if column.type == "vector" else value for value, column in zip(values, columns, strict=True)
    )


def raw_of_values(rows: Sequence[tuple[Any, ...]], columns: Sequence[Column]) -> pa.RecordBatch:
    """The columns of rows as `values_of` gives them."""
    arrays = [_array([row[place] for row in rows], column) for place, column in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def raw_of_batch(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    """The columns of an Arrow batch.

    Raises:
        UsageError: it lacks one, or has it in a type that can't be read as the column's.
    """
    what = "a record batch of the pipeline"
    paths = [locate(column, batch.schema, what, "Arrow", is_stored=False) for column in columns]
    for column, is_hex in zip(columns, as_hex(columns, batch.schema, paths), strict=True):
        if is_hex:
            raise UsageError(
                f"column {column.name} of {what} is of bytes of a fixed length, which are read as hex digits: another "
                "batch may have the same id as text. Cast it to binary or string in all batches"
            )
    arrays = [extract(batch, path) for path in paths]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _value(row: Any, column: Column) -> Any:
    field = column.name if column.field is None else column.field
    if isinstance(field, str):
        whole = "." not in field or _has(row, field)
        return _part(row, field) if whole else _walk(row, field.split("."))
    return _walk(row, field)


def _walk(row: Any, path: Sequence[str]) -> Any:
    for name in path:
        row = None if row is None else _part(row, name)
    return row


def _has(row: Any, name: str) -> bool:
    return isinstance(row, Mapping) and name in row


def _part(row: Any, name: str) -> Any:
    if isinstance(row, Mapping):
        return row.get(name)
    named = isinstance(row, beam.Row) or (isinstance(row, tuple) and hasattr(row, "_fields"))
    if not named and (not dataclasses.is_dataclass(row) or isinstance(row, type)):
        raise RunFailed(
            "rows must be dicts, named tuples, dataclasses, beam.Row or Arrow record batches, got "
            f"{type(row).__name__}; make one of them of each row first, with beam.Map"
        )
    if not hasattr(row, name):
        raise RunFailed(f"rows of type {type(row).__name__} have no field {name}, which the query names")
    return getattr(row, name)


def _array(values: Sequence[Any], column: Column) -> pa.Array:
    if column.type == "vector":
        return pa.array(values, pa.list_(pa.float64()))
    if set(map(type, values)) <= {_PLAIN.get(column.type), type(None)}:
        try:
            return pa.array(values, ARROW_TYPES[column.type])
        except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
            pass  # some value isn't of the type after all; which, is found one by one
    return pa.array([_text(value, column.type) for value in values], pa.binary())


def _text(value: Any, kind: DeclaredType) -> bytes | None:
    """The value as text of its column's grammar (docs/input.md)."""
    if value is None:
        return None
    if isinstance(value, np.datetime64):
        value = str(value)
    elif isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        value = value[:] if isinstance(value, np.str_ | np.bytes_) else value.item()
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", errors="surrogatepass")
    match kind:
        case "string" if isinstance(value, UUID):
            return str(value).encode()
        case "int64" if isinstance(value, int) and not isinstance(value, bool):
            return b"%d" % value if abs(value) < 1 << 64 else _INVALID
        case "int64" if isinstance(value, Decimal) and value.is_finite() and abs(value) < 1 << 64 and value % 1 == 0:
            return b"%d" % int(value)
        case "float64" if isinstance(value, float):
            return repr(value).encode()
        case "float64" if isinstance(value, int) and not isinstance(value, bool):
            return repr(float(value)).encode() if abs(value) < 1 << 1023 else _INVALID
        case "float64" if isinstance(value, Decimal):
            return str(value).encode()
        case "bool" if isinstance(value, bool):
            return b"true" if value else b"false"
        case "date" if isinstance(value, date) and not isinstance(value, datetime):
            return value.isoformat().encode()
        case "timestamp" if isinstance(value, datetime | Timestamp):
            return _moment(value)
    return _INVALID


def _moment(value: datetime | Timestamp) -> bytes:
    try:
        if isinstance(value, Timestamp):
            return str(value.to_rfc3339()).encode()
        return (value if value.tzinfo is None else value.astimezone(timezone.utc)).isoformat().encode()
    except (OverflowError, ValueError):  # in UTC it isn't within years 1 to 9999
        return _INVALID


def _numbers(value: Any) -> list[float | None] | None:
    """A vector's numbers; an empty list, which no vector is, for what is none."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return []
    numbers: list[float | None] = []
    for number in value:
        if isinstance(number, np.number):
            number = number.item()
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            return []
        try:
            numbers.append(None if number is None else float(number))
        except OverflowError:
            return []
    return numbers
