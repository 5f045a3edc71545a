"""Validation of raw batches: typed columns without nulls, derived columns, and the conditions that rows must meet.

The order is fixed: each declared column is cast and its rules applied (invalid, null, NaN, infinity), rows that a
rule drops leave, derived columns are added and their rules applied, `where` keeps the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import I64
from dpbeam.errors import DataError
from dpbeam.queries.column_types import ColumnType, Scalar
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading import vectors
from dpbeam.reading.casting import ARROW_TYPES, literal, to_type, trimmed
from dpbeam.reading.derive import holds
from dpbeam.reading.derived_columns import Watch, add_derived

_PLACE = "__place"
_MEANS = {
    "on_invalid": "A value is not of the column's type",
    "on_null": "A value is missing",
    "on_nan": "A value is NaN",
    "on_inf": "A value is infinite",
}


def prepare(batch: pa.RecordBatch, spec: InputSpec, watch: Watch | None = None) -> pa.RecordBatch:
    """The rows of `batch` that hold, as `output_schema(spec)`; their order is kept, columns beyond `spec` are left out.

    Guarantee: row-local. Whether a row stays, and what it becomes, depends on that row and `spec` alone, so adding
    or removing one privacy unit's rows changes those rows in the output and no others. That is what lets the
    sensitivity be counted from here on. (A rule `fail` ends the whole run, which the operator sees:
    docs/known_limits.md.)

    Raises:
        DataError: a value breaks a rule declared `fail`. The message says column and rule, never a value or a count.
        KeyError, TypeError: the batch lacks a column, or holds one of another type than `sources` lets through.
    """
    return _of_schema(_passing(batch, spec, watch, {}), spec)


def prepare_placed(batch: pa.RecordBatch, spec: InputSpec) -> tuple[pa.RecordBatch, I64]:
    """As `prepare`, and of each row that it gives, its place in `batch`."""
    places = pa.array(np.arange(batch.num_rows))
    columns = _passing(batch, spec, None, {_PLACE: places})
    found: I64 = columns.pop(_PLACE).to_numpy()
    return _of_schema(columns, spec), found


def settled(batch: pa.RecordBatch, spec: InputSpec, name: str) -> tuple[pa.Array, pa.Array | None]:
    """A declared column of all rows, typed and with its replacements, and a mask of those that its rules drop (None: no
    row)."""
    (column,) = (column for column in spec.columns if column.name == name)
    return _settle(batch.column(name), column, None)


def _of_schema(columns: Mapping[str, Any], spec: InputSpec) -> pa.RecordBatch:
    schema = output_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _passing(
    batch: pa.RecordBatch, spec: InputSpec, watch: Watch | None, beside: Mapping[str, pa.Array]
) -> dict[str, Any]:
    """The columns of the rows that hold; those `beside` them lose the same rows."""
    columns: dict[str, Any] = dict(beside)
    dropped = None
    for column in spec.columns:
        columns[column.name], bad = _settle(batch.column(column.name), column, watch)
        if bad is not None:
            dropped = bad if dropped is None else pc.or_(dropped, bad)
    if dropped is not None:
        columns = _filter(columns, pc.invert(dropped))
    if spec.derived:
        columns, gone = add_derived(columns, spec.derived, len(columns[spec.columns[0].name]), watch)
        if gone is not None:
            columns = _filter(columns, pa.array(~gone))
    kept = None
    for true in conditions(columns, spec):
        kept = true if kept is None else pc.and_(kept, true)
    if kept is not None:
        columns = _filter(columns, kept)
    return columns


def conditions(columns: Mapping[str, pa.Array], spec: InputSpec) -> list[pa.Array]:
    """A mask of the rows that meet it, for each condition of `spec.where`; of typed columns, derived ones included."""
    kinds = column_types(spec) if spec.where else {}
    return [holds(columns[each.column], kinds[each.column], each) for each in spec.where]


def output_schema(spec: InputSpec) -> pa.Schema:
    """What `prepare` gives: the declared columns, then the derived ones, each of its final type."""
    declared = [
        (column.name, vectors.arrow_type(column.length or 0) if column.type == "vector" else ARROW_TYPES[column.type])
        for column in spec.columns
    ]
    return pa.schema([*declared, *((item.name, ARROW_TYPES[item.type]) for item in spec.derived)])


def column_types(spec: InputSpec) -> dict[str, ColumnType]:
    """The type of each declared and derived column that holds one value a row."""
    declared: dict[str, ColumnType] = {c.name: c.type for c in spec.columns if c.type != "vector"}
    return declared | {item.name: item.type for item in spec.derived}


def _settle(raw: pa.Array, column: Column, watch: Watch | None) -> tuple[pa.Array, pa.Array | None]:
    """The typed column with its replacements, and a mask of the rows that its rules drop (None: no row)."""
    if column.type == "vector":
        return _settle_vectors(raw, column, watch)
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if column.trim:
        raw = trimmed(raw)
    kind: ColumnType = column.type
    values = to_type(raw, kind)
    dropped = None
    for name, mask in _broken(raw, values, column).items():
        rule: Rule = getattr(column, name)
        if watch is not None:
            watch(column.name, name, mask)
        match rule.action:
            case "drop":
                dropped = mask if dropped is None else pc.or_(dropped, mask)
            case "replace":
                values = pc.if_else(mask, literal(_stand_in(rule, name, column), kind), values)
            case "fail":
                raise _failure(name, column)
            case _:
                raise ValueError(f"unknown action {rule.action!r}")
    return values, dropped


def _settle_vectors(raw: pa.Array, column: Column, watch: Watch | None) -> tuple[pa.Array, pa.Array | None]:
    """As `_settle`, with each rule applied to each number of a row's vector: the row leaves if one of them breaks a
    rule that drops it."""
    numbers, broken = vectors.read(raw, column.length or 0)
    dropped = None
    for name, cells in broken.items():
        rule: Rule = getattr(column, name)
        if watch is not None:
            watch(column.name, name, pa.array(cells.any(axis=1)))
        match rule.action:
            case "drop":
                mask = pa.array(cells.any(axis=1))
                dropped = mask if dropped is None else pc.or_(dropped, mask)
            case "replace":
                numbers[cells] = literal(_stand_in(rule, name, column), "float64").as_py()
            case "fail":
                raise _failure(name, column)
            case _:
                raise ValueError(f"unknown action {rule.action!r}")
    return vectors.column(numbers), dropped


def _stand_in(rule: Rule, name: str, column: Column) -> Scalar:
    if rule.value is None:
        raise ValueError(f"columns.{column.name}.{name}: replace needs a value")
    return rule.value


def _failure(name: str, column: Column) -> DataError:
    means = vectors.MEANS[name] if column.type == "vector" else _MEANS[name]
    return DataError(
        f"column {column.name} breaks {name}: fail. {means}. "
        f"Correct the source, or declare another rule for the column, such as {name}: drop."
    )


def _broken(raw: pa.Array, values: pa.Array, column: Column) -> Mapping[str, pa.Array]:
    """A mask for each rule that some row breaks, in the order the rules apply; a row is in one mask at most."""
    broken = {}
    if values.null_count > raw.null_count:
        broken["on_invalid"] = pc.and_not(values.is_null(), raw.is_null())
    if raw.null_count:
        broken["on_null"] = raw.is_null()
    if column.type == "float64" and pc.all(pc.is_finite(values)).as_py() is False:
        broken["on_nan"] = pc.is_nan(values).fill_null(False)
        broken["on_inf"] = pc.is_inf(values).fill_null(False)
    return {name: mask for name, mask in broken.items() if pc.any(mask).as_py()}


def _filter(columns: Mapping[str, Any], mask: pa.Array) -> dict[str, Any]:
    if pc.all(mask).as_py():
        return dict(columns)
    return {name: values.filter(mask) for name, values in columns.items()}
