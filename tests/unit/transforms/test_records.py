"""Values of Python rows meet their column's rules as the same values in a file would."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.errors import RunFailed, UsageError
from dpbeam.queries.source import Column, InputSpec, Rule
from dpbeam.reading import rows
from dpbeam.transforms.sources.records import raw_of_batch, raw_of_values, values_of

INVALID = {"string": "invalid", "int64": -7, "float64": -7.0, "bool": True, "date": "1000-01-01"}
UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
EAST = timezone(timedelta(hours=2))


def raw_of_rows(found, columns):
    return raw_of_values([values_of(row, columns) for row in found], columns)


def column(kind: str, **rules: Any) -> Column:
    return Column(name="c", type=kind, **rules)


def read(values: list[Any], *columns: Column) -> list[Any]:
    """The values as they come out of the rules of one column."""
    spec = InputSpec(format="parquet", paths=("p",), columns=columns)
    return rows.prepare(raw_of_rows([{"c": value} for value in values], columns), spec).column("c").to_pylist()


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("string", "é", "é"),
        ("string", np.str_("a\0"), "a\0"),
        ("string", b"a", "a"),
        ("string", UUID, str(UUID)),
        ("int64", -(2**63), -(2**63)),
        ("int64", np.int32(5), 5),
        ("int64", np.uint64(2**63 - 1), 2**63 - 1),
        ("int64", Decimal("12.00"), 12),
        ("int64", "12", 12),
        ("float64", 0.1, 0.1),
        ("float64", np.float32(0.1), float(np.float32(0.1))),
        ("float64", 2**60 + 1, float(2**60)),
        ("float64", Decimal("0.1"), 0.1),
        ("float64", "1e3", 1000.0),
        ("bool", np.bool_(False), False),
        ("bool", "true", True),
        ("date", date(2026, 11, 1), date(2026, 11, 1)),
        ("date", np.datetime64("2026-11-01"), date(2026, 11, 1)),
        ("date", "2026-11-01", date(2026, 11, 1)),
        ("timestamp", datetime(2026, 11, 1, 2, 3, 4, 5), datetime(2026, 11, 1, 2, 3, 4, 5)),
        ("timestamp", datetime(2026, 11, 1, 1, tzinfo=EAST), datetime(2026, 10, 31, 23)),
        ("timestamp", Timestamp.from_rfc3339("2026-11-01T01:00:00.5Z"), datetime(2026, 11, 1, 1, 0, 0, 500_000)),
        ("timestamp", np.datetime64("2026-11-01T01:00:00.123456789"), datetime(2026, 11, 1, 1, 0, 0, 123_456)),
        ("vector", [1, 2.5], [1.0, 2.5]),
        ("vector", np.array([1.0, 2.0]), [1.0, 2.0]),
        ("vector", (np.float32(0.5), 1), [0.5, 1.0]),
    ],
)
def test_a_value_of_the_columns_type_is_taken(kind, value, found) -> None:
    length = {"length": 2} if kind == "vector" else {}
    assert read([value], column(kind, **length)) == [found]
    assert read([value, None, value], column(kind, **length)) == [found, found]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 7),
        ("string", "\ud800"),
        ("string", b"\xff"),
        ("int64", True),
        ("int64", 1.5),
        ("int64", 2**63),
        pytest.param("int64", 1 << 20_000, id="int64-huge"),
        ("int64", Decimal("0.5")),
        ("int64", Decimal("NaN")),
        ("int64", "x"),
        ("int64", np.timedelta64(1, "ns")),
        ("float64", True),
        ("float64", 10**400),
        ("float64", [1.0]),
        ("bool", 1),
        ("date", datetime(2026, 11, 1)),
        ("date", "01.11.2026"),
        ("timestamp", date(2026, 11, 1)),
        ("timestamp", datetime(1, 1, 1, tzinfo=EAST)),
        ("timestamp", Timestamp.of(2**40)),
        ("vector", [1.0]),
        ("vector", "ab"),
        ("vector", [True, False]),
        ("vector", [1.0, "2"]),
        ("vector", [1.0, 10**400]),
    ],
)
def test_a_value_of_another_type_is_invalid_by_itself(kind, value) -> None:
    length = {"length": 2} if kind == "vector" else {}
    good = {"string": "a", "int64": 3, "float64": 0.5, "bool": False, "vector": [3.0, 4.0]}
    fine = good.get(kind, date(2026, 11, 1) if kind == "date" else datetime(2026, 11, 1))
    assert read([fine, value, fine], column(kind, **length)) == [fine, fine]
    if kind in ("string", "int64", "float64"):
        stand_in = Rule(action="replace", value=INVALID[kind])
        assert read([fine, value], column(kind, on_invalid=stand_in)) == [fine, INVALID[kind]]


@pytest.mark.parametrize(("value", "rule"), [(float("nan"), "on_nan"), (float("-inf"), "on_inf"), (None, "on_null")])
@pytest.mark.parametrize("among", [[], [True]], ids=["all numbers", "with others"])
def test_missing_and_infinite_numbers_meet_rules_of_their_own(value, rule, among) -> None:
    kind = column("float64", **{rule: Rule(action="replace", value=0.25)})
    assert read([1.5, value, *among], kind) == [1.5, 0.25]


@given(st.lists(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans(), st.binary()), max_size=8))
def test_what_becomes_of_a_row_depends_on_that_row_alone(values) -> None:
    for kind in ("string", "int64", "float64", "bool", "date", "timestamp"):
        alone = [found for value in values for found in read([value], column(kind))]
        together = read(values, column(kind))
        assert list(map(repr, together)) == list(map(repr, alone))


class Inner(NamedTuple):
    city: str


class Outer(NamedTuple):
    address: Inner | None


@pytest.mark.parametrize(
    "row",
    [
        {"address": {"city": "Lyon"}},
        {"address.city": "Lyon", "address": None},
        {"address": beam.Row(city="Lyon")},
        Outer(address=Inner(city="Lyon")),
        beam.Row(address={"city": "Lyon"}),
    ],
)
@pytest.mark.parametrize("field", ["address.city", ("address", "city")])
def test_a_field_may_lie_in_another(row, field) -> None:
    expected = None if isinstance(row, dict) and row["address"] is None and field != "address.city" else "Lyon"
    raw = raw_of_rows([row], [column("string", field=field)])
    assert raw.column("c").to_pylist() == [expected]


def test_a_key_that_a_dict_lacks_is_a_missing_value() -> None:
    assert raw_of_rows([{"d": 1}, {"c": "x"}], [column("string")]).column("c").to_pylist() == [None, "x"]


@pytest.mark.parametrize("row", ["text", 5, ("a", "b"), Inner, None, object()])
def test_what_is_no_row_is_refused_by_its_type(row) -> None:
    with pytest.raises(RunFailed, match=r"rows must be dicts, named tuples, dataclasses, beam\.Row or Arrow record"):
        raw_of_rows([row], [column("string")])


def test_a_field_that_rows_of_a_type_lack_is_refused() -> None:
    with pytest.raises(RunFailed, match=r"^rows of type Inner have no field c, which the query names$"):
        raw_of_rows([Inner(city="Lyon")], [column("string")])


def test_an_arrow_batch_is_read_as_a_file_is() -> None:
    batch = pa.RecordBatch.from_pylist([{"address": {"city": "Lyon"}}, {"address": None}])
    found = raw_of_batch(batch, [column("string", field="address.city")])
    assert found.column("c").to_pylist() == ["Lyon", None]
    with pytest.raises(UsageError, match="a record batch of the pipeline has no column c"):
        raw_of_batch(batch, [column("string")])
    with pytest.raises(UsageError, match="column c must be readable as date, found Arrow type string"):
        raw_of_batch(batch, [column("date", field="address.city")])


@pytest.mark.parametrize("field", [None, "within.c"])
@pytest.mark.parametrize("is_encoded", [False, True], ids=["plain", "dictionary"])
def test_bytes_of_a_fixed_length_in_a_batch_are_refused(field, is_encoded) -> None:
    """Of a collection nobody sees all batches beforehand, and another may have the same id as text."""
    ids = pa.array([b"ab"], pa.binary(2))
    ids = ids.dictionary_encode() if is_encoded else ids
    batch = pa.RecordBatch.from_arrays([ids, pa.StructArray.from_arrays([ids], ["c"])], ["c", "within"])
    with pytest.raises(UsageError, match="which are read as hex digits: another batch may have the same id as text"):
        raw_of_batch(batch, [column("string", field=field)])


def test_a_uuid_and_text_in_batches_are_the_same_id() -> None:
    text = pa.RecordBatch.from_arrays([[str(UUID)]], ["c"])
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID.bytes], pa.binary(16)))
    columns = [column("string")]
    spec = InputSpec(format="parquet", paths=("p",), columns=tuple(columns))
    for batch in (text, pa.RecordBatch.from_arrays([ids], ["c"])):
        assert rows.prepare(raw_of_batch(batch, columns), spec).column("c").to_pylist() == [str(UUID)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, r"has no column c\. Give it one"),
        ({"field": "wide.c"}, r"has no field wide\.c \(column c\)\. Give it one"),
        ({"field": "wide"}, "column c must be readable as string, found Arrow type struct"),
        ({"field": "many"}, "column c must be readable as string, found Arrow type list"),
    ],
)
def test_an_error_shows_no_name_of_a_batch_that_the_query_hasn_t(asked, said) -> None:
    """Who pivots rows in the step before makes names of values."""
    batch = pa.RecordBatch.from_pylist([{"Ann": 1, "wide": {"Ann": 1}, "many": [{"Ann": 1}]}])
    with pytest.raises(UsageError, match=said) as refused:
        raw_of_batch(batch, [column("string", **asked)])
    assert "Ann" not in str(refused.value)


def test_a_row_is_taken_as_it_is_when_it_comes() -> None:
    """A step before may fill one object anew for each row: each row has its own values all the same."""
    columns = [column("string"), Column(name="v", type="vector", length=2)]
    row, vector, kept = {"c": "", "v": None}, [0.0, 0.0], []
    for place, city in enumerate(("Oslo", "Bergen")):
        vector[:] = [float(place)] * 2
        row.update(c=city, v=vector)
        kept.append(values_of(row, columns))
    raw = raw_of_values(kept, columns)
    assert raw.to_pylist() == [{"c": "Oslo", "v": [0.0, 0.0]}, {"c": "Bergen", "v": [1.0, 1.0]}]
