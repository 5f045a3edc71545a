"""Data that a policy alone makes up: rows of its columns' types that keep its conditions and fall into its partitions.

Guarantee: nothing here reads a source. What the values are taken from are the policy's own words (`suggestions`), so
there is nothing in them of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.array_types import Mask
from dpbeam.errors import UsageError
from dpbeam.pipelines.rehearsal.suggested import suggestions, usual
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.query import Query
from dpbeam.queries.source import Column, Computed, Derived, InputSpec, Lookup, Rule, uses
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.derive import holds
from dpbeam.reading.derived_columns import add_derived

ROWS_A_UNIT = 3
_ROUNDS = 40
"""How often a row is drawn that the policy doesn't keep; in the latter half from more values."""


def made_up(query: Query, units: int) -> pa.Table:
    """A table with the query's columns by name: `ROWS_A_UNIT` rows of each unit, one where each row is a unit; fewer of
    those for whom no row is drawn that the policy keeps.

    Raises:
        UsageError: no row that can be made up meets the policy's conditions and rules.
    """
    rng = np.random.Generator(np.random.PCG64())
    rows = units if query.unit is None else units * ROWS_A_UNIT
    suggested = suggestions(query, ROWS_A_UNIT)
    pools = {column.name: _pool(query, column, units, suggested[column.name]) for column in query.source.columns}
    more = {
        column.name: _pool(query, column, units, [*suggested[column.name], *usual(_kind(column))])
        for column in query.source.columns
        if column.name != query.unit
    }
    empty = next((name for name, pool in (pools | more).items() if len(pool) == 0), None)
    if empty is not None:
        raise UsageError(
            f"no value of column {empty} that can be made up meets the policy's conditions (where) on it; look "
            "whether any can"
        )
    unkept = np.arange(rows)
    kept: list[pa.Table] = []
    for turn in range(_ROUNDS):
        table = _drawn(query, pools if turn < _ROUNDS // 2 else pools | more, unkept, rng)
        keep = _keeps(query.source, {name: table.column(name).combine_chunks() for name in table.column_names})
        kept.append(table.filter(pa.array(keep)))
        unkept = unkept[~keep]
        if len(unkept) == 0:
            break
    if len(unkept) == rows:
        raise UsageError(
            "no row that can be made up meets all of the policy's conditions (where) and the rules of its derived "
            "columns; look whether any can"
        )
    return pa.concat_tables(kept)


def _drawn(
    query: Query, pools: Mapping[str, pa.Array], places: npt.NDArray[np.int64], rng: np.random.Generator
) -> pa.Table:
    """The rows at these places: their units in turn, all else at random."""
    columns: dict[str, pa.Array] = {}
    for column in query.source.columns:
        pool = pools[column.name]
        if column.length is not None:
            numbers = pool.take(pa.array(rng.integers(0, len(pool), len(places) * column.length)))
            lists = pa.FixedSizeListArray.from_arrays(numbers, column.length)
            columns[column.name] = lists.cast(pa.list_(pa.float64()))
        elif column.name == query.unit:
            columns[column.name] = pool.take(pa.array(places % len(pool)))
        else:
            columns[column.name] = pool.take(pa.array(rng.integers(0, len(pool), len(places))))
    return pa.table(columns)


def _kind(column: Column) -> ColumnType:
    return "float64" if column.type == "vector" else column.type


def _pool(query: Query, column: Column, units: int, suggested: Sequence[Any]) -> pa.Array:
    """The values that a column's rows are drawn from, of which the policy keeps each as far as it depends on it alone.

    Numbers of vectors are between -1 and 1, and no condition is about them.
    """
    kind = _kind(column)
    if column.length is not None:
        return pa.array(np.linspace(-1.0, 1.0, 201))
    is_unit = column.name == query.unit
    pool = _array(list(usual(kind, units)) if is_unit else suggested or list(usual(kind)), kind)
    alone = _made_of_alone(query.source.derived, column.name)
    names = {column.name, *(item.name for item in alone)}
    spec = replace(
        query.source,
        columns=(column,),
        derived=alone,
        where=tuple(condition for condition in query.source.where if condition.column in names),
        path_columns=(),
    )
    kept = pool.filter(pa.array(_keeps(spec, {column.name: pool})))
    if len(kept) == 0 and not is_unit:
        pool = _array([*suggested, *usual(kind)], kind)
        kept = pool.filter(pa.array(_keeps(spec, {column.name: pool})))
    return kept


def _array(values: Sequence[Any], kind: ColumnType) -> pa.Array:
    if kind == "int64":
        values = [int(value) for value in values if abs(value) < 2**63]
    return pa.array(dict.fromkeys(values), ARROW_TYPES[kind])


def _made_of_alone(derived: Sequence[Derived], name: str) -> tuple[Derived, ...]:
    """The derived columns that are made of one column alone, also by way of others."""
    alone, found = {name}, []
    for item in derived:
        if alone.issuperset(uses(item)):
            alone.add(item.name)
            found.append(item)
    return tuple(found)


def _keeps(spec: InputSpec, columns: Mapping[str, pa.Array]) -> Mask:
    """Which rows the policy keeps: those that no rule of a derived column drops or fails, and that meet all
    conditions."""
    rows = len(next(iter(columns.values())))
    known, dropped = add_derived(columns, [_dropping(item) for item in spec.derived], rows)
    keep: Mask = np.ones(rows, dtype=np.bool_) if dropped is None else ~dropped
    kinds = {column.name: _kind(column) for column in spec.columns} | {item.name: item.type for item in spec.derived}
    for condition in spec.where:
        held = holds(known[condition.column], kinds[condition.column], condition)
        keep = keep & held.to_numpy(zero_copy_only=False)
    return keep


def _dropping(item: Derived) -> Derived:
    """The derived column with rules that drop a row where the policy's would fail a run: no such row is made up."""
    match item:
        case Computed(on_null=on_null, on_invalid=on_invalid):
            return replace(item, on_null=_softer(on_null), on_invalid=_softer(on_invalid))
        case Lookup(on_null=on_null):
            return replace(item, on_null=_softer(on_null))
    return item


def _softer(rule: Rule) -> Rule:
    return Rule(action="drop") if rule.action == "fail" else rule
