"""The order of a stage's partitions: of their keys where these have one, else of the policy's list."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.engine.stage import Hierarchical, StageSpec
from dpbeam.pipelines.lifecycle.shown_order import ordered
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.expressions import ColumnValue
from dpbeam.queries.source import Bin, Computed, Lookup, Lower, Truncate


def spec(*keys: tuple[str, Any]) -> StageSpec:
    return StageSpec(
        name="s",
        unit="person",
        keys=tuple(key for key, _ in keys),
        key_types=tuple(kind for _, kind in keys),
        bounds=Bounds(l0=1, linf=1),
        metrics=(),
        noise={},
        selection=None,
    )


def test_intervals_come_in_the_order_of_their_edges() -> None:
    table = pa.table({"age": ["< 18", "[18, 100)", "≥ 1000", "[100, 1000)"]})
    found, order = ordered(spec(("age", "string")), table, [Bin(name="age", column="a", edges=(18, 100, 1000))], None)
    assert found["age"].to_pylist() == ["< 18", "[18, 100)", "[100, 1000)", "≥ 1000"]
    assert order == "keys"


@pytest.mark.parametrize(
    ("kind", "values"), [("int64", [9, 10, 200]), ("date", [date(1999, 12, 31), date(2026, 1, 1)])]
)
def test_numbers_and_dates_come_in_their_own_order(kind: str, values: list[Any]) -> None:
    found, order = ordered(spec(("k", kind)), pa.table({"k": values[::-1]}), [], None)
    assert (found["k"].to_pylist(), order) == (values, "keys")


def test_months_within_groups_of_intervals_come_in_their_order() -> None:
    table = pa.table({"age": ["≥ 9", "≥ 9", "< 9"], "month": ["2026-02", "2026-01", "2026-03"]})
    derived = [Bin(name="age", column="a", edges=(9,)), Truncate(name="month", column="t", unit="month")]
    found, order = ordered(spec(("age", "string"), ("month", "string")), table, derived, None)
    assert found["month"].to_pylist() == ["2026-03", "2026-01", "2026-02"]
    assert order == "keys"


def test_keys_of_text_have_no_order_of_their_own() -> None:
    table = pa.table({"city": ["b", "a"], "day": [date(2026, 1, 2), date(2026, 1, 1)]})
    found, order = ordered(spec(("city", "string"), ("day", "date")), table, [Lower(name="city", column="c")], None)
    assert (found, order) == (table, None)


def looked_up(kind: str, values: list[Any]) -> Lookup:
    return Lookup(name="k", column="c", keys=pa.array(["a", "b"]), values=pa.array(values), type=kind)  # type: ignore[arg-type]


def test_what_is_computed_or_looked_up_comes_in_the_order_of_its_type() -> None:
    computed = Computed(name="k", expression=ColumnValue(name="c", type="int64"))
    for derived in (computed, looked_up("int64", [10, 9])):
        found, order = ordered(spec(("k", "int64")), pa.table({"k": [10, 9]}), [derived], None)
        assert (found["k"].to_pylist(), order) == ([9, 10], "keys")


def test_text_that_is_looked_up_has_no_order_of_its_own() -> None:
    table = pa.table({"k": ["y", "x"]})
    assert ordered(spec(("k", "string")), table, [looked_up("string", ["y", "x"])], None) == (table, None)


def test_a_short_list_of_the_policy_keeps_its_order() -> None:
    table = pa.table({"day": ["Fri", "Mon", "Sat"]})
    found, order = ordered(spec(("day", "string")), table, [], pa.table({"day": ["Mon", "Fri", "Sat"]}))
    assert (found["day"].to_pylist(), order) == (["Mon", "Fri", "Sat"], "policy")


def test_a_long_list_is_ordered_by_the_counts() -> None:
    table = pa.table({"k": [f"k{i}" for i in range(32)]})
    assert ordered(spec(("k", "string")), table, [], table)[1] is None
    assert ordered(spec(("k", "string")), table.slice(0, 31), [], table.slice(0, 31))[1] == "policy"


def test_hierarchical_keys_and_the_whole_table_stay_as_they_are() -> None:
    numbers = replace(spec(("k", "int64")), mode=Hierarchical())
    assert ordered(numbers, pa.table({"k": [2, 1]}), [], None)[1] is None
    assert ordered(spec(), pa.table({"count": [1.0]}), [], None)[1] is None
