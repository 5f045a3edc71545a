"""Lists of numbers in Parquet, Avro and JSON Lines files: what is checked beforehand, and which vectors come out."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.errors import DataError, UsageError
from dpbeam.queries.source import Column, Format, InputSpec, Rule
from dpbeam.reading.formats import base, inspect_file, read_split
from dpbeam.reading.rows import prepare

VECTOR = Column(name="v", type="vector", length=2)
FAIL = Rule(action="fail")


def spec(format: Format, *columns: Column) -> InputSpec:
    return InputSpec(format=format, paths=(), columns=columns or (VECTOR,))


def read(raw: bytes, wanted: InputSpec) -> list[Any]:
    """The vectors (or rows, of several columns) that are left."""
    file = io.BytesIO(raw)
    batches = [
        prepare(batch, wanted)
        for split in inspect_file(file, wanted, f"t.{wanted.format}")
        for batch in read_split(file, split, wanted)
    ]
    rows = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    return [row[0] for row in rows] if len(wanted.columns) == 1 else rows


def refusal(raw: bytes, wanted: InputSpec) -> str:
    with pytest.raises(UsageError) as caught:
        inspect_file(io.BytesIO(raw), wanted, f"t.{wanted.format}")
    return str(caught.value)


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue()


def avro(kind: Any, values: list[Any], *, columnar: bool = True) -> bytes:
    # A field that Polars can't read sends the whole file the other way.
    others = [] if columnar else [{"name": "other", "type": {"type": "map", "values": "long"}}]
    schema = {"type": "record", "name": "row", "fields": [{"name": "v", "type": kind}, *others]}
    sink = io.BytesIO()
    fastavro.writer(sink, schema, [{"v": value, "other": {"k": 1}} for value in values])
    return sink.getvalue()


def jsonl(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


ROWS = [[1.0, 2.0], None, [3.0], [4.0, None], [5.0, 6.0], [], [7.0, 8.0]]
KEPT = [[1.0, 2.0], [5.0, 6.0], [7.0, 8.0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.int32()), pa.large_list(pa.float32())])
def test_lists_of_any_length_in_parquet_give_those_of_the_declared_one(kind: pa.DataType) -> None:
    assert read(parquet(v=pa.array(ROWS, kind)), spec("parquet")) == KEPT


def test_lists_of_a_fixed_size_in_parquet_with_missing_ones_keep_their_rows() -> None:
    rows = [[1.0, 2.0], None, [4.0, None], [5.0, 6.0], [7.0, 8.0]]
    assert read(parquet(v=pa.array(rows, pa.list_(pa.float32(), 2))), spec("parquet")) == KEPT


def test_columns_beside_lists_of_a_fixed_size_are_read_as_without_them() -> None:
    """Such lists are read without Arrow's own types, which other columns then lack as well."""
    lists = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float64(), 2))
    kinds = {
        "s": "string",
        "l": "string",
        "t": "timestamp",
        "z": "timestamp",
        "d": "date",
        "n": "int64",
        "x": "float64",
    }
    others = {
        "s": pa.array(["a", None, "b"]).dictionary_encode(),
        "l": pa.array(["ARROW:schema", "", "ARROW:schema"], pa.large_string()),
        "t": pa.array([0, -1, 2**40], pa.timestamp("us")),
        "z": pa.array([0, -1, 2**40], pa.timestamp("ns", "Europe/Berlin")),
        "d": pa.array([0, 1, None], pa.date32()),
        "n": pa.array([2**64 - 1, 5, 0], pa.uint64()),
        "x": pa.array([Decimal("0.1"), None, Decimal("-2.5")], pa.decimal256(60, 1)),
        "at": pa.StructArray.from_arrays([lists, pa.array([1, 2, 3])], ["v", "n"], mask=pa.array([False, False, True])),
    }
    standing: dict[str, Any] = {
        "string": "?",
        "timestamp": "2000-01-01",
        "date": "2000-01-01",
        "int64": -1,
        "float64": -1,
    }

    def keep(kind: str) -> dict[str, Rule]:
        return dict.fromkeys(("on_null", "on_invalid"), Rule(action="replace", value=standing[kind]))

    columns = [Column(name=name, type=kind, **keep(kind)) for name, kind in kinds.items()]  # type: ignore[arg-type]
    vector = Column(name="v", type="vector", length=2, field="at.v", **keep("float64"))
    alone = read(parquet(**others), spec("parquet", *columns))
    beside = read(parquet(**others), spec("parquet", *columns, vector))
    assert [row[:-1] for row in beside] == alone
    assert [row[-1] for row in beside] == [[1.0, 2.0], [-1.0, -1.0], [-1.0, -1.0]]


def test_a_path_leads_to_a_list_and_two_vectors_keep_apart() -> None:
    structs = pa.array([{"v": [1.0, 2.0], "city": "x"}, None, {"v": [3.0, 4.0], "city": "y"}])
    others = pa.array([[1.0], [2.0], [3.0]])
    columns = (
        Column(name="v", type="vector", length=2, field="at.v"),
        Column(name="w", type="vector", length=1),
    )
    raw = parquet(at=structs, w=others)
    assert read(raw, spec("parquet", *columns)) == [([1.0, 2.0], [1.0]), ([3.0, 4.0], [3.0])]


def test_a_long_vector_s_batches_are_cut_by_its_declared_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpbeam.reading.formats.parquet.BATCH_BYTES", 2 * 8 * 2)
    raw = parquet(v=pa.array([[1.0, 2.0]] * 3))
    file, wanted = io.BytesIO(raw), spec("parquet")
    (split,) = inspect_file(file, wanted, "t.parquet")
    assert [batch.num_rows for batch in read_split(file, split, wanted)] == [2, 1]


@pytest.mark.parametrize(
    ("kind", "shown", "remedy"),
    [
        (pa.list_(pa.float32(), 3), "fixed_size_list<element: float>[3]", "Declare {type: vector, length: 3}, or"),
        (pa.list_(pa.string()), "list<element: string>", "No type of the policy holds it exactly:"),
        (pa.float64(), "double", "Declare type: float64, or"),
    ],
)
def test_a_column_that_is_no_such_vector_is_refused_beforehand(kind: pa.DataType, shown: str, remedy: str) -> None:
    assert refusal(parquet(v=pa.array([None], kind)), spec("parquet")) == (
        f"t.parquet: column v must be readable as a vector of 2, found Parquet type {shown}. "
        f"{remedy} convert the column in the source."
    )


def test_lists_under_another_type_are_refused_with_the_one_to_declare() -> None:
    wanted = spec("parquet", Column(name="v", type="float64"))
    assert refusal(parquet(v=pa.array([[1.0]])), wanted) == (
        "t.parquet: column v must be readable as float64, found Parquet type list<element: double>. "
        "Declare {type: vector, length: N}, or convert the column in the source."
    )


@pytest.mark.parametrize("columnar", [True, False])
@pytest.mark.parametrize("items", ["int", "long", "float", "double", ["null", "double"]])
def test_arrays_in_avro_are_read(items: Any, columnar: bool) -> None:
    rows = ROWS if isinstance(items, list) else [row for row in ROWS if row is None or None not in row]
    whole = [None if row is None else [x if x is None else int(x) for x in row] for row in rows]
    given = whole if items in ("int", "long") else rows
    assert read(avro(["null", {"type": "array", "items": items}], given, columnar=columnar), spec("avro")) == KEPT


@pytest.mark.parametrize("columnar", [True, False])
def test_decimals_in_avro_s_arrays_are_read(columnar: bool) -> None:
    items = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    raw = avro({"type": "array", "items": items}, [[Decimal("0.10"), Decimal("-2.00")]], columnar=columnar)
    assert read(raw, spec("avro")) == [[0.1, -2.0]]


@pytest.mark.parametrize("columnar", [True, False])
def test_arrays_of_nothing_but_numbers_are_vectors_in_avro(columnar: bool) -> None:
    raw = avro({"type": "array", "items": "string"}, [["1", "2"]], columnar=columnar)
    assert refusal(raw, spec("avro")).startswith(
        "t.avro: column v must be readable as a vector of 2, found Avro type list<item: string>."
    )


def test_an_array_beside_the_needed_columns_of_avro_does_no_harm() -> None:
    fields = [{"name": "v", "type": {"type": "array", "items": "double"}}, {"name": "n", "type": "long"}]
    sink = io.BytesIO()
    fastavro.writer(sink, {"type": "record", "name": "row", "fields": fields}, [{"v": [1.0], "n": 5}])
    assert read(sink.getvalue(), spec("avro", Column(name="n", type="int64"))) == [5]


LINES = [
    '{"v": [1, 2.0]}',
    '{"v": null}',
    "{}",
    '{"v": [3]}',
    '{"v": [4, null]}',
    '{"v": [5, 6]}',
    '{"v": []}',
    '{"v": [NaN, 1]}',
    '{"v": [7, 8]}',
]
INVALID = [
    '{"v": 1}',
    '{"v": "1"}',
    '{"v": ["1", 2]}',
    '{"v": [1, true]}',
    '{"v": [[1, 2]]}',
    '{"v": {"a": 1}}',
    '{"v": [1, 2], "v": [3, 4]}',
]


def test_lists_in_json_lines_are_read() -> None:
    assert read(jsonl(*LINES), spec("jsonl")) == KEPT


@pytest.mark.parametrize("line", INVALID)
def test_what_is_no_list_of_numbers_in_json_is_invalid_by_itself(line: str) -> None:
    assert read(jsonl(*LINES[:6], line, *LINES[6:]), spec("jsonl")) == KEPT
    standing = Column(name="v", type="vector", length=2, on_invalid=Rule(action="replace", value=9))
    for lines in ([line], [LINES[0], line], [line] * 200, [*LINES[:1] * 150, line]):
        expected = [[9.0, 9.0] if each == line else [1.0, 2.0] for each in lines]
        assert read(jsonl(*lines), spec("jsonl", standing)) == expected
    with pytest.raises(DataError, match="column v breaks on_invalid: fail"):
        read(jsonl(LINES[0], line), spec("jsonl", Column(name="v", type="vector", length=2, on_invalid=FAIL)))


def test_a_line_s_invalid_list_leaves_its_other_columns_alone() -> None:
    columns = (
        Column(name="n", type="int64"),
        Column(name="v", type="vector", length=2, field="at.v", on_invalid=Rule(action="replace", value=0)),
    )
    lines = [json.dumps({"n": i, "at": {"v": [i, "x"] if i == 3 else [i, i]}}) for i in range(6)]
    expected = [(i, [0.0, 0.0] if i == 3 else [float(i)] * 2) for i in range(6)]
    assert read(jsonl(*lines), spec("jsonl", *columns)) == expected


def test_ranges_of_a_json_file_give_each_vector_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RANGE_BYTES", 7)
    assert read(jsonl(*LINES, INVALID[2]), spec("jsonl")) == KEPT


STANDING = Column(
    name="v",
    type="vector",
    length=2,
    **{
        rule: Rule(action="replace", value=value)
        for rule, value in (("on_invalid", -1), ("on_null", -2), ("on_nan", -3), ("on_inf", -4))
    },  # type: ignore[arg-type]
)


@settings(max_examples=150)
@given(lines=st.lists(st.sampled_from([*LINES, *INVALID, '{"v": [1, Infinity]}', "no object", ""]), max_size=8))
def test_a_line_s_vector_is_its_own_whatever_stands_in_the_lines_around_it(lines: list[str]) -> None:
    alone = [vector for line in lines for vector in read(jsonl(line), spec("jsonl", STANDING))]
    assert read(jsonl(*lines), spec("jsonl", STANDING)) == alone
