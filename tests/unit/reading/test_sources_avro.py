"""Avro containers: schemas of every kind, which raw rows come out, and that damage never passes for data."""

from __future__ import annotations

import bz2
import contextlib
import datetime as dt
import io
import json
import lzma
import zlib
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import DataError, RunFailed, UsageError
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading.formats import Split, avro, avro_schema, inspect_file, read_split
from dpbeam.reading.rows import prepare

NESTED = {"type": "record", "name": "place", "fields": [{"name": "city", "type": ["null", "string"]}]}


def keep(value: Any) -> Rule:
    return Rule(action="replace", value=value)


def field(kind: Any, name: str = "a") -> dict[str, Any]:
    return {"name": name, "type": kind}


def written(fields: list[dict[str, Any]], rows: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, {"type": "record", "name": "row", "fields": fields}, rows, **options)
    return sink.getvalue()


def spec(*columns: Column) -> InputSpec:
    return InputSpec(format="avro", paths=(), columns=columns)


def read(raw: bytes, *columns: Column) -> list[tuple[Any, ...]]:
    wanted = spec(*columns)
    file = io.BytesIO(raw)
    (split,) = inspect_file(file, wanted, "t.avro")
    batches = [prepare(batch, wanted) for batch in read_split(file, split, wanted)]
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


UTC = dt.timezone.utc
NOON = dt.datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "given", "type", "expected"),
    [
        ("string", "é", "string", "é"),
        (["null", "string"], None, "string", "none"),
        (["string", "null"], "x", "string", "x"),
        ("bytes", b"x", "string", "x"),
        ("bytes", b"\xff", "string", "?"),
        ("int", -5, "int64", -5),
        ("long", 2**63 - 1, "int64", 2**63 - 1),
        ("int", 5, "float64", 5.0),
        ("float", 0.5, "float64", 0.5),
        ("double", 0.1, "float64", 0.1),
        ("boolean", True, "bool", True),
        ({"type": "enum", "name": "e", "symbols": ["X", "Y"]}, "Y", "string", "Y"),
        ({"type": "fixed", "name": "f", "size": 2}, b"a\xff", "string", "61ff"),
        ({"type": "int", "logicalType": "date"}, dt.date(1969, 12, 31), "date", dt.date(1969, 12, 31)),
        ({"type": "long", "logicalType": "timestamp-millis"}, NOON, "timestamp", NOON.replace(tzinfo=None)),
        ({"type": "long", "logicalType": "timestamp-micros"}, NOON, "timestamp", NOON.replace(tzinfo=None)),
        (["null", {"type": "long", "logicalType": "local-timestamp-micros"}], NOON.replace(tzinfo=None), "timestamp",
         NOON.replace(tzinfo=None)),
        ({"type": "long", "logicalType": "time-micros"}, dt.time(0, 0, 1), "int64", 1_000_000),
        ({"type": "string", "logicalType": "uuid"}, "x", "string", "x"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}, Decimal("-0.10"), "float64", -0.1),
        ({"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}, Decimal("7.00"), "int64", 7),
        ({"type": "fixed", "name": "f", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 1},
         Decimal("-12.5"), "float64", -12.5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["columns", "records"])
def test_a_value_of_each_type_is_read(by: str, kind: Any, given: Any, type: Any, expected: Any) -> None:
    words = {"string": ("?", "none")}.get(type, (None, None))
    column = Column(name="a", type=type, on_invalid=keep(words[0]), on_null=keep(words[1]))
    # A field that Polars can't read sends the whole file the other way.
    others = [] if by == "columns" else [field({"type": "map", "values": "long"}, "other")]
    raw = written([field(kind), *others], [{"a": given, "other": {"k": 1}}])
    assert avro_schema.is_columnar(avro._header(io.BytesIO(raw)).schema) == (by == "columns")
    assert read(raw, column) == [(expected,)]


@pytest.mark.parametrize(
    "other",
    [
        ["null", "string", "long"],
        {"type": "map", "values": NESTED},
        "null",
        {"type": "array", "items": ["long", "string"]},
    ],
)
def test_fields_that_polars_can_not_read_do_no_harm_beside_the_needed_ones(other: Any) -> None:
    given = {"null": None}.get(str(other), {} if "map" in str(other) else [] if "array" in str(other) else None)
    raw = written([field("long"), field(other, "other")], [{"a": i, "other": given} for i in range(3)])
    assert read(raw, Column(name="a", type="int64")) == [(0,), (1,), (2,)]


def test_a_path_leads_into_records_also_of_a_type_named_before() -> None:
    fields = [field(NESTED, "home"), field(["null", "place"], "work")]
    raw = written(fields, [{"home": {"city": "x"}, "work": None}, {"home": {"city": None}, "work": {"city": "y"}}])
    columns = [Column(name=f"{n}.city", type="string", on_null=keep("none")) for n in ("home", "work")]
    assert read(raw, *columns) == [("x", "none"), ("none", "y")]


def test_deflated_blocks_as_python_s_writers_leave_them_are_read() -> None:
    """fastavro cuts zlib's wrapper off but for three bytes of its checksum."""
    rows = [{"a": f"value {i}"} for i in range(500)]
    raw = written([field("string")], rows, sync_interval=900, codec="deflate")
    assert read(raw, Column(name="a", type="string")) == [(row["a"],) for row in rows]


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz", "snappy", "zstandard"])
def test_every_codec_is_read(codec: str) -> None:
    rows = [{"a": f"value {i}"} for i in range(2000)]
    raw = recoded(written([field("string")], rows, sync_interval=4000), codec)
    assert read(raw, Column(name="a", type="string")) == [(row["a"],) for row in rows]


def recoded(raw: bytes, codec: str) -> bytes:
    """A plain file with its blocks packed by `codec`, as the specification says."""

    def packed(data: bytes) -> bytes:
        match codec:
            case "deflate":
                packing = zlib.compressobj(wbits=-15)
                return packing.compress(data) + packing.flush()
            case "bzip2":
                return bz2.compress(data)
            case "xz":
                return lzma.compress(data)
            case "snappy":
                return pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big")
        return pa.Codec("zstd").compress(data, asbytes=True)

    header = avro._header(io.BytesIO(raw))
    file = io.BytesIO(raw)
    file.seek(header.end)
    made = raw[: header.end].replace(
        b"\x14avro.codec\x08null", b"\x14avro.codec" + avro._varint(len(codec)) + codec.encode()
    )
    while first := file.read(1):
        count, length = avro._long(file, first), avro._long(file)
        data = packed(file.read(length))
        made += avro._varint(count) + avro._varint(len(data)) + data + file.read(16)
    return made


def test_no_codec_is_guessed() -> None:
    raw = written([field("string")], []).replace(b"\x08null", b"\x08lzo1")
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), spec(Column(name="a", type="string")), "t.avro")
    assert str(caught.value) == (
        "t.avro is packed by another codec than null, deflate, snappy, bzip2, xz, zstandard. Write it with one of "
        "those."
    )


@pytest.mark.parametrize(
    ("fields", "column", "said"),
    [
        ([field("long")], Column(name="b", type="int64"), "t.avro has no column b. Its columns: a."),
        (
            [field("double")],
            Column(name="a", type="int64"),
            "t.avro: column a must be readable as int64, found Avro type double. Declare type: float64, or convert the "
            "column in the source.",
        ),
        (
            [field(["long", "string"])],
            Column(name="a", type="int64"),
            "t.avro: column a must be readable as int64, found Avro type dense_union<0: int64=0, 1: "
            "string=1>. No type of the policy holds it exactly: "
            "convert the column in the source.",
        ),
        (
            [field(NESTED)],
            Column(name="c", type="string", field="a.town"),
            "t.avro has no field a.town (column c). Fields of a: city.",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_refused_by_the_header(fields: Any, column: Column, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(written(fields, [])), spec(column), "t.avro")
    assert str(caught.value) == said


@pytest.mark.parametrize("raw", [b"", b"Obj\x01", b"a,b\n1,2\n", b"Obj\x01\x02\x16avro.schema\x04{[\x00" + b"s" * 16])
def test_what_is_no_container_is_refused(raw: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), spec(Column(name="a", type="string")), "t.avro")
    assert str(caught.value).startswith("t.avro is not an Avro container file: its header can't be read.")


def test_a_schema_that_grows_when_its_names_are_written_out_is_refused() -> None:
    """Each record holds the one before twice: 2**40 fields."""
    fields = [field({"type": "record", "name": "r0", "fields": [field("long")]})]
    for i in range(40):
        inner = [field(f"r{i}", "a"), field(f"r{i}", "b")]
        fields.append(field({"type": "record", "name": f"r{i + 1}", "fields": inner}, f"f{i}"))
    with pytest.raises(avro_schema.Unusable):
        avro_schema.expanded({"type": "record", "name": "row", "fields": fields})


def test_a_schema_that_refers_to_itself_is_refused() -> None:
    tree = {"type": "record", "name": "t", "fields": [field(["null", "t"])]}
    with pytest.raises(avro_schema.Unusable):
        avro_schema.expanded(tree)


ROWS = [{"a": f"v{i}", "n": i} for i in range(500)]
PLAIN = written([field("string"), field("long", "n")], ROWS, sync_interval=500)
COLUMNS = (Column(name="a", type="string"), Column(name="n", type="int64"))


def test_a_file_without_rows_is_valid_and_empty() -> None:
    assert read(written([field("string"), field("long", "n")], []), *COLUMNS) == []


@pytest.mark.parametrize("cut", [1, 17, 40, 300])
def test_a_file_cut_short_fails_the_run(cut: int) -> None:
    with pytest.raises(RunFailed) as caught:
        read(PLAIN[:-cut], *COLUMNS)
    assert str(caught.value) == (
        "t.avro could not be read to its end: a part of it is damaged or missing. Write the file again."
    )


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_file_gives_rows_or_the_one_error_and_never_hangs_or_dies(data: st.DataObject) -> None:
    raw = bytearray(PLAIN)
    start = avro._header(io.BytesIO(PLAIN)).end
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(start, len(raw) - 1))] = data.draw(st.integers(0, 255))
    # Avro has no checksum here: a byte inside a value, or a count, may pass as another.
    with contextlib.suppress(RunFailed):
        read(bytes(raw), *COLUMNS)


def test_a_block_that_says_too_many_records_fails_the_run() -> None:
    raw = written([field("long")], [{"a": 1}])
    end = avro._header(io.BytesIO(raw)).end
    lying = raw[:end] + avro._varint(2**40) + raw[end + 1 :]
    with pytest.raises(RunFailed):
        read(lying, Column(name="a", type="int64"))


def test_text_that_is_not_utf8_is_one_row_s_matter() -> None:
    raw = written([field("string")], [{"a": "one"}, {"a": "bad"}, {"a": "two"}]).replace(b"bad", b"b\xffd")
    assert read(raw, Column(name="a", type="string")) == [("one",), ("two",)]
    with pytest.raises(DataError):
        read(raw, Column(name="a", type="string", on_invalid=Rule(action="fail")))


texts = st.none() | st.text(max_size=5)
rows = st.lists(st.tuples(texts, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), max_size=20)


@settings(deadline=None, max_examples=60)
@given(rows, st.sampled_from([10, 100, 16000]), st.booleans())
def test_rows_of_any_kind_come_back_whatever_the_blocks(rows: Any, interval: int, by_records: bool) -> None:
    fields = [field(["null", "string"], "s"), field("long", "n"), field("double", "x")]
    fields += [field({"type": "map", "values": "int"}, "other")] * by_records
    raw = written(fields, [{"s": s, "n": n, "x": x, "other": {}} for s, n, x in rows], sync_interval=interval)
    columns = (
        Column(name="s", type="string", on_null=keep("\x00none")),
        Column(name="n", type="int64"),
        Column(name="x", type="float64", on_inf=keep(0.0)),
    )
    wanted = [("\x00none" if s is None else s, n, 0.0 if abs(x) == float("inf") else x) for s, n, x in rows]
    assert read(raw, *columns) == wanted


def test_the_schema_is_read_back_as_the_spec_writes_it() -> None:
    made = json.dumps(avro_schema.stored(avro_schema.expanded(json.loads(json.dumps(NESTED)))))
    assert made == '{"type": "record", "name": "n0", "fields": [{"name": "city", "type": ["null", "bytes"]}]}'
    assert Split("t") == Split("t", size=5)
