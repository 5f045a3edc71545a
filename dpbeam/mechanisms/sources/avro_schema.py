"""An Avro schema in; the Arrow types of its fields, and the same schema as a reader can take it, out.

https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pyarrow as pa

from dpbeam.mechanisms.sources.fields import Path

_PRIMITIVES: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "fixed": pa.binary(),
}
_LOGICAL: dict[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    **{
        ("long", f"{kind}timestamp-{name}"): pa.timestamp(unit)
        for kind in ("", "local-")
        for name, unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
    },
}
_NO_TYPE = pa.dense_union([])
"""Stands for what no type of the policy holds: maps, unions of several types."""
_MOST_DIGITS = 38
_DEEPEST = 64
_MOST_NODES = 20_000


class Unusable(ValueError):
    """The schema isn't valid, refers to itself, or is nested too deeply."""


def expanded(schema: Any) -> Any:
    """The schema with each named type written out where it is used, and only what decides how values are read: of the
    logical types those that dpbeam knows.

    Raises:
        Unusable: see there.
    """
    made = _expand(schema, {}, "", 0)
    for size, _ in enumerate(_nodes(made)):
        if size > _MOST_NODES:
            raise Unusable("too large when its names are written out")
    return made


def stored(schema: Any, names: Iterator[int] | None = None) -> Any:
    """An expanded schema for a reader: the bytes are read the same, but text as bytes and dates and times as numbers.

    Each type gets a name of its own, since a name may be defined only once.
    """
    names = count() if names is None else names
    match schema:
        case "string":
            return "bytes"
        case list():
            return [stored(branch, names) for branch in schema]
        case {"type": "record"}:
            fields = [{"name": each["name"], "type": stored(each["type"], names)} for each in schema["fields"]]
            return {"type": "record", "name": f"n{next(names)}", "fields": fields}
        case {"type": "array"}:
            return {"type": "array", "items": stored(schema["items"], names)}
        case {"type": "map"}:
            return {"type": "map", "values": stored(schema["values"], names)}
        case {"type": "enum" | "fixed"}:
            return schema | {"name": f"n{next(names)}"}
        case {"type": ("int" | "long") as kind}:
            return kind
    return schema


def arrow_type(schema: Any) -> pa.DataType:
    """The Arrow type of an expanded schema's values, null aside."""
    match schema:
        case str():
            return _PRIMITIVES[schema]
        case list():
            kinds = [branch for branch in schema if branch != "null"]
            return arrow_type(kinds[0]) if len(kinds) == 1 else _NO_TYPE if kinds else pa.null()
        case {"type": "record", "fields": fields}:
            return pa.struct([pa.field(each["name"], arrow_type(each["type"])) for each in fields])
        case {"type": str() as base, "logicalType": "decimal", "precision": precision} if base in ("bytes", "fixed"):
            return pa.decimal128(precision, schema.get("scale", 0))
        case {"type": "array", "items": items}:
            return pa.list_(arrow_type(items))
        case {"type": str() as base} if base in _PRIMITIVES:
            return _LOGICAL.get((base, schema.get("logicalType", "")), _PRIMITIVES[base])
    return _NO_TYPE


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


def at_path(record: Any, path: Path) -> Any:
    """The value at a path of a record read as nested dicts; None where one on the way is null."""
    for name in path:
        if record is None:
            return None
        record = record[name]
    return record


def _expand(schema: Any, known: dict[str, Any], space: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Unusable("too deep, or refers to itself")
    match schema:
        case str() if schema in _PRIMITIVES and schema not in ("enum", "fixed"):
            return schema
        case str():
            full = schema if "." in schema else f"{space}.{schema}" if space else schema
            found = known.get(full, known.get(schema))
            if found is None:
                raise Unusable("names a type that isn't defined before it")
            return found
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
            known[name] = {"type": "record", "fields": made}
            return known[name]
        case {"type": "enum", "name": str(), "symbols": list() as symbols}:
            name, _ = _named(schema, space)
            known[name] = {"type": "enum", "symbols": symbols}
            return known[name]
        case {"type": "fixed", "name": str(), "size": int() as size} if size > 0:
            name, _ = _named(schema, space)
            known[name] = {"type": "fixed", "size": size} | _decimal(schema)
            return known[name]
        case {"type": str() as base} if base in _PRIMITIVES:
            logical = schema.get("logicalType")
            if base == "bytes":
                return {"type": "bytes"} | _decimal(schema)
            return {"type": base, "logicalType": logical} if (base, logical) in _LOGICAL else base
        case {"type": inner_type}:
            return _expand(inner_type, known, space, depth + 1)
    raise Unusable("is not a schema")


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


def _decimal(schema: Mapping[str, Any]) -> dict[str, Any]:
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if schema.get("logicalType") != "decimal" or not isinstance(precision, int) or not isinstance(scale, int):
        return {}
    if not (1 <= precision <= _MOST_DIGITS and 0 <= scale <= precision):
        return {}
    return {"logicalType": "decimal", "precision": precision, "scale": scale}
