"""Which columns of a file a policy can declare, and as what, by their names and Arrow types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from dpbeam.policy.yamltext import escaped_text
from dpbeam.queries.column_types import ColumnType
from dpbeam.reading import vectors
from dpbeam.reading.casting import accepts, is_text


def columns_in(schema: pa.Schema) -> tuple[dict[str, ColumnType], list[str]]:
    """The columns a policy can read, by name, and a line on each that it can't."""
    names = schema.names
    columns: dict[str, ColumnType] = {}
    left_out = []
    for field in schema:
        kind = column_type(field.type)
        reason = unusable(field.name, names)
        if reason is None and _is_vector(field.type):
            continue
        if reason is None and kind is None:
            reason = f"a type that dpbeam doesn't read, {escaped_text(str(field.type))}"
        if kind is not None and reason is None:
            columns[field.name] = kind
        else:
            left_out.append(f"{escaped_text(field.name)}, {reason}")
    return columns, list(dict.fromkeys(left_out))


def vectors_in(schema: pa.Schema) -> tuple[dict[str, int], list[str]]:
    """The columns of lists of numbers: those whose type states a length, with it, and those that leave it to rows."""
    lengths = {
        field.name: vectors.stated_length(field.type) or 0
        for field in schema
        if _is_vector(field.type) and unusable(field.name, schema.names) is None
    }
    return {name: n for name, n in lengths.items() if n}, [name for name, n in lengths.items() if not n]


def _is_vector(arrow: pa.DataType) -> bool:
    length = vectors.stated_length(arrow)
    return length is not None and length <= vectors.MAX_LENGTH


def unusable(name: str, names: Sequence[str]) -> str | None:
    """Why a policy can't have a column of this name, if so."""
    if names.count(name) > 1:
        return "its name stands twice"
    if not name or name.startswith("__") or name == "row" or len(name) > 255:
        return "a name that a policy can't have"
    return None


def readable_text(field: pa.Field) -> bool:
    """Whether a column of a file holds text, of which white space can be taken off."""
    arrow = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return bool(is_text(arrow))


def column_type(arrow: pa.DataType) -> ColumnType | None:
    """What a column of this Arrow type is declared as in a policy; None if dpbeam doesn't read it."""
    natural: list[tuple[bool, ColumnType]] = [
        (pa.types.is_boolean(arrow), "bool"),
        (pa.types.is_date(arrow), "date"),
        (pa.types.is_timestamp(arrow), "timestamp"),
        (pa.types.is_integer(arrow), "int64"),
        (pa.types.is_floating(arrow), "float64"),
        (pa.types.is_decimal(arrow), "float64"),
    ]
    wanted: ColumnType = next((kind for is_it, kind in natural if is_it), "string")
    return wanted if accepts(arrow, wanted) else None
