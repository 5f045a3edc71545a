"""Data that a policy alone makes up: rows of its columns' types that keep its conditions and fall into its partitions.

Guarantee: nothing here reads a source. What the values are taken from are the policy's own words (types, bounds, edges,
conditions, public partitions), so there is nothing in them of anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.metrics.count_if import CountIf
from dpbeam.queries.metrics.sums import SumOfTotals
from dpbeam.queries.query import Query
from dpbeam.queries.source import Bin, Column, ColumnType, Condition, Derived, Lower, Truncate
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.derive import derive, holds

ROWS_A_UNIT = 3
_NAMES, _STEPS, _DAYS = 10, 101, 28
_DAY = date(2026, 1, 5)
"""The first day that is made up: a Monday."""
_FORMATS = {
    "year": "%Y",
    "month": "%Y-%m",
    "week": "%G-W%V-%u",
    "day": "%Y-%m-%d",
    "hour": "%Y-%m-%dT%H",
    "minute": "%Y-%m-%dT%H:%M",
}


def made_up(query: Query, units: int) -> pa.Table:
    """A table with the query's columns by name: `ROWS_A_UNIT` rows of each unit, one where each row is a unit.

    Raises:
        UsageError: no value that can be thought of meets a column's conditions.
    """
    rng = np.random.Generator(np.random.PCG64())
    rows = units if query.unit is None else units * ROWS_A_UNIT
    columns: dict[str, pa.Array] = {}
    for column in query.source.columns:
        if column.length is not None:
            numbers = rng.uniform(-1.0, 1.0, rows * column.length)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers), column.length)
            columns[column.name] = lists.cast(pa.list_(pa.float64()))
            continue
        pool = _pool(query, column, units)
        if column.name == query.unit:
            columns[column.name] = pool.take(pa.array(np.arange(rows) % len(pool)))
        else:
            columns[column.name] = pool.take(pa.array(rng.integers(0, len(pool), rows)))
    return pa.table(columns)


def _pool(query: Query, column: Column, units: int) -> pa.Array:
    """The values that a column's rows are drawn from: those that can be thought of and that the conditions keep."""
    kind: ColumnType = "float64" if column.type == "vector" else column.type
    usual = list(_usual(kind, units if column.name == query.unit else None))
    thought = usual if column.name == query.unit else [*_thought_of(query, column.name, kind)] or usual
    pool = _kept(query, column.name, kind, _array(thought, kind))
    if len(pool) == 0:
        pool = _kept(query, column.name, kind, _array([*thought, *usual], kind))
    if len(pool) == 0:
        raise UsageError(
            f"no value of column {column.name} that can be made up meets the policy's conditions (where) on it; look "
            "whether any can"
        )
    return pool


def _array(values: Sequence[Any], kind: ColumnType) -> pa.Array:
    if kind == "int64":
        values = [int(value) for value in values if abs(value) < 2**63]
    return pa.array(dict.fromkeys(values), ARROW_TYPES[kind])


def _usual(kind: ColumnType, units: int | None) -> Iterator[Any]:
    """Values of a type of which nothing more is known: as many as there are units, or a few."""
    few = units or _NAMES
    match kind:
        case "string":
            yield from (f"{'unit' if units else 'made-up'}-{number}" for number in range(1, few + 1))
        case "int64" | "float64":
            yield from range(1, few + 1)
        case "bool":
            yield from (False, True)
        case "date":
            yield from (_DAY + timedelta(days=day) for day in range(units or _DAYS))
        case "timestamp":
            start = datetime(_DAY.year, _DAY.month, _DAY.day)
            yield from (start + timedelta(hours=7 * step) for step in range(units or 4 * _DAYS))


def _thought_of(query: Query, name: str, kind: ColumnType) -> Iterator[Any]:
    """What the policy says of a column's values: its partitions, bounds, conditions, and those of what is derived."""
    derived = [item for item in query.source.derived if item.column == name]
    for stage in query.stages:
        if stage.public is not None and name in stage.keys:
            yield from stage.public.column(name).to_pylist()
        for item in derived:
            if stage.public is not None and item.name in stage.keys:
                yield from _behind(item, kind, stage.public.column(item.name).to_pylist())
        for metric in stage.metrics:
            match metric:
                case Clipped(column=of, low=low, high=high, auto=auto) if of == name:
                    yield from np.linspace(*((0.0, 100.0) if auto else (low, high)), _STEPS).tolist()
                case SumOfTotals(column=of, low_total=low, high_total=high) if of == name:
                    yield from np.linspace(low, high, _STEPS).tolist()
                case CountIf(condition=condition) if condition.column == name:
                    yield from _around(condition, kind)
        if stage.counted_by == name:
            yield from range(1, ROWS_A_UNIT + 1)
    for item in derived:
        yield from _behind(item, kind, [])
    for condition in query.source.where:
        if condition.column == name:
            yield from _around(condition, kind)
        for item in derived:
            if condition.column == item.name:
                stated = condition.value if isinstance(condition.value, tuple) else (condition.value,)
                yield from _behind(item, kind, stated)


def _around(condition: Condition, kind: ColumnType) -> Iterator[Any]:
    """The values of a condition, and some on either side of them."""
    for value in condition.value if isinstance(condition.value, tuple) else (condition.value,):
        match kind:
            case "int64" | "float64":
                yield from (float(value) + step for step in range(-_NAMES, _NAMES + 1))
            case "date":
                yield from (date.fromisoformat(str(value)) + timedelta(days=day) for day in range(-_DAYS, _DAYS + 1))
            case "timestamp":
                at = datetime.fromisoformat(str(value))
                yield from (at + timedelta(hours=7 * step) for step in range(-_DAYS, _DAYS + 1))
            case "string":
                yield from (value, f"{value} made-up")
            case "bool":
                yield from (False, True)


def _behind(item: Derived, kind: ColumnType, texts: Sequence[Any]) -> Iterator[Any]:
    """Values from which a derived column gets these texts; of intervals, a value in each."""
    match item:
        case Bin(edges=edges):
            yield from (edges[0] - 1.0, *((low + high) / 2 for low, high in pairwise(edges)))
            yield from (*edges, edges[-1] + 1.0)
        case Lower():
            yield from texts
        case Truncate(unit=unit):
            for text in texts:
                try:
                    at = datetime.strptime(f"{text}-1" if unit == "week" else str(text), _FORMATS[unit])
                except ValueError:  # a partition that no time falls into
                    continue
                yield at.date() if kind == "date" else at


def _kept(query: Query, name: str, kind: ColumnType, pool: pa.Array) -> pa.Array:
    """Those of the values that the policy's conditions on the column, and on what is derived of it, keep."""
    derived = {item.name: item for item in query.source.derived if item.column == name}
    for condition in query.source.where:
        if condition.column == name:
            pool = pool.filter(holds(pool, kind, condition))
        elif condition.column in derived:
            made = derive({name: pool}, derived[condition.column])
            pool = pool.filter(holds(made, "string", condition))
    return pool
