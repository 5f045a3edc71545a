"""What `dpbeam.query` builds: one question, however it is said, and refusals in a Python user's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dpbeam
from dpbeam.policy import frames
from dpbeam.queries.metrics import KINDS

PAGE = (Path(__file__).parents[3] / "docs" / "python.md").read_text(encoding="utf-8")
TYPES = {"person": "string", "city": "string", "cost": "float64"}


def begun(source="visits.csv", **more):
    return dpbeam.query("visits", source=source, unit="person", columns=TYPES, epsilon=1.0, delta=1e-6, **more)


def by_city(asked):
    return asked.group_by("city").private().bounds(l0=2, linf=5).count()


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_has_a_method_which_the_page_names(kind: str) -> None:
    assert callable(getattr(dpbeam.QueryBuilder, kind))
    assert f"`{kind}" in PAGE


def test_a_query_shows_itself_without_its_rows() -> None:
    for frame in (pd.DataFrame, pl.DataFrame, pa.table):
        asked = by_city(begun(frame({"person": ["CANARY"], "city": ["CANARY"], "cost": [1.0]})))
        assert repr(asked) == "<dpbeam.QueryBuilder of visits: by_city>"
        assert asked == asked
        assert {asked}


def test_bounds_that_are_said_one_after_another_add_up() -> None:
    one = begun().group_by("city").private().bounds(l0=2).bounds(linf=5).count()
    assert one.to_data() == by_city(begun()).to_data()


def test_a_list_of_names_is_as_good_as_names() -> None:
    asked = begun().group_by(["city"]).private().bounds(l0=2, linf=5)
    assert asked.count().to_data() == by_city(begun()).to_data()
    one = asked.vector_sum("cost", "person", norm="l2", max_norm=1.0)
    assert one.to_data() == asked.vector_sum(["cost", "person"], norm="l2", max_norm=1.0).to_data()


def test_columns_may_have_any_name() -> None:
    odd = {"self": "string", "declared": "string", "types": "string"}
    assert set(by_city(begun().columns(odd)).to_yaml().split()) >= {"self:", "declared:", "types:"}


def test_sets_make_the_same_digest_in_every_process() -> None:
    program = """
import dpbeam
asked = dpbeam.query("v", source="v.csv", unit="p", columns={"p": "string", "c": "string"}, epsilon=1.0, delta=1e-6)
asked = asked.where("c", "in", {"a", "b", "c", "d"}).group_by("c").public({"a", "b", "c", "d"}).bounds(l0=1, linf=1)
print(asked.count().policy().digest)
"""
    digests = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_numbers_of_numpy_are_the_numbers_that_they_are() -> None:
    odd = (
        begun()
        .where("cost", ">", np.float64(1))
        .group_by("city")
        .public(np.array(["a", "b"]))
        .bounds(l0=np.int64(2), linf=5)
    )
    plain = begun().where("cost", ">", 1.0).group_by("city").public(["a", "b"]).bounds(l0=2, linf=5)
    assert odd.count().to_yaml() == plain.count().to_yaml()


def test_what_yaml_lacks_is_refused_without_an_error_of_its_own() -> None:
    with pytest.raises(dpbeam.UsageError, match=r"^a query must be of numbers, texts, dates, lists and mappings"):
        by_city(begun().where("cost", ">", object())).to_yaml()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: dpbeam.query("v", source="v.csv", unit="p", epsilon=1.0),
         "epsilon and delta are stated together, got epsilon=1.0 and delta=None: say both, such as epsilon=1.0, "
         "delta=1e-8"),
        (lambda: begun([{"person": "CANARY"}]),
         "source must be the path of files, or several of them in a list; or one frame, Arrow table, record batch or "
         "dataset, got list of dict"),
        (lambda: begun(None),
         "source must be the path of files, or several of them in a list; or one frame, Arrow table, record batch or "
         "dataset, got NoneType"),
        (lambda: begun(pl.DataFrame({"person": ["a"]}).lazy()),
         "source is a lazy frame, whose rows aren't there yet: give source=frame.collect()"),
        (lambda: begun().group_by("city").public("Oslo"),
         "public() takes a list of values, got the text 'Oslo': write [\"…\"]"),
        (lambda: begun().group_by("city").public(product={"city": "Oslo"}),
         "product has a list of values for each key, got the text 'Oslo': write [\"…\"]"),
        (lambda: begun().group_by(1), 'group_by takes names of columns, such as group_by("city"), got int'),
    ],
)  # fmt: skip
def test_what_nobody_means_is_refused_at_once(call, said: str) -> None:
    with pytest.raises(dpbeam.UsageError) as refused:
        call()
    assert str(refused.value) == said


def test_what_a_frame_lacks_is_said_with_what_it_has() -> None:
    frame = pd.DataFrame({"person": ["a"], "city": ["x"], "cost": [1]})
    asked = dpbeam.query("visits", source=frame, unit="person", columns={"person": "string"}, epsilon=1.0, delta=1e-6)
    with pytest.raises(dpbeam.UsageError) as refused:
        by_city(asked).policy()
    assert str(refused.value) == (
        "the frame doesn't say of which type column 'city' is, and dpbeam looks at no value for it: declare it, such "
        "as columns={'city': \"string\"}"
    )
    with pytest.raises(dpbeam.UsageError) as refused:
        asked.group_by("cty").private().bounds(l0=1).count().policy()
    assert str(refused.value) == (
        "the frame has no column 'cty'. Did you mean 'city'? Its columns: 'person', 'city', 'cost'"
    )


@pytest.mark.parametrize("stated", ["upper(cty)", {"lookup": "cty", "values": {"x": "y"}}])
def test_what_a_frame_lacks_of_an_expression_or_a_lookup_is_said_too(stated: str | dict[str, Any]) -> None:
    frame = pa.table({"person": ["a"], "city": ["x"]})
    asked = dpbeam.query("visits", source=frame, unit="person", epsilon=1.0, delta=1e-6).derive(region=stated)
    with pytest.raises(dpbeam.UsageError) as refused:
        asked.group_by("region").private().bounds(l0=1).count().policy()
    assert str(refused.value) == "the frame has no column 'cty'. Did you mean 'city'? Its columns: 'person', 'city'"


def test_whole_numbers_of_pandas_are_read_as_float64() -> None:
    whole = pd.DataFrame({"person": ["a", "b"], "city": ["x", "y"], "cost": [1, 2**53 + 1]})
    asked = by_city(dpbeam.query("visits", source=whole, unit="person", columns={"person": "string", "city": "string"},
                                 epsilon=1.0, delta=1e-6)).mean("cost", 0, 1)  # fmt: skip
    rows = asked.rows()
    assert rows is not None
    assert rows.schema.field("cost").type == pa.float64()
    assert rows.column("cost").to_pylist() == [1.0, float(2**53)]


class Cohort(pd.DataFrame):
    """A frame of somebody's own."""


def test_no_type_of_a_derived_frame_is_told_by_its_values() -> None:
    def digest(ages):
        frame = Cohort({"person": ["a", "b"], "city": ["x", "y"], "age": ages})
        types = {"person": "string", "city": "string"}
        asked = dpbeam.query("v", source=frame, unit="person", columns=types, epsilon=1.0, delta=1e-6)
        return by_city(asked).mean("age", 0, 100).policy().digest

    assert digest([1, 2]) == digest([1, None])


def test_python_objects_of_polars_are_no_column() -> None:
    """Polars gives Arrow their addresses: two ids of one person would be two people."""
    frame = pl.DataFrame({"city": ["x", "y"], "person": pl.Series([object(), object()], dtype=pl.Object)})
    asked = dpbeam.query("visits", source=frame, unit="person", epsilon=1.0, delta=1e-6)
    with pytest.raises(dpbeam.UsageError, match=r"^the frame has no column 'person'\. Its columns: 'city'$"):
        asked.group_by("city").private().bounds(l0=1).count().policy()


@pytest.mark.parametrize("kind", [pl.Object(), pl.List(pl.Object), pl.Array(pl.Object, 2), pl.Struct({"a": pl.Object})])
def test_types_that_hold_python_objects_are_known(kind) -> None:
    assert frames._has_objects(kind, pl.Object)
    assert not frames._has_objects(pl.Struct({"a": pl.List(pl.String)}), pl.Object)


def test_what_is_missing_is_said_in_calls() -> None:
    with pytest.raises(dpbeam.PolicyError) as refused:
        begun().group_by("city").count().policy()
    assert str(refused.value) == (
        "query: stages[0].bounds is required\n"
        "    Remedy: Say .bounds(l0=20, linf=1): how many partitions one person may touch, and how often each.\n"
        "query: stages[0].partitions is required where group_by names columns\n"
        '    Remedy: Say .private(), or .public(["a", "b"]) where all that may appear is known beforehand.'
    )
