"""Avro schemas: the Arrow types of their fields, and the same schema in a form that a reader takes.

https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pyarrow as pa

from dpbeam.reading.formats.fields import Path

_PRIMITIVES: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_LOGICAL: dict[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    **{
        ("long", f"{kind}timestamp-{name}"): pa.timestamp(unit)
        for kind in ("", "local-")
        for name, unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
    },
}
_COMPLEX = ("record", "error", "enum", "fixed", "array", "map")
_MOST_DIGITS = 76
_UUID_BYTES = 16
_DEEPEST = 64
_MOST_NODES = 20_000


class Unusable(ValueError):
    """The schema isn't valid, refers to itself, is nested too deeply, or has values that take no bytes, where a few
    bytes may then say that there are any number of them. Its text says which, and quotes nothing."""


def expanded(schema: Any) -> Any:
    """The schema with each named type written out where it is used, and only what decides how values are read: of the
    logical types those that dpbeam knows.

    Raises:
        Unusable: see there.
    """
    made = _expand(schema, {}, "", 0)
    for size, node in enumerate(_nodes(made)):
        if size > _MOST_NODES:
            raise Unusable("it is too large when its names are written out")
        if isinstance(node, dict) and node["type"] == "array" and _takes_no_bytes(node["items"]):
            raise Unusable("it has an array of values that take no bytes")
    if _takes_no_bytes(made):
        raise Unusable("its records take no bytes")
    return made


def stored(schema: Any, names: Iterator[int] | None = None) -> Any:
    """An expanded schema for a reader: the same bytes are read, but as few types as there can be come out. Text and
    decimals are bytes; dates, times and enums (by their place among the symbols) are long.

    What the values mean is then said in one place, `avro_values`, and not by each reader's own lights: Polars 2.1
    panics at an enum that is nullable or lies in a record, and at decimals of more than 16 bytes, and cuts an int
    beyond 32 bits; fastavro rounds decimals.

    Each type gets a name of its own, since a name may be defined only once.
    """
    names = count() if names is None else names
    match schema:
        case "string":
            return "bytes"
        case "int":
            return "long"
        case list():
            return [stored(branch, names) for branch in schema]
        case {"type": "record"}:
            fields = [{"name": each["name"], "type": stored(each["type"], names)} for each in schema["fields"]]
            return {"type": "record", "name": f"n{next(names)}", "fields": fields}
        case {"type": "array"}:
            return {"type": "array", "items": stored(schema["items"], names)}
        case {"type": "map"}:
            return {"type": "map", "values": stored(schema["values"], names)}
        case {"type": "fixed", "size": size}:
            return {"type": "fixed", "size": size, "name": f"n{next(names)}"}
        case {"type": "bytes"}:
            return "bytes"
        case {"type": "int" | "long" | "enum"}:
            return "long"
    return schema


def arrow_type(schema: Any) -> pa.DataType:
    """The Arrow type of an expanded schema's values, null aside. Of a map, or a union of several types, one that no
    type of the policy accepts, whose name says what it is."""
    match schema:
        case str():
            return _PRIMITIVES[schema]
        case list():
            kinds = [branch for branch in schema if branch != "null"]
            if len(kinds) == 1:
                return arrow_type(kinds[0])
            return (
                pa.dense_union([pa.field(str(i), arrow_type(kind)) for i, kind in enumerate(kinds)])
                if kinds
                else pa.null()
            )
        case {"type": "record", "fields": fields}:
            return pa.struct([pa.field(each["name"], arrow_type(each["type"])) for each in fields])
        case {"logicalType": "decimal", "precision": precision, "scale": scale}:
            return pa.decimal256(precision, scale)
        case {"type": "fixed", "logicalType": "uuid"}:
            return pa.uuid()
        case {"type": "fixed", "size": size}:
            return pa.binary(size)
        case {"type": "array", "items": items}:
            return pa.list_(arrow_type(items))
        case {"type": "map", "values": values}:
            return pa.map_(pa.string(), arrow_type(values))
        case {"type": "enum"}:
            return pa.string()
        case {"type": base, "logicalType": logical}:
            return _LOGICAL[base, logical]
    raise Unusable("it is no schema")


def is_columnar(schema: Any) -> bool:
    """Whether Polars can read values of an expanded schema: no maps, no bare nulls, no unions but with null."""
    match schema:
        case str():
            return schema != "null"
        case list():
            kinds = [branch for branch in schema if branch != "null"]
            return len(schema) == 2 and len(kinds) == 1 and is_columnar(kinds[0])
        case {"type": "record", "fields": fields}:
            return bool(fields) and all(is_columnar(each["type"]) for each in fields)
        case {"type": "array", "items": items}:
            return is_columnar(items)
        case {"type": "map"}:
            return False
    return True


def at(schema: Any, path: Path) -> Any:
    """The expanded schema of the values at a path of `locate`, null aside."""
    schema = _not_null(schema)
    for name in path:
        schema = _not_null(next(each["type"] for each in schema["fields"] if each["name"] == name))
    return schema


def at_path(record: Any, path: Path) -> Any:
    """The value at a path of a record read as nested dicts; None where one on the way is null."""
    for name in path:
        if record is None:
            return None
        record = record[name]
    return record


def _not_null(schema: Any) -> Any:
    """A union's one branch that isn't null; any other schema as it is."""
    branches = [branch for branch in schema if branch != "null"] if isinstance(schema, list) else []
    return branches[0] if len(branches) == 1 else "null" if isinstance(schema, list) and not branches else schema


def _takes_no_bytes(schema: Any) -> bool:
    match schema:
        case {"type": "record", "fields": fields}:
            return all(_takes_no_bytes(each["type"]) for each in fields)
    return bool(schema == "null")


def _expand(schema: Any, known: dict[str, Any], space: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Unusable("it is nested too deeply, or refers to itself")
    match schema:
        case str() if schema in _PRIMITIVES:
            return schema
        case str():
            full = schema if "." in schema else f"{space}.{schema}" if space else schema
            known_type = known.get(full, known.get(schema))
            if known_type is None:
                raise Unusable("it uses a type that isn't defined before, or refers to itself")
            return known_type
        case []:
            raise Unusable("it has a union of no types")
        case list():
            return [_expand(branch, known, space, depth + 1) for branch in schema]
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _expand(items, known, space, depth + 1)}
        case {"type": "map", "values": values}:
            return {"type": "map", "values": _expand(values, known, space, depth + 1)}
        case {"type": "record" | "error", "name": str(), "fields": list() as fields}:
            name, inner = _named(schema, space)
            made = [
                {"name": str(each["name"]), "type": _expand(each["type"], known, inner, depth + 1)} for each in fields
            ]
            if len({each["name"] for each in made}) != len(made):
                raise Unusable("it has a record with two fields of one name")
            known[name] = {"type": "record", "fields": made}
            return known[name]
        case {"type": "enum", "name": str(), "symbols": list() as symbols} if all(isinstance(s, str) for s in symbols):
            name, _ = _named(schema, space)
            known[name] = {"type": "enum", "symbols": symbols}
            return known[name]
        case {"type": "fixed", "name": str(), "size": int() as size} if size > 0:
            name, _ = _named(schema, space)
            known[name] = {"type": "fixed", "size": size} | _logical_bytes(schema)
            return known[name]
        case {"type": str() as base} if base in _PRIMITIVES:
            logical = schema.get("logicalType")
            if base == "bytes" and (decimal := _logical_bytes(schema)):
                return {"type": "bytes"} | decimal
            return {"type": base, "logicalType": logical} if (base, logical) in _LOGICAL else base
        case {"type": dict() | list() as inner_type}:
            return _expand(inner_type, known, space, depth + 1)
        case {"type": str() as base} if base not in _COMPLEX:
            return _expand(base, known, space, depth + 1)
    raise Unusable("a part of it is no valid schema")


def _nodes(schema: Any) -> Iterator[Any]:
    yield schema
    match schema:
        case list():
            inner = schema
        case {"type": "record", "fields": fields}:
            inner = [each["type"] for each in fields]
        case {"items": items}:
            inner = [items]
        case {"values": values}:
            inner = [values]
        case _:
            inner = []
    for each in inner:
        yield from _nodes(each)


def _named(schema: Mapping[str, Any], space: str) -> tuple[str, str]:
    """A named type's full name, and the namespace of names inside it."""
    name = schema["name"]
    if "." in name:
        return name, name.rpartition(".")[0]
    inner = schema.get("namespace", space)
    return (f"{inner}.{name}" if inner else name), inner


def _logical_bytes(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The logical type of bytes as far as it is known and valid; else, as Avro says, they are bytes.

    Raises:
        Unusable: decimals of more digits than can be read, which are no text either.
    """
    match schema:
        case {"type": "fixed", "logicalType": "uuid", "size": size} if size == _UUID_BYTES:
            return {"logicalType": "uuid"}
        case {"logicalType": "decimal", "precision": int() as digits}:
            scale = schema.get("scale", 0)
            if not isinstance(scale, int) or not 0 <= scale <= digits or digits < 1:
                return {}
            if digits > _MOST_DIGITS:
                raise Unusable(f"it has decimals of more than {_MOST_DIGITS} digits")
            return {"logicalType": "decimal", "precision": digits, "scale": scale}
    return {}
