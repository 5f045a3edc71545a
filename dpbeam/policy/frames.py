"""Rows that a program holds in memory, as Arrow tables: pandas and Polars frames, Arrow tables and datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.policy.starter import column_type
from dpbeam.reading import vectors

_KINDS = "a pandas or Polars data frame, or an Arrow table, record batch or dataset"


def types_of(frame: Any) -> dict[str, dict[str, Any]]:
    """What each column is declared as in a policy, by the frame's own types; what dpbeam doesn't read is left out."""
    found: dict[str, dict[str, Any]] = {}
    for each in _schema(frame):
        length, kind = vectors.stated_length(each.type), column_type(each.type)
        if length:
            found[each.name] = {"type": "vector", "length": length}
        elif kind is not None:
            found[each.name] = {"type": kind}
    return found


def table_of(frame: Any, columns: Sequence[str]) -> pa.Table:
    """The frame's rows of these columns.

    Raises:
        UsageError: it is no frame, lacks a column, or holds values of several types in one. No value is in the error.
    """
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    missing = [name for name in columns if name not in _schema(frame).names]
    if missing:
        raise UsageError(f"the frame has no column {', '.join(missing)}")
    if isinstance(frame, pa.Table):
        return frame.select(list(columns))
    if hasattr(frame, "to_table"):
        return frame.to_table(columns=list(columns))
    return _converted(frame[list(columns)])


def used(
    unit: str,
    stages: Iterable[Mapping[str, Any]],
    derived: Iterable[Mapping[str, Any]],
    conditions: Iterable[Mapping[str, Any]],
) -> list[str]:
    """The names of columns that a question uses, each once, in order of first use; derived ones may be among them."""
    found = [] if unit == "row" else [unit]
    for stage in stages:
        found += stage["group_by"]
        for metric in stage["metrics"]:
            for arguments in metric.values():
                found += [arguments["column"]] if "column" in arguments else []
                found += arguments.get("columns", [])
    found += [each[kind] for each in derived for kind in ("bin", "truncate", "lower") if kind in each]
    found += [each["column"] for each in conditions]
    return list(dict.fromkeys(found))


def _schema(frame: Any) -> pa.Schema:
    schema = getattr(frame, "schema", None)
    if isinstance(schema, pa.Schema):
        return schema
    if not hasattr(frame, "__getitem__") or not hasattr(frame, "columns"):
        raise UsageError(f"source must be {_KINDS}, or the path of files, got {type(frame).__name__}")
    return _converted(frame[:0] if not _is_pandas(frame) else frame.iloc[:0], frame).schema


def _converted(frame: Any, whole: Any = None) -> pa.Table:
    try:
        if _is_pandas(frame):
            table = pa.Table.from_pandas(frame, preserve_index=False)
            return _with_object_types(table, frame if whole is None else whole)
        return frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # Arrow's own message quotes a value.
        raise UsageError(
            "the frame can't be made an Arrow table: a column has values of several types, or of one that Arrow lacks"
        ) from None


def _with_object_types(table: pa.Table, whole: Any) -> pa.Table:
    """An empty pandas frame says nothing of its columns of objects: they are what pandas infers of the values."""
    for name in table.column_names:
        if pa.types.is_null(table.schema.field(name).type) and len(whole):
            inferred = pa.array(whole[name].dropna().iloc[:1_000], from_pandas=True).type
            place = table.schema.get_field_index(name)
            table = table.set_column(place, pa.field(name, inferred), table.column(name).cast(inferred))
    return table


def _is_pandas(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas"
