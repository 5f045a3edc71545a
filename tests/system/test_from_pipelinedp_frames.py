"""PipelineDP's queries on data frames run on our engine: pandas frames and Beam's, keys with their types."""

from __future__ import annotations

import ast
import enum
import importlib.util
import inspect
from datetime import date
from decimal import Decimal
from pathlib import Path

import apache_beam as beam
import numpy as np
import pandas
import pipeline_dp
import polars
import pytest
from apache_beam.dataframe.convert import to_pcollection
from apache_beam.dataframe.io import read_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpbeam.adapters.pipelinedp.dataframes import Budget, QueryBuilder
from dpbeam.errors import RunFailed, UsageError
from tests.helpers.pipelinedp import dump, read_back

GAUSSIAN = pipeline_dp.NoiseKind.GAUSSIAN
BUDGET = Budget(epsilon=1, delta=1e-10)
MANY = {"max_groups_contributed": 50, "max_contributions_per_group": 50}


def visits(visitors: int) -> pandas.DataFrame:
    """Made up: one visit each, all over the week."""
    each = range(visitors)
    return pandas.DataFrame(
        {
            "visitor_id": list(each),
            "enter_time": [f"9:{visitor % 60:02}AM" for visitor in each],
            "spent_money": [10 + visitor % 20 for visitor in each],
            "day": [1 + visitor % 7 for visitor in each],
        }
    )


def week(df):
    """The query of PipelineDP's example."""
    query = (
        QueryBuilder(df, "visitor_id")
        .groupby("day", max_groups_contributed=3, max_contributions_per_group=1)
        .count()
        .sum("spent_money", min_value=0, max_value=100)
        .mean("spent_money")
        .build_query()
    )
    return query.run_query(BUDGET, noise_kind=GAUSSIAN)


def check_week(found: pandas.DataFrame, true: pandas.DataFrame) -> None:
    assert list(found.columns) == ["day", "count", "sum", "mean"]
    assert found.dtypes.tolist() == ["int64", "float64", "float64", "float64"]
    found = found.sort_values("day", ignore_index=True)
    assert found.day.tolist() == [1, 2, 3, 4, 5, 6, 7]
    grouped = true.groupby("day").spent_money
    assert np.abs(found["count"] - grouped.count().to_numpy()).max() < 400
    assert np.abs(found["sum"] - grouped.sum().to_numpy()).max() < 40_000
    assert found["mean"].between(0, 100).all()
    assert (found["sum"].to_numpy() != grouped.sum().to_numpy()).any()  # noise is real


def test_the_example_runs_on_pandas() -> None:
    df = visits(21_000)
    check_week(week(df), df)


def test_the_example_runs_on_beams_data_frames(tmp_path) -> None:
    df = visits(21_000)
    df.to_csv(tmp_path / "visits.csv", index=False)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = week(pipeline | read_csv(str(tmp_path / "visits.csv")))
        as_frames = to_pcollection(found, yield_elements="pandas")
        as_frames | beam.combiners.ToList() | beam.Map(dump, tmp_path / "found")
    check_week(pandas.concat(read_back(tmp_path / "found"), ignore_index=True), df)


def counted(df, by, public=None):
    query = QueryBuilder(df, "who").groupby(by, public_keys=public, **MANY).count().build_query()
    return query.run_query(Budget(epsilon=10, delta=1e-6))


COLUMNS = {
    "whole": pandas.Series([3, 1, 3, 10]),
    "small": pandas.Series([3, 1, 3, -1], dtype="int8"),
    "text": pandas.Series(["b", "a", "b", "ß"]),
    "mixed": pandas.Series([1, "1", 1, 1.0], dtype=object),
    "yes": pandas.Series([True, False, True, False]),
    "floats": pandas.Series([0.5, 1.0, 0.5, -2.0]),
    "days": pandas.Series([date(2000, 1, 1), date(2000, 1, 2), date(2000, 1, 1), date(1999, 1, 1)], dtype=object),
    "moments": pandas.Series([10**18, 10**18 + 1, 10**18, -5], dtype="datetime64[ns]"),
    "seconds": pandas.Series([5, 6, 5, 0], dtype="datetime64[s]"),
    "zoned": pandas.Series([5, 6, 5, 0], dtype="int64").astype("datetime64[ns, Europe/Berlin]"),
    "spans": pandas.Series([5, 6, 5, -7], dtype="timedelta64[ns]"),
    "nullable": pandas.Series([3, 1, 3, 10], dtype="Int64"),
    "strings": pandas.Series(["b", "a", "b", "c"], dtype="string"),
    "category": pandas.Series(["b", "a", "b", "c"], dtype="category"),
    "arrow": pandas.Series([3, 1, 3, 10], dtype="int64[pyarrow]"),
    "arrow moments": pandas.Series([5, 6, 5, -7], dtype="datetime64[ns]").astype("timestamp[ns][pyarrow]"),
    "bytes": pandas.Series([b"b", b"a", b"b", b""], dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_keys_of_every_type_come_back_as_they_were(exact, kind) -> None:
    keys = COLUMNS[kind]
    found = counted(pandas.DataFrame({"who": range(4), "key": keys}), "key")
    dtype = keys.dtype.categories.dtype if kind == "category" else keys.dtype
    assert found.dtypes["key"] == dtype
    wanted = {repr((type(key), key)): 0 for key in keys.astype(dtype)}
    for key in keys.astype(dtype):
        wanted[repr((type(key), key))] += 1
    assert {repr((type(key), key)): n for key, n in zip(found["key"], found["count"], strict=True)} == wanted
    given = counted(pandas.DataFrame({"who": range(4), "key": keys}), "key", public=list(keys.astype(dtype)[:2]))
    assert sorted(given["count"]) == sorted(wanted[repr((type(key), key))] for key in keys.astype(dtype)[:2])


numbers = st.integers(-3, 3)
moments = st.integers(-(2**40), 2**40)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(numbers, numbers, st.text(max_size=2), moments), min_size=1, max_size=12))
def test_any_frame_is_counted_as_pandas_counts_it(exact, rows) -> None:
    df = pandas.DataFrame(rows, columns=["who", "a", "b", "c"]).astype({"c": "datetime64[us]"})
    found = counted(df, ["a", "b", "c"])
    true = df.groupby(["a", "b", "c"], as_index=False).size().rename(columns={"size": "count"})
    wanted = {tuple(row[:3]): row[3] for row in true.itertuples(index=False)}
    assert {tuple(row[:3]): row[3] for row in found.itertuples(index=False)} == wanted
    assert found.dtypes[["a", "b", "c"]].equals(df.dtypes[["a", "b", "c"]])


def test_a_category_that_no_released_row_has_is_not_told() -> None:
    rows = [("inn", who) for who in range(3000)] + [("secret", 0)]
    df = pandas.DataFrame(rows, columns=["place", "who"]).astype({"place": "category"})
    query = QueryBuilder(df, "who").groupby("place", **MANY | {"max_groups_contributed": 2}).count().build_query()
    found = query.run_query(Budget(epsilon=5, delta=1e-12))
    assert found.place.tolist() == ["inn"]
    assert "secret" not in f"{found.to_dict()} {found.dtypes.to_dict()}"


def test_rows_that_lack_something_are_left_out(exact) -> None:
    df = pandas.DataFrame(
        {"who": [1, 2, None, 4, 5], "key": [1, None, 1, 1, 1], "value": [2.0, 2.0, 2.0, np.nan, np.inf]}
    )
    query = QueryBuilder(df, "who").groupby("key", **MANY).count().sum("value", min_value=0, max_value=5).build_query()
    found = query.run_query(Budget(epsilon=10, delta=1e-6))
    assert found.to_dict("records") == [{"key": 1.0, "count": 1.0, "sum": 2.0}]


def test_public_keys_are_all_there_as_their_column_has_them(exact) -> None:
    """A missing id makes pandas' whole numbers floats; 1 is 1.0 then."""
    df = pandas.DataFrame({"who": [1, 2, 3], "key": [1, 1, None], "b": ["x", "y", "x"]})
    found = counted(df, ["key", "b"], public=[(1, "x"), (7, "x")])
    assert found.to_dict("records") == [{"key": 1.0, "b": "x", "count": 1.0}, {"key": 7.0, "b": "x", "count": 0.0}]


def test_public_keys_of_a_column_of_any_values_keep_their_types(exact) -> None:
    df = pandas.DataFrame({"who": [1, 2, 3], "key": pandas.Series([1, 1.0, "1"], dtype=object)})
    found = counted(df, "key", public=[1, 1.0, "1", True])
    assert [(type(key), n) for key, n in zip(found["key"], found["count"], strict=True)] == [
        (bool, 0.0), (float, 1.0), (int, 1.0), (str, 1.0)
    ]  # fmt: skip


def test_names_may_be_given(exact) -> None:
    df = visits(14)
    query = (
        QueryBuilder(df, "visitor_id").groupby("day", **MANY).count("visits")
        .mean("spent_money", min_value=0, max_value=50, name="spent").build_query()
    )  # fmt: skip
    found = query.run_query(Budget(epsilon=10, delta=1e-6))
    assert found.visits.tolist() == [2.0] * 7
    assert found.spent.tolist() == pytest.approx(df.groupby("day").spent_money.mean().tolist())


def test_a_table_without_rows_gives_one_without_rows() -> None:
    found = counted(pandas.DataFrame({"who": pandas.Series(dtype="int64"), "key": pandas.Series(dtype=object)}), "key")
    assert found.shape == (0, 2)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize("value", [Decimal("1.0"), Colour.RED, pandas.Period("2000-01"), 1j])
def test_keys_of_other_types_end_the_query_with_the_types_name(value) -> None:
    with pytest.raises(RunFailed, match=f"partition keys must be str, .*, got .*{type(value).__name__}; have the"):
        counted(pandas.DataFrame({"who": [1], "key": pandas.Series([value], dtype=object)}), "key")


def test_an_error_quotes_no_row() -> None:
    df = pandas.DataFrame({"who": [1], "key": [1], "value": ["canary-7731"]})
    query = QueryBuilder(df, "who").groupby("key", **MANY).sum("value", min_value=0, max_value=5).build_query()
    with pytest.raises(RunFailed) as failed:
        query.run_query(BUDGET)
    assert str(failed.value) == "step ExtractColumns failed with ValueError; nothing was published"
    assert failed.value.__cause__ is failed.value.__context__ is None


def test_builder_takes_the_calls_of_pipelinedps() -> None:
    """Read, not imported: PipelineDP's module needs pyspark."""
    source = Path(importlib.util.find_spec("pipeline_dp.dataframes").origin).read_text(encoding="utf-8")
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    calls = {node.name: node.args for node in classes["QueryBuilder"].body if isinstance(node, ast.FunctionDef)}
    for name in ("groupby", "count", "sum", "mean", "build_query"):
        wanted = [argument.arg for argument in (*calls[name].args, *calls[name].kwonlyargs)]
        assert list(inspect.signature(getattr(QueryBuilder, name)).parameters) == wanted


def build(df=None, **more):
    frame = visits(3) if df is None else df
    return QueryBuilder(frame, more.pop("unit", "visitor_id"))


def grouped(**more):
    return build().groupby(more.pop("by", "day"), **MANY, **more)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: build(polars.DataFrame({"a": [1]})),
         "df must be a pandas or an Apache Beam data frame, got polars.dataframe.frame.DataFrame; write the rows of "
         "another to Parquet, for a policy to read or for apache_beam.dataframe.io.read_parquet"),
        (lambda: build(unit="who"), "df must have the column 'who'"),
        (lambda: build(pandas.DataFrame([[1, 2]], columns=["a", "a"]), unit="a"),
         "df must have no two columns of one name: which of them is meant can't be told"),
        (lambda: grouped(by=["day", "who"]), "df must have the column 'who'"),
        (lambda: grouped(by=[]), "by must be the name of a column, or a list of names, got list"),
        (lambda: grouped(column="day"), "column isn't taken any more, as in PipelineDP: give it as by"),
        (lambda: grouped().groupby("day", **MANY), "groupby must be called once: name all columns in one list"),
        (lambda: build().count(),
         "groupby must be called first: a table that is one group is for a policy without group_by"),
        (lambda: grouped().build_query(), "there is nothing to compute: call count, sum or mean"),
        (lambda: grouped().count().count(), "count must be called once"),
        (lambda: grouped().sum("spent_money").mean("day").build_query(),
         "sum and mean must be of one column, got day, spent_money"),
        (lambda: grouped().sum("spent_money", min_value=1).build_query(),
         "sum and mean need one min_value and one max_value: give both once, or the same each time"),
        (lambda: grouped().count("day").build_query(),
         "each column of the result needs a name of its own, got day, day"),
        (lambda: grouped(public_keys=["x"]).count().build_query().run_query(BUDGET),
         "public_keys must be of their columns' types, and one is not of int64"),
        (lambda: grouped(public_keys="123").count().build_query().run_query(BUDGET),
         "public_keys must be a list of keys, got str"),
        (lambda: grouped(public_keys=[1.5]).count().build_query().run_query(BUDGET),
         "public_keys must be of their columns' types, and one is not of int64"),
        (lambda: grouped(by=["day"], public_keys=[1]).count().build_query().run_query(BUDGET),
         "public_keys must be tuples of 1 values, one for each column that is grouped by"),
        (lambda: grouped(public_keys=[]).count().build_query().run_query(BUDGET),
         "public_partitions must be a list or set with at least one partition key, or None"),
    ],
)  # fmt: skip
def test_what_cant_be_asked_is_refused(asked, message) -> None:
    with pytest.raises(UsageError) as refused:
        asked()
    assert str(refused.value) == message
