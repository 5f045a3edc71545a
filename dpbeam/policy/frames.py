"""Rows that a program holds in memory, as Arrow tables: pandas and Polars frames, Arrow tables and datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.policy.expressions.syntax import ExpressionError, names_in, parse
from dpbeam.policy.starter import column_type
from dpbeam.reading import vectors

_KINDS = "a pandas or Polars data frame, or an Arrow table, record batch or dataset"


def types_of(frame: Any) -> dict[str, dict[str, Any]]:
    """What each column is declared as in a policy, by the frame's own types; what dpbeam doesn't read is left out.

    Guarantee: no value is looked at, for what a policy says is published (its digest). So pandas' columns of objects,
    which have no type of their own, are left out; and a pandas column of whole numbers is declared float64, as it would
    be if a value were missing.
    """
    found: dict[str, dict[str, Any]] = {}
    pandas = _is_pandas(frame)
    for each in _schema(frame):
        length, kind = vectors.stated_length(each.type), column_type(each.type)
        if length:
            found[each.name] = {"type": "vector", "length": length}
        elif kind == "int64" and pandas:
            found[each.name] = {"type": "float64"}
        elif kind is not None and not pa.types.is_null(each.type):
            found[each.name] = {"type": kind}
    return found


def table_of(frame: Any, columns: Sequence[str]) -> pa.Table:
    """The frame's rows of these columns.

    Raises:
        UsageError: it is no frame, lacks a column or has two of one name, or holds values of several types in one. No
            value is in the error.
    """
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    names = _schema(frame).names
    missing = [name for name in columns if names.count(name) != 1]
    if missing:
        raise UsageError(f"the frame must have one column {', one column '.join(missing)}")

    def selected() -> pa.Table:
        if isinstance(frame, pa.Table):
            return frame.select(list(columns))
        if hasattr(frame, "to_table"):
            return frame.to_table(columns=list(columns))
        return _arrow(frame[list(columns)])

    return _contained(selected)


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
    found += [name for each in derived for name in _made_from(each)]
    found += [each["column"] for each in conditions]
    return list(dict.fromkeys(found))


def _made_from(derived: Mapping[str, Any]) -> list[str]:
    """The names of the columns that a derived one is made from; none of an expression that can't be read, which is said
    when the policy is checked."""
    if "expression" not in derived:
        return [derived[kind] for kind in ("bin", "truncate", "lower", "lookup") if kind in derived]
    try:
        return list(names_in(parse(str(derived["expression"]))))
    except ExpressionError:
        return []


def _schema(frame: Any) -> pa.Schema:
    schema = getattr(frame, "schema", None)
    if isinstance(schema, pa.Schema):
        return schema
    if not hasattr(frame, "__getitem__") or not hasattr(frame, "columns"):
        raise UsageError(f"source must be {_KINDS}, or the path of files, got {type(frame).__name__}")
    return _contained(lambda: _arrow(frame.iloc[:0] if _is_pandas(frame) else frame[:0])).schema


def _arrow(frame: Any) -> pa.Table:
    if _is_pandas(frame):
        return pa.Table.from_pandas(frame, preserve_index=False)
    return frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)


def _contained(work: Callable[[], pa.Table]) -> pa.Table:
    """What `work` gives; Arrow's own errors, and those of files, quote values."""
    try:
        return work()
    except Exception:
        failed = UsageError(
            "the source can't be made an Arrow table: a column has values of several types, or of one that Arrow "
            "lacks, or a file of a dataset can't be read as its schema says"
        )
    raise failed


def _is_pandas(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas"
