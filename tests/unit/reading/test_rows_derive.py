"""Derived columns and `where`: exact labels, ISO text, exact comparisons."""

from __future__ import annotations

import datetime as dt
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Bin, Column, Condition, InputSpec, Lower, Truncate
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.derive import bin_labels, derive, holds
from dpbeam.reading.rows import prepare

MAX, MIN = 2**63 - 1, -(2**63)


def binned(values: pa.Array, *edges: float) -> list[str]:
    return derive({"x": values}, Bin(name="band", column="x", edges=edges)).to_pylist()


def kept(values: list[Any], kind: ColumnType, op: Any, value: Any) -> list[Any]:
    array = pa.array(values, ARROW_TYPES[kind])
    return array.filter(holds(array, kind, Condition(column="x", op=op, value=value))).to_pylist()


def test_bins_are_closed_below_and_open_above() -> None:
    values = pa.array([17, 18, 29, 30, 64, 65, 200])
    assert binned(values, 18, 30, 65) == ["< 18", "[18, 30)", "[18, 30)", "[30, 65)", "[30, 65)", "≥ 65", "≥ 65"]


def test_float_columns_are_binned_by_the_same_borders() -> None:
    assert binned(pa.array([17.999, 18.0, -0.0]), 0.0, 18.0) == ["[0, 18)", "≥ 18", "[0, 18)"]


def test_labels_write_edges_as_short_as_they_read_back() -> None:
    assert bin_labels([-1e16, -1.0, -0.0, 0.1, 1e15, 1e16]) == [
        "< -1e+16",
        "[-1e+16, -1)",
        "[-1, 0)",
        "[0, 0.1)",
        "[0.1, 1000000000000000)",
        "[1000000000000000, 1e+16)",
        "≥ 1e+16",
    ]
    assert bin_labels([1e300]) == ["< 1e+300", "≥ 1e+300"]


def test_whole_numbers_are_binned_exactly_where_float64_could_not_tell_them_apart() -> None:
    values = pa.array([2**53, 2**53 + 1, MAX, -(2**63)])
    assert binned(values, 2**53 + 2) == [
        "< 9007199254740994",
        "< 9007199254740994",
        "≥ 9007199254740994",
        "< 9007199254740994",
    ]
    assert binned(values, 1e300) == ["< 1e+300"] * 4
    assert binned(values, -1e300) == ["≥ -1e+300"] * 4


def test_whole_numbers_are_binned_by_edges_at_the_ends_of_int64() -> None:
    values = pa.array([MIN, MIN + 1, MAX - 1, MAX])
    assert binned(values, -(2.0**63), 2.0**63) == ["[-9.223372036854776e+18, 9.223372036854776e+18)"] * 4


def test_whole_numbers_are_binned_by_edges_with_a_fraction() -> None:
    assert binned(pa.array([2, 3]), 2.5) == ["< 2.5", "≥ 2.5"]


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("year", "2024"),
        ("month", "2024-12"),
        ("week", "2025-W01"),
        ("day", "2024-12-30"),
        ("hour", "2024-12-30T07"),
        ("minute", "2024-12-30T07:05"),
    ],
)
def test_timestamps_are_truncated_to_iso_text(unit: Any, text: str) -> None:
    values = pa.array([dt.datetime(2024, 12, 30, 7, 5, 59)], pa.timestamp("us"))
    assert derive({"x": values}, Truncate(name="t", column="x", unit=unit)).to_pylist() == [text]


@pytest.mark.parametrize(
    ("unit", "texts"),
    [
        ("year", ["0987", "1969"]),
        ("month", ["0987-06", "1969-12"]),
        ("week", ["0987-W23", "1970-W01"]),
        ("day", ["0987-06-05", "1969-12-31"]),
    ],
)
def test_dates_are_truncated_to_iso_text_with_four_digits_of_year(unit: Any, texts: list[str]) -> None:
    values = pa.array([dt.date(987, 6, 5), dt.date(1969, 12, 31)])
    assert derive({"x": values}, Truncate(name="t", column="x", unit=unit)).to_pylist() == texts


def test_weeks_are_those_of_the_iso_calendar() -> None:
    days = [dt.date(2020, 12, 20) + dt.timedelta(days=i) for i in range(1500)]
    expected = ["{}-W{:02}".format(*day.isocalendar()[:2]) for day in days]
    assert derive({"x": pa.array(days)}, Truncate(name="t", column="x", unit="week")).to_pylist() == expected


@pytest.mark.parametrize("unit", ["hour", "minute"])
def test_a_date_has_no_hours(unit: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^derive\.t: a date has no {unit}; truncate it to day, week, month or year$"
    ):
        derive({"x": pa.array([dt.date(2024, 5, 1)])}, Truncate(name="t", column="x", unit=unit))


def test_lower_case_goes_letter_by_letter_in_any_script() -> None:
    values = pa.array(["ABC", "ÀÉ", "ΟΔΟΣ", "ЖЯ", "ß", "ﬁ", "", "😀1"])
    expected = ["abc", "àé", "οδοσ", "жя", "ß", "ﬁ", "", "😀1"]
    assert derive({"x": values}, Lower(name="l", column="x")).to_pylist() == expected


def test_derived_columns_may_build_on_one_another_and_be_filtered_by() -> None:
    spec = InputSpec(
        format="parquet",
        paths=(),
        columns=(Column(name="seen", type="date"),),
        derived=(Truncate(name="week", column="seen", unit="week"), Lower(name="low", column="week")),
        where=(Condition(column="low", op="==", value="2024-w18"),),
    )
    batch = pa.record_batch({"seen": pa.array([dt.date(2024, 5, 1), dt.date(2024, 5, 8)])})
    assert prepare(batch, spec).to_pylist() == [{"seen": dt.date(2024, 5, 1), "week": "2024-W18", "low": "2024-w18"}]


def test_all_conditions_must_hold() -> None:
    spec = InputSpec(
        format="parquet",
        paths=(),
        columns=(Column(name="x", type="int64"),),
        where=(Condition(column="x", op=">", value=1), Condition(column="x", op="not_in", value=(3, 4))),
    )
    assert prepare(pa.record_batch({"x": [1, 2, 3, 4, 5]}), spec).to_pylist() == [{"x": 2}, {"x": 5}]


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("==", 2, [2]),
        ("!=", 2, [1, 3]),
        ("<", 2, [1]),
        ("<=", 2, [1, 2]),
        (">", 2, [3]),
        (">=", 2, [2, 3]),
        ("in", (1, 3, 9), [1, 3]),
        ("not_in", (1, 3, 9), [2]),
        ("in", (), []),
        ("not_in", (), [1, 2, 3]),
        ("==", 2.0, [2]),
        ("<", 2.5, [1, 2]),
        ("<=", 2.5, [1, 2]),
        (">", 1.5, [2, 3]),
        (">=", 1.5, [2, 3]),
        ("==", 1.5, []),
        ("!=", 1.5, [1, 2, 3]),
        ("in", (1.5, 2.0), [2]),
        ("<", 1e300, [1, 2, 3]),
        (">=", 1e300, []),
        (">", -(2**70), [1, 2, 3]),
        ("<=", -(2**70), []),
        ("==", 2**70, []),
    ],
)
def test_whole_numbers_are_compared_exactly_also_with_other_numbers(op: str, value: Any, expected: list[int]) -> None:
    assert kept([1, 2, 3], "int64", op, value) == expected


ENDS = [MIN, MIN + 1, 0, MAX - 1, MAX]


@pytest.mark.parametrize("value", [MAX, MIN, MAX + 1, MIN - 1, 2.0**63, -(2.0**63), -(2.0**63) * 1.5, 0.5, -0.5])
def test_whole_numbers_are_compared_as_python_compares_them(value: float) -> None:
    comparisons = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
    for op, holds_of in comparisons.items():
        assert kept(ENDS, "int64", op, value) == [x for x in ENDS if holds_of(x, value)], op
    assert kept(ENDS, "int64", "in", (value, 0)) == [x for x in ENDS if x in (value, 0)]
    assert kept(ENDS, "int64", "not_in", (value, 0)) == [x for x in ENDS if x not in (value, 0)]


def test_large_whole_numbers_are_compared_exactly() -> None:
    assert kept([2**53, 2**53 + 1], "int64", ">", 2**53) == [2**53 + 1]


@pytest.mark.parametrize("op", ["==", "in"])
def test_both_zeros_are_equal(op: str) -> None:
    for zero in (0, 0.0, -0.0):
        value = (zero,) if op == "in" else zero
        assert kept([0.0, -0.0, 1.0], "float64", op, value) == [0.0, -0.0]


def test_text_is_ordered_by_code_point() -> None:
    assert kept(["Z", "a", "é", "😀"], "string", ">=", "a") == ["a", "é", "😀"]


def test_booleans_are_compared_with_booleans() -> None:
    assert kept([True, False], "bool", "==", True) == [True]


def test_dates_and_timestamps_are_compared_with_iso_text() -> None:
    days = [dt.date(2024, 1, 1), dt.date(2024, 6, 1)]
    assert kept(days, "date", ">=", "2024-05-01") == days[1:]
    assert kept(days, "date", "in", ("2024-01-01",)) == days[:1]
    moments = [dt.datetime(2024, 1, 1, 9), dt.datetime(2024, 1, 1, 10)]
    assert kept(moments, "timestamp", "<", "2024-01-01T10:30+01:00") == moments[:1]


@pytest.mark.parametrize(
    ("kind", "op", "value", "message"),
    [
        ("int64", "==", "1", "'1' is not a value of type int64"),
        ("int64", "<", float("nan"), "nan is not a value of type int64"),
        ("int64", "<", float("inf"), "inf is not a value of type int64"),
        ("int64", "==", float("-inf"), "-inf is not a value of type int64"),
        ("int64", "<", True, "True is not a value of type int64"),
        ("int64", "in", (True,), "True is not a value of type int64"),
        ("int64", "in", ("1",), "'1' is not a value of type int64"),
        ("string", "==", 1, "1 is not a value of type string"),
        ("int64", "in", 1, "where x in: needs a list of values, got 1"),
        ("int64", "==", (1, 2), "where x ==: needs one value, got (1, 2)"),
    ],
)
def test_a_condition_of_another_type_is_refused(kind: ColumnType, op: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        kept([], kind, op, value)
    assert str(caught.value) == message
