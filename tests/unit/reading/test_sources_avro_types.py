"""Every type of Avro at every place: the header's check accepts exactly what is then read, as what fastavro reads."""

from __future__ import annotations

import datetime as dt
import io
import json
import uuid
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, get_args

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import RunFailed, UsageError
from dpbeam.pipelines.cli.init import starter
from dpbeam.policy.load import load_policy
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, InputSpec
from dpbeam.reading.casting import to_type
from dpbeam.reading.formats import avro, inspect_file, read_split

UTC = dt.timezone.utc
_CONTEXT = Context(prec=200)
TYPES: tuple[ColumnType, ...] = get_args(ColumnType)


def logical(base: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "logicalType": name, **more}


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "f", "size": size, **more}


NUMBERS = ("int64", "float64")
MOMENTS = [dt.datetime(2024, 5, 1, 12, 0, 0, 123000), dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)]
AWARE = [moment.replace(tzinfo=UTC) for moment in MOMENTS]
DECIMALS = [Decimal("1.25"), Decimal("-3.00"), Decimal("-9999999.99")]
IDS = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")]
ENUM = {"type": "enum", "name": "e", "symbols": ["A", "B", "C"]}
ACCEPTED: dict[str, tuple[Any, list[Any], tuple[str, ...]]] = {
    "boolean": ("boolean", [True, False], ("bool",)),
    "int": ("int", [1, -(2**31), 2**31 - 1], NUMBERS),
    "long": ("long", [2**63 - 1, -(2**63), 0], ("int64",)),
    "float": ("float", [0.5, -1.0], ("float64",)),
    "double": ("double", [0.1, -1e300], ("float64",)),
    "bytes": ("bytes", [b"x", b""], ("string",)),
    "string": ("string", ["a", "é", ""], ("string",)),
    "enum": (ENUM, ["B", "A", "C"], ("string",)),
    "fixed": (fixed(3), [b"abc", b"\xff\x00z"], ("string",)),
    "duration": (fixed(12, logicalType="duration"), [b"0123456789ab", b"\xff" * 12], ("string",)),
    "uuid as text": (logical("string", "uuid"), list(map(str, IDS)), ("string",)),
    "uuid": (fixed(16, logicalType="uuid"), [each.bytes for each in IDS], ("string",)),
    "date": (logical("int", "date"), [dt.date(2020, 2, 29), dt.date.min, dt.date.max], ("date",)),
    "time-millis": (logical("int", "time-millis"), [1, 86_399_999], NUMBERS),
    "time-micros": (logical("long", "time-micros"), [1, 86_399_999_999], ("int64",)),
    "timestamp-millis": (logical("long", "timestamp-millis"), AWARE, ("timestamp",)),
    "timestamp-micros": (logical("long", "timestamp-micros"), AWARE, ("timestamp",)),
    "local-timestamp-millis": (logical("long", "local-timestamp-millis"), MOMENTS, ("timestamp",)),
    "local-timestamp-micros": (logical("long", "local-timestamp-micros"), MOMENTS, ("timestamp",)),
    "timestamp-nanos": (logical("long", "timestamp-nanos"), [1999, -1, 2**63 - 1, -(2**63)], ("timestamp",)),
    "decimal": (logical("bytes", "decimal", precision=9, scale=2), DECIMALS, NUMBERS),
    "decimal of 60 digits": (logical("bytes", "decimal", precision=60, scale=2), DECIMALS, NUMBERS),
    "fixed decimal": (fixed(5, logicalType="decimal", precision=9, scale=2), DECIMALS, NUMBERS),
    "wide fixed decimal": (fixed(40, logicalType="decimal", precision=20, scale=2), DECIMALS, NUMBERS),
    "null": ("null", [None, None], TYPES),
}
REFUSED: dict[str, tuple[Any, list[Any]]] = {
    "array": ({"type": "array", "items": "string"}, [["a"], []]),
    "array of enums": ({"type": "array", "items": ["null", ENUM]}, [["A", None], []]),
    "array of records": (
        {"type": "array", "items": {"type": "record", "name": "q", "fields": [{"name": "e", "type": ENUM}]}},
        [[{"e": "A"}], []],
    ),
    "map": ({"type": "map", "values": ENUM}, [{"a": "A"}, {}]),
    "union": (["int", ENUM], [1, "A"]),
    "union of three": (["null", "int", "string"], [1, None]),
    "record": ({"type": "record", "name": "r", "fields": [{"name": "x", "type": ENUM}]}, [{"x": "A"}, {"x": "B"}]),
    "empty record": ({"type": "record", "name": "r", "fields": []}, [{}, {}]),
}
PLACES = ("top", "nullable", "nullable last", "in a record", "in a null record", "nullable in a null record", "deep")
MAP = {"name": "other", "type": {"type": "map", "values": "long"}}
"""A field that Polars can't read sends the whole file the other way, through fastavro."""


def record(kind: Any, name: str = "rec") -> dict[str, Any]:
    fields = [{"name": "before", "type": "long"}, {"name": "b", "type": kind}, {"name": "after", "type": "string"}]
    return {"type": "record", "name": name, "fields": fields}


def placed(place: str, kind: Any, values: list[Any]) -> tuple[Any, list[Any], tuple[str, ...], list[Any]] | None:
    """The field's type, what is written, the path to the value, what is there; None where Avro has no such type."""

    def inside(value: Any) -> dict[str, Any]:
        return {"before": 1, "b": value, "after": "x"}

    if (isinstance(kind, list) or kind == "null") and ("nullable" in place or place == "deep"):
        return None
    first, *rest = values
    match place:
        case "top":
            return kind, values, ("a",), values
        case "nullable" | "nullable last":
            given = [first, None, *rest]
            return (["null", kind] if place == "nullable" else [kind, "null"]), given, ("a",), given
        case "in a record":
            return record(kind), list(map(inside, values)), ("a", "b"), values
        case "in a null record":
            return ["null", record(kind)], [inside(first), None, *map(inside, rest)], ("a", "b"), [first, None, *rest]
        case "nullable in a null record":
            given = [inside(first), None, inside(None), *map(inside, rest)]
            return [record(["null", kind]), "null"], given, ("a", "b"), [first, None, None, *rest]
    deep = {"type": "record", "name": "top", "fields": [{"name": "c", "type": ["null", record(["null", kind])]}]}
    return deep, [{"c": inside(first)}, {"c": None}], ("a", "c", "b"), [first, None]


def written(kind: Any, values: list[Any], by: str) -> bytes:
    fields = [{"name": "id", "type": "long"}, {"name": "a", "type": kind}, *([MAP] if by == "records" else [])]
    rows = [{"id": i, "a": value, "other": {"k": i}} for i, value in enumerate(values)]
    sink = io.BytesIO()
    fastavro.writer(sink, {"type": "record", "name": "row", "fields": fields}, rows)
    return sink.getvalue()


def read(raw: bytes, *columns: Column) -> list[list[Any]]:
    spec = InputSpec(format="avro", paths=(), columns=columns)
    (split,) = inspect_file(io.BytesIO(raw), spec, "t.avro")
    batches = list(read_split(io.BytesIO(raw), split, spec))
    return [
        [value for batch in batches for value in to_type(batch.column(c.name), c.type).cast(_plain(c.type)).to_pylist()]
        for c in columns
        if c.type != "vector"
    ]


def _plain(kind: Any) -> pa.DataType:
    return {"timestamp": pa.int64(), "date": pa.int32()}.get(
        kind, {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}.get(kind)
    )


def as_type(name: str, value: Any, kind: str) -> Any:
    """What fastavro's value is as a type of the policy, by Python's own means."""
    match value:
        case None:
            return None
        case dt.datetime():
            return (value.replace(tzinfo=UTC) - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1)
        case dt.date():
            return value.toordinal() - dt.date(1970, 1, 1).toordinal()
        case bytes() if name == "uuid":
            return str(uuid.UUID(bytes=value))
        case bytes():
            return value.decode() if name == "bytes" else value.hex()
        case Decimal() if kind == "int64":
            return int(value) if value == value.to_integral_value() else None
        case int() if kind == "timestamp":
            return value // 1000
    return float(value) if kind == "float64" else value


@pytest.mark.parametrize("by", ["columns", "records"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_what_the_header_s_check_accepts_is_read_as_fastavro_reads_it_and_no_more(
    name: str, place: str, by: str
) -> None:
    kind, values, types = ACCEPTED.get(name) or (*REFUSED[name], ())
    made = placed(place, kind, values)
    if made is None:
        return
    field, given, path, expected = made
    raw = written(field, given, by)
    for wanted in TYPES:
        column = Column(name="a", type=wanted, field=path)
        if wanted in types:
            assert read(raw, column) == [[as_type(name, value, wanted) for value in expected]], wanted
        else:
            with pytest.raises(UsageError, match=rf"^t\.avro: column a must be readable as {wanted}, found Avro type "):
                read(raw, column)
    # Beside the needed columns it does no harm.
    assert read(raw, Column(name="id", type="int64")) == [list(range(len(given)))]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_init_lists_the_columns_that_are_read(name: str, place: str, tmp_path: Path) -> None:
    kind, values, types = ACCEPTED.get(name) or (*REFUSED[name], ())
    made = placed(place, kind, values)
    if made is None:
        return
    field, given, path, _ = made
    raw = written(field, given, "columns")
    (tmp_path / "t.avro").write_bytes(raw)
    (tmp_path / "policy.yaml").write_text(starter(tmp_path / "t.avro", folder=tmp_path))
    found = load_policy(tmp_path / "policy.yaml").columns
    assert (".".join(path) in found) == bool(types)
    columns = [Column(name=each, type=rules.type) for each, rules in found.items() if each != "everyone"]
    assert [len(values) for values in read(raw, *columns)] == [len(given)] * len(columns)


def container(schema: Any, count: int, body: bytes) -> bytes:
    """A file as a writer makes it that doesn't look at what it writes."""
    text = json.dumps(schema).encode()
    head = avro._varint(1) + avro._varint(11) + b"avro.schema" + avro._varint(len(text)) + text + avro._varint(0)
    return b"Obj\x01" + head + b"s" * 16 + avro._varint(count) + avro._varint(len(body)) + body + b"s" * 16


def row_of(*types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "row", "fields": [{"name": "ab"[i], "type": t} for i, t in enumerate(types)]}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (row_of("null"), "its records take no bytes"),
        (row_of(record("null") | {"fields": [{"name": "b", "type": "null"}]}), "its records take no bytes"),
        (row_of("long", {"type": "array", "items": "null"}), "it has an array of values that take no bytes"),
        (row_of("long", []), "it has a union of no types"),
        (row_of("long", {"type": "enum", "symbols": ["A"]}), "a part of it is no valid schema"),
        (row_of("long", {"type": "enum", "name": "e", "symbols": [1]}), "a part of it is no valid schema"),
        (row_of("long", fixed(0)), "a part of it is no valid schema"),
        (row_of("long", {"type": "array"}), "a part of it is no valid schema"),
        (row_of("long", {}), "a part of it is no valid schema"),
        (row_of("long", "row"), "it uses a type that isn't defined before, or refers to itself"),
        (row_of("long", logical("bytes", "decimal", precision=77)), "it has decimals of more than 76 digits"),
        (
            row_of("long") | {"fields": [{"name": "a", "type": "long"}] * 2},
            "it has a record with two fields of one name",
        ),
    ],
)
def test_a_schema_that_no_record_can_be_read_by_is_refused_by_its_kind(schema: Any, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(container(schema, 3, b"\x02" * 3), Column(name="a", type="int64"))
    assert str(caught.value) == (
        f"t.avro: the schema of this Avro file can't be read: {reason}. Write it with another one."
    )


@pytest.mark.parametrize("by", ["columns", "records"])
@pytest.mark.parametrize(
    ("kind", "stored"),
    [(ENUM, avro._varint(3)), (ENUM, b"\x01"), ("int", avro._varint(2**31)),
     (logical("int", "date"), avro._varint(2**40)),
     (logical("bytes", "decimal", precision=9), avro._varint(33) + b"\x01" + b"\x00" * 32)],
    ids=["enum beyond its symbols", "enum before its symbols", "int of 33 bits", "day beyond 32 bits", "decimal"],
)  # fmt: skip
def test_a_value_that_the_schema_does_not_have_is_damage_and_no_other_value(kind: Any, stored: bytes, by: str) -> None:
    others = [{"type": "map", "values": "long"}] if by == "records" else ["long"]
    types = {"string": "string", "int": "int64"}
    wanted: Any = "date" if "date" in str(kind) else types.get("string" if "enum" in str(kind) else "int")
    for nullable, lead in ((kind, b""), (["null", kind], b"\x02")):
        raw = container(row_of(nullable, *others), 1, lead + stored + b"\x00")
        with pytest.raises(RunFailed, match=r"^t\.avro could not be read to its end"):
            read(raw, Column(name="a", type=wanted))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 76), st.booleans())
def test_decimals_of_any_length_in_bytes_are_the_same_numbers(data: Any, digits: int, is_nullable: bool) -> None:
    scale = data.draw(st.integers(0, digits))
    most = 10**digits - 1
    numbers = data.draw(st.lists(st.none() | st.integers(-most, most) if is_nullable else st.integers(-most, most)))
    kind = logical("bytes", "decimal", precision=digits, scale=scale)
    body = b""
    for number in numbers:
        least = 0 if number is None else (number if number >= 0 else ~number).bit_length() // 8 + 1
        size = least + data.draw(st.integers(0, 40))
        body += b"\x00" if number is None else b"\x02" * is_nullable
        body += b"" if number is None else avro._varint(size) + number.to_bytes(size, "big", signed=True)
    raw = container(row_of(["null", kind] if is_nullable else kind), len(numbers), body)
    spec = InputSpec(format="avro", paths=(), columns=(Column(name="a", type="float64"),))
    (split,) = inspect_file(io.BytesIO(raw), spec, "t.avro")
    found = [value for batch in read_split(io.BytesIO(raw), split, spec) for value in batch.column("a").to_pylist()]
    exact = [None if number is None else Decimal(number).scaleb(-scale, _CONTEXT) for number in numbers]
    assert found == exact


def test_lists_of_decimals_and_blocks_that_state_their_size_are_vectors() -> None:
    numbers = [[Decimal("1.25"), None], [], None, [Decimal("-3.00")]]
    kind = ["null", {"type": "array", "items": ["null", logical("bytes", "decimal", precision=9, scale=2)]}]
    for by in ("columns", "records"):
        raw = written(kind, numbers, by)
        spec = InputSpec(format="avro", paths=(), columns=(Column(name="a", type="vector", length=1),))
        (split,) = inspect_file(io.BytesIO(raw), spec, "t.avro")
        (batch,) = read_split(io.BytesIO(raw), split, spec)
        assert batch.column("a").to_pylist() == numbers
    # Two items in a block with its size, one in a block without.
    body = b"\x03" + avro._varint(2) + avro._varint(5) + avro._varint(6) + avro._varint(1) + avro._varint(7) + b"\x00"
    raw = container(row_of({"type": "array", "items": "long"}, "long"), 1, body + avro._varint(9))
    assert read(raw, Column(name="b", type="int64")) == [[9]]
