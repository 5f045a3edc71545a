"""The declared rules: which rows are dropped, replaced or fail the run, and in what order."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.errors import DataError
from dpbeam.queries.column_types import ColumnType
from dpbeam.queries.source import Column, Condition, InputSpec, Lower, Rule
from dpbeam.reading.casting import trimmed
from dpbeam.reading.rows import output_schema, prepare

FAIL = Rule(action="fail")


def replace(value: Any) -> Rule:
    return Rule(action="replace", value=value)


def spec(kind: ColumnType = "float64", **rules: Rule) -> InputSpec:
    columns = (Column(name="id", type="string"), Column(name="x", type=kind, **rules))
    return InputSpec(format="csv", paths=(), columns=columns)


def after(texts: list[Any], wanted: InputSpec) -> list[Any]:
    """The `x` that are left, of rows that are sound but for it."""
    batch = pa.record_batch({"id": pa.array([b"u"] * len(texts), pa.binary()), "x": pa.array(texts, pa.binary())})
    result = prepare(batch, wanted)
    assert result.schema == output_schema(wanted)
    assert all(column.null_count == 0 for column in result.columns)
    return result.column("x").to_pylist()


BAD = {"on_null": None, "on_nan": b"nan", "on_inf": b"-inf", "on_invalid": b"abc"}
MEANS = {
    "on_null": "A value is missing",
    "on_nan": "A value is NaN",
    "on_inf": "A value is infinite",
    "on_invalid": "A value is not of the column's type",
}


@pytest.mark.parametrize("rule", list(BAD))
def test_a_row_that_breaks_a_rule_is_dropped_unless_the_policy_says_otherwise(rule: str) -> None:
    assert after([b"1", BAD[rule], b"2"], spec()) == [1.0, 2.0]


@pytest.mark.parametrize("rule", list(BAD))
def test_a_replacement_is_of_the_column_s_type_and_touches_its_own_rows_only(rule: str) -> None:
    others = [bad for name, bad in BAD.items() if name != rule]
    assert after([b"1", BAD[rule], *others], spec(**{rule: replace(9)})) == [1.0, 9.0]


@pytest.mark.parametrize("rule", list(BAD))
def test_fail_says_column_rule_and_remedy_and_no_value(rule: str) -> None:
    with pytest.raises(DataError) as caught:
        after([b"1", BAD[rule]], spec(**{rule: FAIL}))
    assert str(caught.value) == (
        f"column x breaks {rule}: fail. {MEANS[rule]}. Correct the source, or declare another rule for the column, "
        f"such as {rule}: drop."
    )
    assert caught.value.__context__ is None


@pytest.mark.parametrize("rule", list(BAD))
def test_fail_lets_sound_rows_pass(rule: str) -> None:
    assert after([b"1", b"2"], spec(**{rule: FAIL})) == [1.0, 2.0]


def test_a_replacement_is_not_judged_again() -> None:
    wanted = spec("string", on_invalid=replace(""), on_null=replace("none"))
    assert after([b"\xff", None, b""], wanted) == ["", "none", ""]


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "?", "?"),
        ("int64", -1, -1),
        ("float64", 2, 2.0),
        ("bool", False, False),
        ("date", "2000-01-01", dt.date(2000, 1, 1)),
        ("timestamp", "2000-01-01T10:00", dt.datetime(2000, 1, 1, 10)),
    ],
)
def test_every_type_takes_a_replacement(kind: ColumnType, given: Any, value: Any) -> None:
    (result,) = after([None], spec(kind, on_null=replace(given)))
    assert (result, type(result)) == (value, type(value))


def test_a_row_is_dropped_if_any_declared_column_says_so() -> None:
    columns = (Column(name="a", type="int64"), Column(name="b", type="int64", on_null=replace(0)))
    batch = pa.record_batch({"a": pa.array([1, None, 3]), "b": pa.array([None, 2, 3])})
    result = prepare(batch, InputSpec(format="parquet", paths=(), columns=columns))
    assert result.to_pylist() == [{"a": 1, "b": 0}, {"a": 3, "b": 3}]


def test_rows_that_several_columns_drop_are_all_dropped() -> None:
    columns = tuple(Column(name=name, type="int64") for name in "abc")
    batch = pa.record_batch({"a": [None, 1, 2, None], "b": [3, None, 4, 5], "c": [6, 7, 8, 9]})
    result = prepare(batch, InputSpec(format="parquet", paths=(), columns=columns))
    assert result.to_pylist() == [{"a": 2, "b": 4, "c": 8}]


def test_a_fail_holds_also_for_rows_that_another_column_drops() -> None:
    columns = (Column(name="a", type="int64"), Column(name="b", type="int64", on_null=FAIL))
    batch = pa.record_batch({"a": pa.array([None], pa.int64()), "b": pa.array([None], pa.int64())})
    with pytest.raises(DataError, match=r"^column b breaks on_null"):
        prepare(batch, InputSpec(format="parquet", paths=(), columns=columns))


def test_null_ids_are_dropped() -> None:
    batch = pa.record_batch({"id": pa.array(["u", None]), "x": pa.array([1.0, 2.0])})
    assert prepare(batch, spec()).to_pylist() == [{"id": "u", "x": 1.0}]


def test_a_null_within_a_dictionary_is_null() -> None:
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["u", None]))
    batch = pa.record_batch({"id": coded, "x": pa.array([1.0, 2.0])})
    assert prepare(batch, spec(on_null=FAIL)).to_pylist() == [{"id": "u", "x": 1.0}]


def test_negative_zero_and_subnormal_numbers_are_sound() -> None:
    values = after([b"-0.0", b"5e-324"], spec())
    assert (math.copysign(1, values[0]), values[1]) == (-1.0, 5e-324)


def test_columns_the_spec_does_not_name_are_left_out() -> None:
    batch = pa.record_batch({"secret": pa.array([b"s"]), "x": pa.array([1.0]), "id": pa.array(["u"])})
    assert prepare(batch, spec()).schema.names == ["id", "x"]


def test_the_output_has_declared_then_derived_columns_in_their_final_types() -> None:
    kinds: tuple[ColumnType, ...] = ("string", "int64", "float64", "bool", "date", "timestamp")
    wanted = InputSpec(
        format="csv",
        paths=(),
        columns=tuple(Column(name=kind, type=kind) for kind in kinds),
        derived=(Lower(name="low", column="string"),),
    )
    assert output_schema(wanted) == pa.schema(
        [
            ("string", pa.string()),
            ("int64", pa.int64()),
            ("float64", pa.float64()),
            ("bool", pa.bool_()),
            ("date", pa.date32()),
            ("timestamp", pa.timestamp("us")),
            ("low", pa.string()),
        ]
    )


def test_no_rows_give_no_rows_of_the_same_schema() -> None:
    wanted = InputSpec(
        format="csv",
        paths=(),
        columns=spec().columns,
        derived=(Lower(name="low", column="id"),),
        where=(Condition(column="low", op="==", value="u"),),
    )
    batch = pa.record_batch({"id": pa.array([], pa.binary()), "x": pa.array([], pa.binary())})
    result = prepare(batch, wanted)
    assert (result.num_rows, result.schema) == (0, output_schema(wanted))


def test_a_replacement_of_another_type_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^'x' is not a value of type float64$"):
        after([None], spec(on_null=replace("x")))


def test_a_replacement_without_a_value_and_an_unknown_action_are_refused_where_a_row_needs_them() -> None:
    with pytest.raises(ValueError, match=r"^columns\.x\.on_null: replace needs a value$"):
        after([None], spec(on_null=replace(None)))
    with pytest.raises(ValueError, match=r"^unknown action 'keep'$"):
        after([None], spec(on_null=Rule(action="keep")))  # type: ignore[arg-type]


def test_what_is_trimmed_is_read_without_white_space_and_is_missing_where_nothing_else_is_left() -> None:
    texts = [b" 1", b"2\t", "\u00a03\u2003".encode(), b"4", b" 5 6 ", b"  ", b"", None]
    wanted = spec("int64", on_invalid=replace(-1), on_null=replace(0))
    column = dataclasses.replace(wanted.columns[1], trim=True)
    wanted = dataclasses.replace(wanted, columns=(wanted.columns[0], column))
    assert after(texts, wanted) == [1, 2, 3, 4, -1, 0, 0, 0]
    assert after([b"1", b" \xff ", b"\xff"], wanted) == [1, -1, -1]


def test_without_trim_white_space_is_a_part_of_the_text() -> None:
    assert after([b" a", b"  "], spec("string")) == [" a", "  "]


def test_trim_leaves_numbers_and_ids_in_bytes_as_they_are() -> None:
    numbers, ids = pa.array([1, None, 3]), pa.array([b" \x01", None], pa.binary(2))
    assert trimmed(numbers) is numbers
    assert trimmed(ids) is ids


def test_trim_reads_every_layout_of_text() -> None:
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        assert trimmed(pa.array([" a ", " ", None], pa.string()).cast(kind)).to_pylist() == ["a", None, None]
