"""What a policy's own words suggest of its columns' values: partitions, bounds, conditions, constants, formats.

Guarantee: it sees a query and nothing else, so no suggestion is of anybody's data. A suggestion is only a guess; the
code that reads rows decides which of them a condition keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import numpy as np

from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.expressions import Call, Case, ColumnValue, Constant, Expression
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.metrics.count_if import CountIf
from dpbeam.queries.metrics.sums import SumOfTotals
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.source import Bin, Computed, Condition, Derived, Lookup, Lower, Placed, Truncate

_NAMES, _STEPS, _DAYS, _LOOKED_UP = 10, 101, 28, 1000
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
_COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "in"}
_READERS = {"int64", "float64", "bool", "date", "timestamp", "parse_int64", "parse_float64"}
"""Functions that read text as written in a CSV file, or as numbers with marks of groups, which needn't be there."""


def usual(kind: ColumnType, units: int | None = None) -> Iterator[Any]:
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


def suggestions(query: Query, rows_a_unit: int) -> dict[str, list[Any]]:
    """For each column, read or derived, the values that the policy's words suggest; none where they say nothing."""
    spec = query.source
    kinds: dict[str, ColumnType] = {
        **{column.name: "float64" if column.type == "vector" else column.type for column in spec.columns},
        **{item.name: item.type for item in spec.derived},
    }
    found: dict[str, list[Any]] = {name: [] for name in kinds}
    for stage in query.stages:
        for name, value in _of_stage(stage, kinds, rows_a_unit):
            found[name].append(value)
    for condition in spec.where:
        found[condition.column].extend(_around(_stated(condition), kinds[condition.column]))
    for item in reversed(spec.derived):  # one may be made of those before it alone
        for name, value in _behind(item, kinds, found[item.name]):
            found[name].append(value)
    return found


def _of_stage(stage: Stage, kinds: Mapping[str, ColumnType], rows_a_unit: int) -> Iterator[tuple[str, Any]]:
    """What a stage says: its public partitions, the bounds of its metrics, and what they count."""
    if stage.public is not None:
        for key in stage.keys:
            yield from ((key, value) for value in stage.public.column(key).to_pylist())
    for metric in stage.metrics:
        match metric:
            case Clipped(column=of, low=low, high=high, auto=auto):
                yield from ((of, value) for value in np.linspace(*((0.0, 100.0) if auto else (low, high)), _STEPS))
            case SumOfTotals(column=of, low_total=low, high_total=high):
                yield from ((of, value) for value in np.linspace(low, high, _STEPS))
            case CountIf(condition=condition):
                of = condition.column
                yield from ((of, value) for value in _around(_stated(condition), kinds[of]))
    if stage.counted_by is not None:
        yield from ((stage.counted_by, count) for count in range(1, rows_a_unit + 1))


def _stated(condition: Condition) -> tuple[Any, ...]:
    return condition.value if isinstance(condition.value, tuple) else (condition.value,)


def _around(values: Iterable[Any], kind: ColumnType) -> Iterator[Any]:
    """The values that something is compared with, and some on either side of them."""
    for value in values:
        match kind:
            case "int64" | "float64":
                yield from (float(value) + step for step in range(-_NAMES, _NAMES + 1))
            case "date":
                yield from _times_around(date, value, timedelta(days=1))
            case "timestamp":
                yield from _times_around(datetime, value, timedelta(hours=7))
            case "string":
                yield from (value, f"{value} made-up")
            case "bool":
                yield from (False, True)


def _times_around(kind: type[date], stated: object, step: timedelta) -> Iterator[date]:
    """Dates or times around one that is stated in ISO 8601; none around what Python can't read or hold."""
    for place in range(-_DAYS, _DAYS + 1):
        try:
            yield kind.fromisoformat(str(stated)) + place * step
        except (ValueError, OverflowError):
            continue


def _behind(item: Derived, kinds: Mapping[str, ColumnType], wanted: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Values of the columns that a derived one is made from, by which it gets those `wanted`; of intervals, a value in
    each."""
    match item:
        case Bin(column=of, edges=edges):
            inside = ((low + high) / 2 for low, high in pairwise(edges))
            yield from ((of, value) for value in (edges[0] - 1.0, *inside, *edges, edges[-1] + 1.0))
        case Lower(column=of):
            yield from ((of, text) for text in wanted)
        case Placed(column=of, listed=listed, label=label):
            yield from ((of, value) for value in (*listed.to_pylist(), label.as_py()))
        case Lookup(column=of, keys=keys, values=values):
            rows = list(zip(keys.to_pylist(), values.to_pylist(), strict=True))
            fitting = [key for key, value in rows if value in wanted] or [key for key, value in rows]
            yield from ((of, key) for key in fitting[:_LOOKED_UP])
        case Truncate(column=of, unit=unit):
            for text in wanted:
                try:
                    at = datetime.strptime(f"{text}-1" if unit == "week" else str(text), _FORMATS[unit])
                except ValueError:  # a partition that no time falls into
                    continue
                yield of, at.date() if kinds[of] == "date" else at
        case Computed(expression=expression):
            yield from _within(expression, wanted)


def _within(expression: Expression, wanted: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Values of an expression's columns: those by which it may become what is `wanted`, constants that they are
    compared with, and text that can be read as its format says."""
    match expression:
        case ColumnValue(name=name):
            yield from ((name, value) for value in wanted)
        case Case(branches=branches, otherwise=otherwise):
            for condition, value in branches:
                yield from (*_within(condition, ()), *_within(value, wanted))
            yield from () if otherwise is None else _within(otherwise, wanted)
        case Call(function="parse_date" | "parse_timestamp", arguments=(text, Constant(value=stated))):
            at = [value for value in wanted or usual(expression.type) if isinstance(value, date)]
            yield from _within(text, [_moment(value).strftime(str(stated)) for value in at])
        case Call(function=function, arguments=(text, *marks)) if function in _READERS and text.type == "string":
            values = _suited(wanted or usual(expression.type), expression.type)
            mark = next((str(value) for each in marks[:1] for value in _constant(each)), ".")
            point = mark if function == "parse_float64" else "."
            yield from _within(text, [_written(value).replace(".", point) for value in values])
        case Call(function="int64" | "float64", arguments=(number,)) if number.type in ("int64", "float64"):
            yield from _within(number, list(_suited(wanted or usual(expression.type), expression.type)))
        case Call(function="nullif", arguments=(value, other)):
            yield from _within(value, wanted or [*_around(_constant(other), value.type)])
        case Call(function=function, arguments=arguments) if function in _COMPARISONS:
            constants = [value for each in arguments for value in _constant(each)]
            for each in arguments:
                yield from _within(each, [*_around(constants, each.type)])
        case Call(arguments=arguments):
            for each in arguments:
                yield from _within(each, wanted if each.type == expression.type else ())


def _suited(values: Iterable[Any], kind: ColumnType) -> Iterator[Any]:
    """The values as they are of the type: numbers that become whole ones are rounded."""
    for value in values:
        yield round(value) if kind == "int64" and isinstance(value, float) else value


def _constant(expression: Expression) -> Iterator[Any]:
    """The value of a constant, or the text of a date or time that is written out; nothing where it depends on a row."""
    match expression:
        case Constant(value=value) | Call(function="date" | "timestamp", arguments=(Constant(value=value),)):
            yield value


def _moment(value: date) -> datetime:
    """A date's midnight or a timestamp, in UTC, so that a format may have a zone and a time of day."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=timezone.utc)
    return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)


def _written(value: Any) -> str:
    """As a CSV file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value)
