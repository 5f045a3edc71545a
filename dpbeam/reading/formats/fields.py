"""Where a declared column lies in a file's schema: under a name, or at a path into structs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.errors import UsageError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column
from dpbeam.reading import casting, vectors
from dpbeam.reading.casting import accepts

Path = tuple[str, ...]

_NAMES_SHOWN = 30
_GIVE_IT = "Give it one in the step before (its other names are not shown here, since they may be data)."
_TYPES: tuple[ColumnType, ...] = ("string", "int64", "float64", "bool", "date", "timestamp")


def field_of(column: Column) -> str:
    """How errors name the column's place in the source."""
    field = column.name if column.field is None else column.field
    return field if isinstance(field, str) else ".".join(field)


def locate(column: Column, schema: pa.Schema, path: str, format: str, *, is_stored: bool = True) -> Path:
    """The names that lead to the column in a file of `schema`; checks that it is there once and has a fitting type.

    A name with dots is a top-level column if there is one of that name, else a path; a list of names is always a path.
    A schema that isn't stored was made by a program, maybe of values, so errors show no name that `column` hasn't, and
    of a type its kind alone: a struct's fields may be a row's words, a decimal's digits those of its largest value.

    Raises:
        UsageError: it isn't there, or twice, or of a type that can't be read as the column's.
    """
    stated = column.name if column.field is None else column.field
    if isinstance(stated, str):
        dotted = tuple(stated.split("."))
        place: Path = (stated,) if stated in schema.names or dotted[0] not in schema.names else dotted
    else:
        place = stated
    if len(place) == 1 or schema.names.count(place[0]) != 1:
        if not is_stored and place[0] not in schema.names:
            raise UsageError(f"{path} has no column {place[0]}. {_GIVE_IT}")
        check_named_once(column, place[0], schema.names, path, is_metadata=True)
    arrow = leaf(schema, place)
    if arrow is None:
        near = _near(schema, place) if is_stored else _GIVE_IT
        raise UsageError(f"{path} has no field {'.'.join(place)} (column {column.name}). {near}")
    if column.type == "vector":
        fits, wanted = vectors.holds(arrow, column.length or 0), f"a vector of {column.length}"
    else:
        fits, wanted = accepts(arrow, column.type), column.type
    if not fits:
        shown = str(arrow) if is_stored else re.split(r"[<(\[]", str(arrow))[0]
        raise UsageError(
            f"{path}: column {column.name} must be readable as {wanted}, found {format} type {shown}. "
            f"{_other_type(arrow)}"
        )
    return place


def as_hex(columns: Sequence[Column], schema: pa.Schema, paths: Sequence[Path]) -> tuple[bool | None, ...]:
    """Of each column, at its path of `locate`, whether its text is hex digits of bytes of a fixed length.

    None of a column that isn't text, and of one whose type has no values.

    Bytes that are read as hex here and as text there would be two values, and the id of one unit two units: a source
    must say the same everywhere (`dpbeam.pipelines.lifecycle.inputs`).
    """
    types = [leaf(schema, path) for path in paths]
    return tuple(
        None if column.type != "string" or arrow is None else casting.as_hex(arrow)
        for column, arrow in zip(columns, types, strict=True)
    )


def extract(batch: pa.RecordBatch, place: Path) -> pa.Array:
    """The column at a path of `locate`; null where a struct on the way is."""
    top = batch.column(place[0])
    return pc.struct_field(top, list(place[1:])) if len(place) > 1 else top


def check_named_once(column: Column, name: str, names: Sequence[str], path: str, *, is_metadata: bool) -> None:
    """Refuses a column that isn't there exactly once.

    `is_metadata` says that `names` are surely names. Of a CSV file they are its first line, which is a row where there
    is no header, and has a part of one where the header lost its end: no word of it is shown that the policy hasn't.
    """
    count = list(names).count(name)
    if count == 1:
        return
    if count > 1:
        raise UsageError(f"{path}: column {name} stands in the file {count} times. Rename all but one.")
    near = next((each for each in names if each.strip().casefold() == name.casefold()), None)
    if not is_metadata:
        hint = f"Did you mean {near}? " if near else ""
        raise UsageError(
            f"{path} has no column {name}. {hint}Its first line must be a header (it is not shown here, since it may "
            "be data); check that, and source.delimiter."
        )
    near = near or next(iter(get_close_matches(name, names, n=1)), None)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" * (len(names) > _NAMES_SHOWN))
    hint = f"Did you mean {near}? " if near else ""
    raise UsageError(f"{path} has no column {name}. {hint}Its columns: {shown}.")


def leaf(schema: pa.Schema, place: Path) -> pa.DataType | None:
    """The type at a path; None if it isn't there, or there twice."""
    if schema.names.count(place[0]) != 1:
        return None
    arrow = schema.field(place[0]).type
    for name in place[1:]:
        index = arrow.get_field_index(name) if pa.types.is_struct(arrow) else -1
        if index < 0:
            return None
        arrow = arrow.field(index).type
    return arrow


def _near(schema: pa.Schema, place: Path) -> str:
    """What there is at the deepest level of the path that exists."""
    known = [place[:depth] for depth in range(1, len(place)) if leaf(schema, place[:depth]) is not None]
    deepest = known[-1] if known else place[:1]
    arrow = leaf(schema, deepest)
    if arrow is None or not pa.types.is_struct(arrow):
        return f"{'.'.join(deepest)} is not a struct, so nothing lies inside it."
    names = [arrow.field(i).name for i in range(arrow.num_fields)]
    return f"Fields of {'.'.join(deepest)}: {', '.join(names[:_NAMES_SHOWN])}."


def _other_type(arrow: pa.DataType) -> str:
    length = vectors.stated_length(arrow)
    if length is not None:
        return f"Declare {{type: vector, length: {length or 'N'}}}, or convert the column in the source."
    fitting = [kind for kind in _TYPES if accepts(arrow, kind)]
    if fitting:
        return f"Declare type: {fitting[0]}, or convert the column in the source."
    return "No type of the policy holds it exactly: convert the column in the source."
