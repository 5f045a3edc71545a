"""Lists as files hold them become vectors of the declared length, row by row; any other list breaks a rule."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.bounding.contributions import numbers
from dpbeam.errors import DataError
from dpbeam.queries.source import Column, Condition, InputSpec, Rule
from dpbeam.reading import vectors
from dpbeam.reading.rows import column_types, output_schema, prepare

FAIL = Rule(action="fail")
NAN, INF = math.nan, math.inf
RULES = ("on_invalid", "on_null", "on_nan", "on_inf")
STANDING = {"on_invalid": -1.0, "on_null": -2.0, "on_nan": -3.0, "on_inf": -4.0}
REPLACE_ALL = {name: Rule(action="replace", value=value) for name, value in STANDING.items()}


def spec(length: int, **rules: Rule) -> InputSpec:
    vector = Column(name="v", type="vector", length=length, **rules)
    return InputSpec(format="parquet", paths=(), columns=(Column(name="id", type="int64"), vector))


def after(raw: pa.Array, wanted: InputSpec) -> list[tuple[int, list[float]]]:
    """(row, its vector) of the rows that are left."""
    batch = pa.RecordBatch.from_arrays([pa.array(range(len(raw)), pa.int64()), raw], names=["id", "v"])
    result = prepare(batch, wanted)
    assert result.schema == output_schema(wanted)
    made = numbers(result.column("v"))
    assert np.isfinite(made).all()
    return list(zip(result.column("id").to_pylist(), made.tolist(), strict=True))


def oracle(row: list[float | None] | None, length: int) -> list[float]:
    """A row with its stand-ins, by the rules' own words."""
    if row is None:
        return [STANDING["on_null"]] * length
    if len(row) != length:
        return [STANDING["on_invalid"]] * length
    return [
        STANDING["on_null" if x is None else "on_nan" if math.isnan(x) else "on_inf"]
        if x is None or not math.isfinite(x)
        else x
        for x in row
    ]


number = st.sampled_from([0.0, 1.0, -2.5, 1e300, 0.1]) | st.sampled_from([None, NAN, INF, -INF])
LAYOUTS = {
    "list": pa.list_(pa.float64()),
    "large_list": pa.large_list(pa.float64()),
    "dictionaries": pa.list_(pa.dictionary(pa.int8(), pa.float64())),
}


@settings(max_examples=200)
@given(
    rows=st.lists(st.none() | st.lists(number, max_size=4), max_size=8),
    length=st.integers(1, 3),
    cut=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    layout=st.sampled_from(sorted(LAYOUTS)),
)
def test_each_row_becomes_what_its_own_list_says_whatever_lies_around_it(
    rows: list[list[float | None] | None], length: int, cut: tuple[int, int], layout: str
) -> None:
    raw = listed(rows, LAYOUTS[layout])
    start, end = min(cut[0], len(rows)), max(min(cut[0], len(rows)), len(rows) - cut[1])
    expected = [oracle(row, length) for row in rows[start:end]]
    sliced = raw.slice(start, end - start)
    assert after(sliced, spec(length, **REPLACE_ALL)) == list(enumerate(expected))
    clean = [i for i, row in enumerate(rows[start:end]) if row is not None and oracle(row, length) == row]
    assert after(sliced, spec(length)) == [(i, rows[start + i]) for i in clean]


def listed(rows: list[list[float | None] | None], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind.value_type):
        return pa.array(rows, kind)
    plain = pa.array(rows, pa.list_(pa.float64()))
    return pa.ListArray.from_arrays(
        plain.offsets, plain.values.dictionary_encode(), mask=plain.is_null() if plain.null_count else None
    )


@settings(max_examples=100)
@given(rows=st.lists(st.none() | st.lists(number, min_size=2, max_size=2), max_size=8), start=st.integers(0, 3))
def test_lists_of_a_fixed_size_are_read_the_same(rows: list[list[float | None] | None], start: int) -> None:
    raw = pa.array(rows, pa.list_(pa.float64(), 2)).slice(min(start, len(rows)))
    expected = [oracle(row, 2) for row in rows[min(start, len(rows)) :]]
    assert after(raw, spec(2, **REPLACE_ALL)) == list(enumerate(expected))


def test_lengths_that_add_up_shift_nothing_into_another_row() -> None:
    raw = pa.array([[1.0, 2.0], [3.0, 4.0, 5.0], [6.0], [7.0, 8.0]])
    assert after(raw, spec(2)) == [(0, [1.0, 2.0]), (3, [7.0, 8.0])]


def test_what_lies_beneath_a_missing_list_is_never_looked_at() -> None:
    hidden = pa.array([1.0, 2.0, 66.0, NAN, 5.0, 6.0])
    missing = pa.array([False, True, False])
    offsets = pa.array([0, 2, 4, 6], pa.int32())
    for raw in (
        pa.ListArray.from_arrays(offsets, hidden, mask=missing),
        pa.FixedSizeListArray.from_arrays(hidden, 2, mask=missing),
    ):
        assert after(raw, spec(2, on_nan=FAIL)) == [(0, [1.0, 2.0]), (2, [5.0, 6.0])]
        assert after(raw.slice(1), spec(2, on_nan=FAIL)) == [(1, [5.0, 6.0])]


def test_lists_that_lie_in_another_order_than_their_rows_are_told_apart() -> None:
    raw = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).take(pa.array([2, 0, 1]))
    assert after(raw, spec(2)) == [(0, [5.0, 6.0]), (1, [1.0, 2.0]), (2, [3.0, 4.0])]


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ([1, -2], pa.int8(), [1.0, -2.0]),
        ([2**53 + 1, -5], pa.int64(), [2.0**53, -5.0]),
        ([2**64 - 1, 0], pa.uint64(), [2.0**64, 0.0]),
        ([np.float16(0.5), np.float16(2)], pa.float16(), [0.5, 2.0]),
        ([0.1, 2.0], pa.float32(), [float(np.float32(0.1)), 2.0]),
        ([Decimal("0.10"), Decimal("-3.00")], pa.decimal128(9, 2), [0.1, -3.0]),
    ],
)
def test_numbers_of_every_type_become_the_nearest_float64(given: list[Any], kind: pa.DataType, expected: Any) -> None:
    assert after(pa.array([given, None], pa.list_(kind)), spec(2)) == [(0, expected)]


@pytest.mark.parametrize("length", [1, 2, 5000])
def test_vectors_of_any_length_are_read(length: int) -> None:
    made = [[float(i + j) for j in range(length)] for i in range(3)]
    assert after(pa.array(made, pa.list_(pa.float32(), length)), spec(length)) == list(enumerate(made))


def test_a_column_of_nothing_but_null_is_missing_in_every_row() -> None:
    assert after(pa.nulls(2), spec(3)) == []
    assert after(pa.nulls(2), spec(3, on_null=Rule(action="replace", value=7))) == [(0, [7.0] * 3), (1, [7.0] * 3)]


def test_no_rows_are_no_vectors() -> None:
    assert after(pa.array([], pa.list_(pa.float64())), spec(3, **dict.fromkeys(RULES, FAIL))) == []


def test_what_is_no_number_is_0_until_a_rule_is_applied() -> None:
    numbers_, broken = vectors.read(pa.array([[None, 2.0], [1.0], None]), 2)
    assert numbers_.tolist() == [[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    assert {name: cells.tolist() for name, cells in broken.items()} == {
        "on_null": [[True, False], [False, False], [True, True]],
        "on_invalid": [[False, False], [True, True], [False, False]],
    }


def test_dictionaries_of_whole_numbers_are_read() -> None:
    inner = pa.array([7, 2**53 + 1, 7], pa.int64()).dictionary_encode()
    raw = pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), inner)
    assert after(raw, spec(2)) == [(0, [7.0, 2.0**53])]


BAD = {"on_invalid": [1.0], "on_null": [1.0, None], "on_nan": [NAN, 1.0], "on_inf": [1.0, -INF]}


@pytest.mark.parametrize("rule", RULES)
def test_fail_says_column_rule_and_remedy_and_no_value(rule: str) -> None:
    means = {
        "on_invalid": "A list is not of the column's length, or not of numbers",
        "on_null": "A list, or a number in one, is missing",
        "on_nan": "A number in a list is NaN",
        "on_inf": "A number in a list is infinite",
    }
    with pytest.raises(DataError) as caught:
        after(pa.array([[3.0, 4.0], BAD[rule]]), spec(2, **{rule: FAIL}))
    assert str(caught.value) == (
        f"column v breaks {rule}: fail. {means[rule]}. Correct the source, or declare another rule for the column, "
        f"such as {rule}: drop."
    )
    others = [bad for name, bad in BAD.items() if name != rule]
    assert after(pa.array([[3.0, 4.0], *others]), spec(2, **{rule: FAIL})) == [(0, [3.0, 4.0])]


def test_a_row_that_breaks_two_rules_leaves_if_one_of_them_drops_it() -> None:
    raw = pa.array([[None, NAN], [NAN, 1.0], [None, 2.0]])
    assert after(raw, spec(2, on_nan=REPLACE_ALL["on_nan"])) == [(1, [-3.0, 1.0])]


def test_a_row_that_another_column_drops_takes_its_vector_along() -> None:
    columns = (Column(name="x", type="int64"), Column(name="v", type="vector", length=2))
    wanted = InputSpec(format="parquet", paths=(), columns=columns, where=(Condition(column="x", op="<", value=3),))
    batch = pa.record_batch({"x": pa.array([1, None, 3, 2]), "v": pa.array([[float(i), 0.5] for i in range(4)])})
    assert numbers(prepare(batch, wanted).column("v")).tolist() == [[0.0, 0.5], [3.0, 0.5]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1", pa.string()),
        (1.0, pa.float64()),
        (["1"], pa.list_(pa.string())),
        ([[1]], pa.list_(pa.list_(pa.int8()))),
        ([True], pa.list_(pa.bool_())),
    ],
)
def test_what_holds_no_numbers_is_refused(value: Any, kind: pa.DataType) -> None:
    assert not vectors.holds(kind, 1)
    with pytest.raises(TypeError, match="can't be read as a vector"):
        vectors.read(pa.array([value], kind), 1)


def test_a_list_of_another_fixed_size_is_no_vector() -> None:
    assert vectors.holds(pa.list_(pa.float32(), 3), 3)
    assert not vectors.holds(pa.list_(pa.float32(), 3), 2)
    assert after(pa.array([[1.0, 2.0, 3.0]] * 2, pa.list_(pa.float64(), 3)), spec(2)) == []


def test_a_validated_column_without_one_of_its_vectors_is_refused() -> None:
    column = pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2))
    with pytest.raises(ValueError, match="no missing vector"):
        vectors.matrix(column)
    assert vectors.matrix(column.slice(0, 1)).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("wrong", [{"type": "vector"}, {"type": "vector", "length": 0}, {"type": "int64", "length": 2}])
def test_a_column_can_not_be_made_without_the_length_that_it_needs(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs a length of at least 1"):
        Column(name="v", **wrong)


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (pa.list_(pa.float32(), 384), 384),
        (pa.list_(pa.int64()), 0),
        (pa.large_list(pa.decimal128(5, 2)), 0),
        (pa.list_(pa.dictionary(pa.int8(), pa.float32()), 3), 3),
        (pa.list_(pa.string(), 3), None),
        (pa.list_(pa.null()), None),
        (pa.list_(pa.float64(), 0), None),
        (pa.float64(), None),
        (pa.null(), None),
    ],
)
def test_a_type_states_a_length_or_leaves_it_to_each_row(kind: pa.DataType, length: int | None) -> None:
    assert vectors.stated_length(kind) == length


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.null()), pa.list_(pa.uint64()), pa.large_list(pa.float16())])
def test_lists_of_numbers_may_hold_vectors_of_any_length(kind: pa.DataType) -> None:
    assert vectors.holds(kind, 1)
    assert vectors.holds(kind, 384)


def test_a_vector_s_replacement_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"^columns\.v\.on_null: replace needs a value$"):
        after(pa.nulls(1), spec(1, on_null=Rule(action="replace")))
    with pytest.raises(ValueError, match=r"^unknown action 'keep'$"):
        after(pa.nulls(1), spec(1, on_null=Rule(action="keep")))  # type: ignore[arg-type]


def test_a_vector_is_no_single_value_that_a_condition_may_compare() -> None:
    assert column_types(spec(3)) == {"id": "int64"}
