"""Takes validated columns, gives derived ones (`bin`, `truncate`, `lower`) and the rows that a condition keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.queries.column_types import ColumnType, Scalar
from dpbeam.queries.source import Bin, Condition, Lower, Truncate
from dpbeam.reading.casting import literal

_ISO = {
    "year": "%Y",
    "month": "%Y-%m",
    "week": "%G-W%V",
    "day": "%Y-%m-%d",
    "hour": "%Y-%m-%dT%H",
    "minute": "%Y-%m-%dT%H:%M",
}
_INT64_MAX, _INT64_MIN = 2**63 - 1, -(2**63)


def derive(columns: Mapping[str, pa.Array], item: Bin | Truncate | Lower) -> pa.Array:
    """The derived column `item`, a string a row. `columns` holds no nulls; floats are finite.

    Guarantee: row-local, as everything before bounding must be; each text depends on its own row and `item` alone.
    """
    values = columns[item.column]
    match item:
        case Bin():
            return pa.array(bin_labels(item.edges)).take(pa.array(_bin_index(values, item.edges)))
        case Truncate():
            if pa.types.is_date(values.type) and item.unit in ("hour", "minute"):
                raise ValueError(
                    f"derive.{item.name}: a date has no {item.unit}; truncate it to day, week, month or year"
                )
            import polars as pl  # lazily: a plan needs none of it

            return pl.Series(values=values).dt.to_string(_ISO[item.unit]).to_arrow().cast(pa.string())
        case Lower():
            return pc.utf8_lower(values)
    raise ValueError(f"unknown derived column {item!r}")


def bin_labels(edges: Sequence[float]) -> list[str]:
    """The names of the len(edges) + 1 intervals, from the lowest: "< 18", "[18, 30)", …, "≥ 65"."""
    marks = [_exact(edge) for edge in edges]
    between = [f"[{low}, {high})" for low, high in pairwise(marks)]
    return [f"< {marks[0]}", *between, f"≥ {marks[-1]}"]


def holds(values: pa.Array, kind: ColumnType, condition: Condition) -> pa.Array:
    """A boolean a row: whether `condition` is true of it. `values` holds no nulls, so it is never unknown.

    Whole numbers are compared exactly, also with a fraction; text by its code points; dates and timestamps with ISO
    8601 text.

    Guarantee: row-local.

    Raises:
        ValueError: the condition's value isn't of the column's type, or isn't one value (several, for `in`, `not_in`).
    """
    several = condition.op in ("in", "not_in")
    if several != isinstance(condition.value, tuple):
        wanted = "a list of values" if several else "one value"
        raise ValueError(f"where {condition.column} {condition.op}: needs {wanted}, got {condition.value!r}")
    if kind == "float64":
        # Turns −0.0 into 0.0, which `is_in` would tell apart.
        values = pc.add(values, 0.0)
    if isinstance(condition.value, tuple):
        options = [option for option in condition.value if not (kind == "int64" and _never(option))]
        chosen = pa.array([_literal(option, kind).as_py() for option in options], values.type)
        inside = pc.is_in(values, value_set=chosen)
        return inside if condition.op == "in" else pc.invert(inside)
    value: Scalar = condition.value
    op: str = condition.op
    if kind == "int64" and not isinstance(value, str | bool):
        settled = _whole(op, value)
        if isinstance(settled, bool):
            return pa.array(np.full(len(values), settled))
        op, value = settled
    compare: dict[str, Any] = {
        "==": pc.equal,
        "!=": pc.not_equal,
        "<": pc.less,
        "<=": pc.less_equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
    }
    return compare[op](values, _literal(value, kind))


def _bin_index(values: pa.Array, edges: Sequence[float]) -> Any:
    if pa.types.is_integer(values.type):
        # For a whole number x, x ≥ edge is x ≥ ceil(edge): exact also where float64 can't hold x.
        whole = [max(math.ceil(edge), _INT64_MIN) for edge in edges if math.ceil(edge) <= _INT64_MAX]
        return np.searchsorted(np.array(whole, dtype=np.int64), values.to_numpy(), side="right")
    return np.searchsorted(np.array(edges, dtype=np.float64), values.to_numpy(), side="right")


def _exact(edge: float) -> str:
    """As short as reads back to the same number: 18, 0.1, 1e+300."""
    return str(int(edge)) if edge == int(edge) and abs(edge) < 10**16 else repr(float(edge))


def _literal(value: Scalar, kind: ColumnType) -> Any:
    scalar = literal(int(value) if kind == "int64" and isinstance(value, float) else value, kind)
    return pa.scalar(scalar.as_py() + 0.0) if kind == "float64" else scalar


def _never(value: Scalar) -> bool:
    """Whether no int64 equals this number."""
    return isinstance(value, int | float) and not (
        _INT64_MIN <= value <= _INT64_MAX and value == math.floor(value)  # NaN fails the first test
    )


def _whole(op: str, value: float) -> tuple[str, int] | bool:
    """The comparison of a whole number with `value` as one with an int64, or its answer where that is always the same.

    x < 2.5 is x ≤ 2, x > 2.5 is x ≥ 3, and nothing equals 2.5.
    """
    if not -math.inf < value < math.inf:
        raise ValueError(f"{value!r} is not a value of type int64")
    if _never(value) and op in ("==", "!="):
        return op == "!="
    if value > _INT64_MAX:
        return op in ("<", "<=")
    if value < _INT64_MIN:
        return op in (">", ">=")
    low, high = math.floor(value), math.ceil(value)
    if low == high:
        return op, low
    return ("<=", low) if op in ("<", "<=") else (">=", high)
