"""Which types of Arrow, and which values of a policy, are of each declared type."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.queries.column_types import ColumnType
from dpbeam.reading.casting import ARROW_TYPES, accepts, literal, to_type

MAX, MIN = 2**63 - 1, -(2**63)
TEXT = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary(), pa.string_view(), pa.binary_view())
NARROW = (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32())
DECIMALS = (pa.decimal128(20, 2), pa.decimal256(60, 2))
ACCEPTED: dict[ColumnType, tuple[pa.DataType, ...]] = {
    "string": (*TEXT, pa.binary(4), pa.uuid(), pa.json_()),
    "int64": (*NARROW, pa.int64(), pa.uint64(), *DECIMALS),
    "float64": (*NARROW, pa.float16(), pa.float32(), pa.float64(), *DECIMALS),
    "bool": (pa.bool_(),),
    "date": (pa.date32(), pa.date64()),
    "timestamp": tuple(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")),
}
NEVER = (
    pa.time32("s"),
    pa.time64("us"),
    pa.duration("s"),
    pa.bool8(),
    pa.opaque(pa.binary(4), "a", "b"),
    pa.list_(pa.int8()),
    pa.struct([("a", TEXT[0])]),
)


@pytest.mark.parametrize("kind", list(ARROW_TYPES))
def test_a_type_is_accepted_where_it_holds_values_of_the_declared_one_and_nowhere_else(kind: ColumnType) -> None:
    """Also what is narrow enough for a float64 but no number: dates, times, booleans."""
    all_types = {found for types in (*ACCEPTED.values(), NEVER) for found in types}
    assert {found for found in all_types if accepts(found, kind)} == set(ACCEPTED[kind])
    assert {found for found in all_types if accepts(pa.dictionary(pa.int8(), found), kind)} == set(ACCEPTED[kind])


def test_a_type_that_sources_never_lets_through_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^a column of Arrow type double can't be read as int64$"):
        to_type(pa.array([1.5]), "int64")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", "string"),
        (5, "int64"),
        (MAX, "int64"),
        (MIN, "int64"),
        (5, "float64"),
        (1.5, "float64"),
        (True, "bool"),
        (False, "bool"),
    ],
)
def test_a_policy_value_of_the_type_is_a_literal(value: Any, kind: ColumnType) -> None:
    assert literal(value, kind).as_py() == value
    assert literal(value, kind).type == ARROW_TYPES[kind]


def test_a_whole_number_that_no_float64_holds_is_the_nearest_one_as_a_literal() -> None:
    assert literal(2**53 + 1, "float64").as_py() == 2.0**53


def test_policy_dates_are_iso_text() -> None:
    assert literal("2024-05-01", "date").as_py() == dt.date(2024, 5, 1)
    assert literal("2024-05-01T10:00+01:00", "timestamp").as_py() == dt.datetime(2024, 5, 1, 9)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (5, "string"),
        ("5", "int64"),
        (5.0, "int64"),
        (True, "int64"),
        (MAX + 1, "int64"),
        (True, "float64"),
        (1, "bool"),
        ("2024-02-30", "date"),
        (20240501, "date"),
        ("noon", "timestamp"),
        ("\ud800", "string"),
    ],
)
def test_a_policy_value_of_another_type_is_refused(value: Any, kind: ColumnType) -> None:
    with pytest.raises(ValueError, match=rf"is not a value of type {kind}$"):
        literal(value, kind)
