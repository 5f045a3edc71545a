"""Every type of Parquet at every place: the footer's check accepts exactly what is then read, as what was written."""

from __future__ import annotations

import ast
import datetime as dt
import io
import uuid
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.init import starter
from dpbeam.policy.load import load_policy
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, Condition, InputSpec, Rule, Truncate
from dpbeam.reading.formats import Split, inspect_file, read_split
from dpbeam.reading.rows import prepare

ROOT = Path(__file__).parents[3]
TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
NUMBERS = ("int64", "float64")
IDS = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")]
DAYS = [dt.date(2024, 2, 29), dt.date.min, dt.date.max]
MOMENTS = [dt.datetime(2024, 5, 1, 13, 0, 0, 123000), dt.datetime.min, dt.datetime(9999, 12, 31, 23)]
IN_NS = [dt.datetime(1700, 1, 1), dt.datetime(2262, 1, 1)]
DECIMALS = [Decimal("1.25"), Decimal("-3.00"), Decimal("99.99")]

ACCEPTED: dict[str, tuple[pa.DataType, list[Any], tuple[str, ...]]] = {
    **{str(kind): (kind, ["a", "é", ""], ("string",)) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{str(kind): (kind, [b"a", b""], ("string",)) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    "fixed": (pa.binary(3), [b"abc", b"\xff\x00z"], ("string",)),
    "uuid": (pa.uuid(), [each.bytes for each in IDS], ("string",)),
    "json": (pa.json_(), ['{"a": 1}', "[]"], ("string",)),
    "bool": (pa.bool_(), [True, False], ("bool",)),
    **{
        str(kind): (kind, [1, 0, 100], NUMBERS) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint32())
    },
    "int64": (pa.int64(), [2**63 - 1, -(2**63)], ("int64",)),
    "uint64": (pa.uint64(), [2**63 - 1, 2**64 - 1], ("int64",)),
    "float16": (pa.float16(), [np.float16(0.5)], ("float64",)),
    "float32": (pa.float32(), [0.5, -1.0], ("float64",)),
    "float64": (pa.float64(), [0.1, -1e308], ("float64",)),
    **{
        str(kind): (kind, DECIMALS, NUMBERS)
        for kind in (pa.decimal32(4, 2), pa.decimal64(15, 2), pa.decimal128(38, 2), pa.decimal256(76, 2))
    },
    "date32": (pa.date32(), DAYS, ("date",)),
    "date64": (pa.date64(), DAYS, ("date",)),
    **{
        f"timestamp {unit} {zone}": (pa.timestamp(unit, zone), IN_NS if unit == "ns" else MOMENTS, ("timestamp",))
        for unit in ("ms", "us", "ns")
        for zone in (None, "UTC", "Asia/Tokyo")
    },
    "null": (pa.null(), [None, None], TYPES),
}
REFUSED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "time32": (pa.time32("ms"), [dt.time(1)]),
    "time64": (pa.time64("us"), [dt.time(1)]),
    "duration": (pa.duration("us"), [dt.timedelta(1)]),
    "list": (pa.list_(pa.string()), [["a"], []]),
    "map": (pa.map_(pa.string(), pa.int64()), [[("a", 1)]]),
    "struct": (pa.struct([("x", pa.int64())]), [{"x": 1}]),
}
PLACES = ("top", "in a struct", "dictionary")


def column_of(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """The values with a missing one in the middle."""
    values = [values[0], None, *values[1:]]
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.array(values, pa.timestamp(kind.unit)).cast(pa.int64()).cast(kind)
    return pa.array(values, kind)


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def raw_batches(raw: bytes, *columns: Column) -> list[pa.RecordBatch]:
    spec = InputSpec(format="parquet", paths=(), columns=columns)
    splits = inspect_file(io.BytesIO(raw), spec, "t")
    return [batch for split in splits for batch in read_split(io.BytesIO(raw), split, spec)]


def read(raw: bytes, *columns: Column, batch_rows: int = 2, **more: Any) -> list[tuple[Any, ...]]:
    spec = InputSpec(format="parquet", paths=(), columns=columns, **more)
    splits = inspect_file(io.BytesIO(raw), spec, "t")
    batches = [b for split in splits for b in read_split(io.BytesIO(raw), split, spec, batch_rows=batch_rows)]
    return [tuple(row.values()) for batch in batches for row in prepare(batch, spec).to_pylist()]


def as_type(name: str, value: Any, kind: str) -> Any:
    """What was written is as a type of the policy, by Python's own means; None where it is no value of it."""
    match value:
        case None:
            return None
        case bytes() if name == "uuid":
            return str(uuid.UUID(bytes=value))
        case bytes():
            return value.hex() if name == "fixed" else value.decode()
        case Decimal() if kind == "int64":
            return int(value) if value == value.to_integral_value() else None
        case int() if kind == "int64":
            return value if value < 2**63 else None
    return float(value) if kind == "float64" else value


STAND_IN: dict[Any, Any] = {"string": "?", "int64": -7, "float64": -7.0, "bool": False, "date": "1999-01-01",
                            "timestamp": "1999-01-01"}  # fmt: skip
STANDS: dict[Any, Any] = STAND_IN | {"date": dt.date(1999, 1, 1), "timestamp": dt.datetime(1999, 1, 1)}


@pytest.mark.parametrize("is_schema_stored", [True, False])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_what_the_footer_s_check_accepts_is_read_as_it_was_written_and_no_more(
    name: str, place: str, is_schema_stored: bool
) -> None:
    kind, values, types = ACCEPTED.get(name) or (*REFUSED[name], ())
    made = column_of(kind, values)
    if place == "dictionary":
        try:
            made = made.dictionary_encode()
        except pa.ArrowNotImplementedError:
            return
    path = ("a",)
    if place == "in a struct":
        made, path = pa.StructArray.from_arrays([made], ["b"]), ("a", "b")
    try:
        raw = written(pa.table({"a": made}), store_schema=is_schema_stored)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return  # Parquet has no such type
    given = [values[0], None, *values[1:]]
    for wanted in TYPES:
        if wanted == "vector":
            continue
        stand_in = Rule(action="replace", value=STAND_IN[wanted])
        column = Column(name="a", type=wanted, field=path, on_null=stand_in, on_invalid=stand_in)
        if wanted in types:
            found = [as_type(name, value, wanted) for value in given]
            assert read(raw, column) == [(STANDS[wanted] if value is None else value,) for value in found], wanted
        elif name == "duration" and (place == "dictionary" or not is_schema_stored):
            pass  # for Parquet it is a number: what it was is Arrow's to say
        else:
            with pytest.raises(UsageError, match=rf"^t: column a must be readable as {wanted}, found Parquet type "):
                read(raw, column)


def test_parquet_s_own_uuid_and_json_are_told_without_arrow_s_types() -> None:
    table = pa.table({"u": column_of(*ACCEPTED["uuid"][:2]), "j": column_of(pa.json_(), ["[]", "{}", "1"])})
    raw = written(table, store_schema=False)
    columns = [Column(name="u", type="string"), Column(name="j", type="string")]
    assert read(raw, *columns) == [(str(each), text) for each, text in zip(IDS, ["[]", "{}", "1"], strict=True)]


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_init_lists_the_columns_that_are_read(name: str, tmp_path: Path) -> None:
    kind, values, types = ACCEPTED.get(name) or (*REFUSED[name], ())
    made = column_of(kind, values)
    raw = written(pa.table({"a": made, "at": pa.StructArray.from_arrays([made], ["b"])}))
    (tmp_path / "t.parquet").write_bytes(raw)
    (tmp_path / "policy.yaml").write_text(starter(tmp_path / "t.parquet", folder=tmp_path))
    found = load_policy(tmp_path / "policy.yaml").columns
    assert ("a" in found, "at.b" in found) == (bool(types), bool(types))
    columns = [Column(name=each, type=rules.type) for each, rules in found.items() if each != "everyone"]
    if columns:
        assert sum(batch.num_rows for batch in raw_batches(raw, *columns)) == len(made)


def test_ids_of_a_fixed_length_tell_units_apart_whatever_their_bytes() -> None:
    """As a privacy unit and as a key: no id is dropped, and no two fall together."""
    ids = [bytes([i, j]) for i in range(256) for j in range(0, 256, 51)]
    raw = written(pa.table({"a": pa.array(ids, pa.binary(2))}))
    found = [value for (value,) in read(raw, Column(name="a", type="string", on_invalid=Rule(action="fail")))]
    assert found == [each.hex() for each in ids]
    assert len(set(found)) == len(ids)


# --- INT96 ----------------------------------------------------------------------------------------------------------

_JULIAN_EPOCH = 2_440_588


def int96(days: list[int], nanoseconds: list[int], **options: Any) -> bytes:
    """A file of INT96 with these Julian days and nanoseconds of them, as no writer of ours makes them."""
    places = [dt.datetime(2000, 1, 1) + dt.timedelta(days=i) for i in range(len(days))]
    table = pa.table({"id": range(len(days)), "t": pa.array(places, pa.timestamp("us"))})
    raw = written(table, use_deprecated_int96_timestamps=True, compression="none", use_dictionary=False, **options)
    for place, day, nanos in zip(places, days, nanoseconds, strict=True):
        ours = (place - dt.datetime(1970, 1, 1)).days + _JULIAN_EPOCH
        before = (0).to_bytes(8, "little") + ours.to_bytes(4, "little")
        at = raw.index(before)
        raw = raw[:at] + nanos.to_bytes(8, "little") + day.to_bytes(4, "little") + raw[at + 12 :]
    return raw


OLD = Column(name="t", type="timestamp", on_invalid=Rule(action="replace", value="1999-01-01"))
NOT = dt.datetime(1999, 1, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 86_399_999_999_999)),
    st.tuples(st.integers(1_721_424, 5_373_486), st.integers(0, 86_399_999_999_999)),
    # Days that wrap round to another century in nanoseconds, and in microseconds.
    st.tuples(st.integers(0, 20).map(lambda i: _JULIAN_EPOCH + i * 213_503_982), st.just(1)),
), min_size=1, max_size=12), st.integers(1, 5), st.booleans())  # fmt: skip
def test_a_moment_of_int96_is_that_moment_or_no_value(moments: Any, batch_rows: int, is_schema_stored: bool) -> None:
    raw = int96(
        [day for day, _ in moments],
        [nanos for _, nanos in moments],
        row_group_size=5,
        store_schema=is_schema_stored,
        write_statistics=False,
    )
    expected = []
    for number, (day, nanos) in enumerate(moments):
        days = day - _JULIAN_EPOCH + dt.date(1970, 1, 1).toordinal()
        inside = 1 <= days <= dt.date.max.toordinal()
        start = dt.datetime.fromordinal(days) if inside else NOT
        if day == 0:  # pyarrow takes day 0, in 4713 BC, for a missing value's and reads it as 1970 (docs/input.md)
            inside, start, nanos = True, dt.datetime(1970, 1, 1), 0
        expected.append((number, start + dt.timedelta(microseconds=nanos // 1000) if inside else NOT))
    assert read(raw, Column(name="id", type="int64"), OLD, batch_rows=batch_rows) == expected


def test_conditions_and_derived_columns_follow_the_moment_of_int96() -> None:
    moments = [dt.datetime(9999, 12, 31), dt.datetime(1000, 1, 1), None, dt.datetime(2024, 5, 1, 13)]
    raw = written(pa.table({"t": pa.array(moments, pa.timestamp("us"))}), use_deprecated_int96_timestamps=True)
    years = (Truncate(name="y", column="t", unit="year"),)
    column = Column(name="t", type="timestamp")
    assert [year for _, year in read(raw, column, derived=years)] == ["9999", "1000", "2024"]
    late = (Condition(column="t", op=">", value="2024-05-01"),)
    assert read(raw, column, where=late) == [(moments[0],), (moments[3],)]


def test_int96_inside_a_struct_and_two_columns_of_one_leaf_are_the_same_moment() -> None:
    far = pa.array([dt.datetime(9999, 12, 31), None], pa.timestamp("us"))
    table = pa.table({"at": pa.StructArray.from_arrays([far, far], ["t", "u"]), "n": [1, 2]})
    raw = written(table, use_deprecated_int96_timestamps=True)
    stand_in = Rule(action="replace", value="1999-01-01")
    columns = [Column(name=n, type="timestamp", field=("at", "t"), on_null=stand_in) for n in ("x", "y")]
    assert read(raw, *columns) == [(dt.datetime(9999, 12, 31),) * 2, (NOT, NOT)]


def test_parquet_is_opened_in_one_place() -> None:
    """Every other call to pyarrow reads what dpbeam wrote itself."""
    own_files = {
        "transforms/wire/staging.py",
        "dpbeam/beam/read.py",
        "pipelines/library/releases.py",
        "pipelines/lifecycle/report_facts.py",
        "dpbeam/reporting/certify.py",
    }
    places = set()
    for path in (p for room in ("dpbeam", "transforms", "pipelines") for p in (ROOT / room).rglob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.attr for call in calls if isinstance(call, ast.Attribute)}
        if names & {"ParquetFile", "read_schema", "read_table", "ParquetDataset", "read_parquet"}:
            places.add(path.relative_to(ROOT).as_posix())
    assert places - own_files == {"dpbeam/reading/formats/parquet_file.py"}


# --- No row groups --------------------------------------------------------------------------------------------------


def without_row_groups(schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    pq.ParquetWriter(sink, schema).close()
    return sink.getvalue()


def test_a_file_without_row_groups_is_a_split_without_rows() -> None:
    raw = without_row_groups(pa.schema({"a": pa.int64()}))
    spec = InputSpec(format="parquet", paths=(), columns=(Column(name="a", type="int64"),))
    assert inspect_file(io.BytesIO(raw), spec, "t") == [Split("t")]
    assert read(raw, Column(name="a", type="int64")) == []
    with pytest.raises(UsageError, match=r"^t has no column b\."):
        read(raw, Column(name="b", type="int64"))


# --- Decimals -------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([1, 18, 38, 75, 76, 76]))
def test_a_decimal_of_any_precision_is_the_same_whole_number_or_none(data: Any, digits: int) -> None:
    scale = data.draw(st.integers(0, digits))
    most = 10**digits - 1
    near = st.integers(0, 10).map(lambda i: most - i)
    unscaled = st.one_of(st.integers(-most, most), near, near.map(lambda n: -n), st.integers(-9, 9).map(
        lambda n: n * 10**scale if abs(n) * 10**scale <= most else 0))  # fmt: skip
    numbers = [Decimal(n).scaleb(-scale, Context(prec=200)) for n in data.draw(st.lists(unscaled, max_size=6))]
    raw = written(pa.table({"a": pa.array(numbers, pa.decimal256(digits, scale))}))
    wrong = Rule(action="replace", value=-7)
    whole = [
        int(n) if n == n.to_integral_value(context=Context(prec=200)) and -(2**63) <= n < 2**63 else -7 for n in numbers
    ]
    assert read(raw, Column(name="a", type="int64", on_invalid=wrong)) == [(n,) for n in whole]
    assert read(raw, Column(name="a", type="float64")) == [(float(n),) for n in numbers]
