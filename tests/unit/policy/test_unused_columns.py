"""A column that nothing uses drops no rows: a question reads what it is made of, and names the rest."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from dpbeam.pipelines.library.plans import plan
from dpbeam.policy.compile import query, warning
from dpbeam.policy.load import policy_of
from dpbeam.queries.source import Column, InputSpec, Lower, reduced
from dpbeam.reading.rows import prepare

STAGE = {
    "name": "s",
    "group_by": ["place"],
    "partitions": {"private": {"strategy": "laplace_thresholding"}},
    "bounds": {"l0": 2, "linf": 3},
    "metrics": ["count"],
    "noise": "laplace",
}


def policy(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "version": 1,
        "dataset": "visits",
        "source": {"format": "csv", "path": "visits.csv"},
        "privacy_unit": "person",
        "columns": {
            "person": {"type": "string"},
            "place": {"type": "string"},
            "cost": {"type": "float64"},
            "age": {"type": "int64", "on_invalid": "fail"},
        },
        "run": {"epsilon": 1, "delta": 1e-6},
        "stages": [STAGE],
    }
    return made | changes


def asked(**changes: Any):
    return query(policy_of(policy(**changes)))


def read(**changes: Any) -> tuple[set[str], tuple[str, ...]]:
    source = asked(**changes).source
    return {column.name for column in source.columns}, source.unused


def test_unit_and_keys_are_read_and_other_columns_are_not() -> None:
    assert read() == ({"person", "place"}, ("cost", "age"))


def test_a_column_that_a_metric_is_made_of_is_read() -> None:
    total = {"sum": {"column": "cost", "low": 0, "high": 9}}
    assert read(stages=[STAGE | {"metrics": [total]}]) == ({"person", "place", "cost"}, ("age",))


def test_a_column_that_a_metrics_condition_is_about_is_read() -> None:
    some = {"count_if": {"name": "old", "column": "age", "op": ">", "value": 60}}
    assert read(stages=[STAGE | {"metrics": [some]}]) == ({"person", "place", "age"}, ("cost",))


def test_a_column_of_a_condition_is_read() -> None:
    assert read(where=[{"column": "age", "op": ">", "value": 3}])[1] == ("cost",)


def test_a_column_is_read_for_a_derived_one_that_is_used() -> None:
    band = {"band": {"bin": "age", "edges": [3, 9]}}
    assert read(derive=band, stages=[STAGE | {"group_by": ["band"]}]) == ({"person", "age"}, ("place", "cost"))


def test_a_derived_column_that_nothing_uses_is_not_made() -> None:
    made = asked(derive={"band": {"bin": "age", "edges": [3, 9]}}).source
    assert (made.derived, made.unused) == ((), ("cost", "age", "band"))


CHAIN = InputSpec(
    format="csv",
    paths=(),
    columns=(Column(name="a", type="string"), Column(name="b", type="string")),
    derived=(Lower(name="c", column="a"), Lower(name="d", column="c"), Lower(name="e", column="b")),
)


def test_what_a_chain_of_derived_columns_is_made_of_stays() -> None:
    made = reduced(CHAIN, {"d"})
    assert ([c.name for c in made.columns], [d.name for d in made.derived], made.unused) == (
        ["a"], ["c", "d"], ("b", "e"),
    )  # fmt: skip


def test_a_folders_value_that_nothing_uses_is_not_looked_for() -> None:
    source = {"format": "parquet", "path": "visits/", "path_columns": ["age", "place"]}
    assert asked(source=source).source.path_columns == ("place",)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("string", pa.array([b"a", None, b"\xff"])),
        ("int64", pa.array([b"1", None, b"x"])),
        ("float64", pa.array([b"nan", b"inf", b"x"])),
        ("bool", pa.array([b"true", None, b"x"])),
        ("date", pa.array([b"2024-01-01", None, b"x"])),
        ("timestamp", pa.array([b"2024-01-01", None, b"x"])),
        ("vector", pa.array([[1.0, float("nan")], None, [1.0]])),
    ],
)
def test_where_nothing_is_used_every_row_counts_whatever_is_in_it(kind: Any, bad: pa.Array) -> None:
    only = Column(name="c", type=kind, length=2 if kind == "vector" else None)
    spec = reduced(InputSpec(format="parquet", paths=(), columns=(only,)), ())
    assert (spec.unused, prepare(pa.record_batch({"c": bad}), spec).num_rows) == (("c",), 3)


def test_the_digest_holds_what_is_not_used_as_before() -> None:
    columns = policy()["columns"]
    fewer = {name: rules for name, rules in columns.items() if name != "age"}
    assert asked().digest == policy_of(policy()).digest != asked(columns=fewer).digest


def test_the_warning_names_what_is_not_used() -> None:
    assert warning(asked()) == (
        "no stage, condition or derived column in use needs cost, age: rules there drop no rows and fail no run. "
        "Leave such columns out of the policy, or use them"
    )


def test_there_is_no_warning_where_all_is_used() -> None:
    assert warning(asked(columns={"person": {"type": "string"}, "place": {"type": "string"}})) is None


def test_the_warning_names_ten_and_counts_the_rest() -> None:
    many = {f"c{i}": {"type": "string"} for i in range(12)}
    columns = {"person": {"type": "string"}, "place": {"type": "string"}} | many
    assert "c8, c9 and 2 more: rules" in str(warning(asked(columns=columns)))


def test_a_plan_in_python_says_it_too() -> None:
    assert "needs cost, age: rules there drop no rows" in plan(policy_of(policy())).explain()
