"""Rows that a program holds in memory, as Arrow tables: pandas and Polars frames, Arrow tables and datasets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.policy.declarable import column_type
from dpbeam.policy.expressions.syntax import ExpressionError, names_in, parse
from dpbeam.policy.violations import closest, shown
from dpbeam.reading import vectors

_OF_COLUMNS = ("bin", "truncate", "lower", "lookup")
"""Keys of `derive` that name a column."""
_KINDS = "a pandas or Polars data frame, or an Arrow table, record batch or dataset"


def types_of(frame: Any) -> dict[str, dict[str, Any]]:
    """What each column is declared as in a policy, by the frame's own types; what dpbeam doesn't read is left out.

    Guarantee: no value is looked at, for what a policy says is published (its digest). So pandas' columns of objects,
    which have no type of their own, are left out, and so are Polars'; and a pandas column of whole numbers is declared
    float64, as it would be if a value were missing.
    """
    columns: dict[str, dict[str, Any]] = {}
    pandas = _is_pandas(frame)
    for each in _schema(frame):
        length, kind = vectors.stated_length(each.type), column_type(each.type)
        if length:
            columns[each.name] = {"type": "vector", "length": length}
        elif kind == "int64" and pandas:
            columns[each.name] = {"type": "float64"}
        elif kind is not None and not pa.types.is_null(each.type):
            columns[each.name] = {"type": kind}
    return columns


def table_of(frame: Any, columns: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """The frame's rows of these columns, which are declared so; whole numbers of pandas as float64 where that is said.

    Raises:
        UsageError: it is no frame, lacks a column or has two of one name, or holds values of several types in one. No
            value is in the error.
    """
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    names = _schema(frame).names
    missing = [name for name in columns if names.count(name) != 1]
    if missing:
        raise UsageError(
            f"the frame must have one column {', one column '.join(missing)}, of a type that Arrow has (Polars' type "
            "Object is none)"
        )

    def selected() -> pa.Table:
        if isinstance(frame, pa.Table):
            return frame.select(list(columns))
        if hasattr(frame, "to_table"):
            return frame.to_table(columns=list(columns))
        return _arrow(frame[list(columns)])

    table = _contained(selected)
    for place, (name, kind) in enumerate(zip(table.schema.names, table.schema.types, strict=True)):
        if _is_pandas(frame) and pa.types.is_integer(kind) and columns[name].get("type") == "float64":
            table = table.set_column(place, name, table.column(place).cast(pa.float64(), safe=False))
    return table


def check_there(frame: Any, columns: Sequence[str], declared: Mapping[str, Any]) -> None:
    """Refuses a question about a column that the frame lacks, or whose type neither the frame nor the question says.

    Raises:
        UsageError: it does. Names of columns are shown, which are public.
    """
    names = _schema(frame).names
    for name in columns:
        if name not in names:
            there = ", ".join(map(shown, names))
            raise UsageError(f"the frame has no column {shown(name)}.{closest(name, names)} Its columns: {there}")
        if name not in declared:
            raise UsageError(
                f"the frame doesn't say of which type column {shown(name)} is, and dpbeam looks at no value for it: "
                f'declare it, such as columns={{{name!r}: "string"}}'
            )


def used(
    unit: str,
    stages: Iterable[Mapping[str, Any]],
    derived: Iterable[Mapping[str, Any]],
    conditions: Iterable[Mapping[str, Any]],
) -> list[str]:
    """The names of columns that a question uses, each once, in order of first use; derived ones may be among them."""
    names = [] if unit == "row" else [unit]
    for stage in stages:
        names += stage["group_by"]
        for metric in stage["metrics"]:
            for arguments in metric.values():
                names += [arguments["column"]] if "column" in arguments else []
                names += arguments.get("columns", [])
    names += [name for each in derived if isinstance(each, Mapping) for name in _columns_of(each)]
    names += [each["column"] for each in conditions]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))  # the checks name what is no text


def _columns_of(derived: Mapping[str, Any]) -> list[str]:
    """The names of the columns that a derived one is made from; none of an expression that can't be read, which is said
    when the policy is checked."""
    expression = derived.get("expression")
    if not isinstance(expression, str):
        return [derived[kind] for kind in _OF_COLUMNS if kind in derived]
    try:
        return list(names_in(parse(expression)))
    except ExpressionError:
        return []


def _schema(frame: Any) -> pa.Schema:
    schema = getattr(frame, "schema", None)
    if isinstance(schema, pa.Schema):
        return schema
    if not hasattr(frame, "__getitem__") or not hasattr(frame, "columns"):
        raise UsageError(f"source must be {_KINDS}, or the path of files, got {type(frame).__name__}")
    return _contained(lambda: _arrow(frame.iloc[:0] if _is_pandas(frame) else _without_objects(frame)[:0])).schema


def _arrow(frame: Any) -> pa.Table:
    if _is_pandas(frame):
        return pa.Table.from_pandas(frame, preserve_index=False)
    return frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)


def _without_objects(frame: Any) -> Any:
    """A Polars frame without columns of Python objects, which Polars gives to Arrow as their addresses in memory: two
    ids of one person would be two people."""
    polars = sys.modules.get("polars")
    if polars is None or not isinstance(frame, polars.DataFrame):
        return frame
    return frame.select([name for name, kind in frame.schema.items() if not _has_objects(kind, polars.Object)])


def _has_objects(kind: Any, plain: Any) -> bool:
    """Whether a Polars type is that of Python objects, or holds one."""
    inner = [getattr(kind, "inner", None), *(field.dtype for field in getattr(kind, "fields", ()))]
    return bool(kind == plain) or any(_has_objects(each, plain) for each in inner if each is not None)


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
    pandas = sys.modules.get("pandas")  # also a class that somebody derived from pandas'
    return pandas is not None and isinstance(frame, pandas.DataFrame)
