"""Made-up rows are of a policy's types, keep its conditions, fall into its partitions, and come from its words."""

from __future__ import annotations

import math
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from dpbeam.errors import UsageError
from dpbeam.pipelines.rehearsal.made_up import ROWS_A_UNIT, made_up
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.load import load_policy
from dpbeam.queries.query import Query
from dpbeam.reading.casting import ARROW_TYPES
from dpbeam.reading.derive import holds
from dpbeam.reading.derived_columns import add_derived
from tests.helpers import random_policies

BASE = """\
version: 1
dataset: visits
source: {format: csv, path: nowhere.csv}
privacy_unit: person
columns:
  person: {type: string}
  city: {type: string, field: Home City}
  age: {type: int64}
  cost: {type: float64}
  day: {type: date}
  at: {type: timestamp}
derive:
  band: {bin: age, edges: [18, 30, 65]}
  town: {lower: city}
  week: {truncate: day, to: week}
  hour: {truncate: at, to: hour}
  loud: {expression: upper(city)}
  shared: {expression: cost / age, on_invalid: fail}
  size: {expression: "case when age < 3 then 'small' when age < 600 then 'middle' else 'large' end"}
  opened: {expression: "parse_date(city, '%d.%m.%Y')", on_invalid: fail}
  opened_week: {truncate: opened, to: week}
  paid: {expression: "int64(city)", on_invalid: fail}
  flown: {expression: "int64(nullif(city, 'NA'))", on_invalid: fail}
  late: {expression: "int64(float64(city))", on_invalid: fail}
  bill: {expression: "parse_float64(nullif(city, 'NA'), ',')", on_invalid: fail}
  shown: {expression: "upper(nullif(city, '-'))", on_invalid: fail}
  land: {lookup: city, values: {Oslo: NO, Bergen: NO, Lyon: FR}, on_null: fail}
where: WHERE
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: stage
    group_by: [KEY]
    partitions: PARTITIONS
    bounds: {l0: 4, linf: 2}
    metrics: [count, sum: {column: cost, low: -5, high: 8}]
    noise: gaussian
"""


def question(tmp_path, key="city", partitions="{private: {strategy: truncated_geometric}}", where="[]") -> Query:
    text = BASE.replace("KEY", key).replace("PARTITIONS", partitions).replace("WHERE", where)
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    return compile_query(load_policy(tmp_path / "policy.yaml"))


def columns_of(query: Query, table: pa.Table) -> dict[str, pa.Array]:
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    return add_derived(columns, query.source.derived, table.num_rows)[0]


def kept(query: Query, columns: dict[str, pa.Array]) -> float:
    """The share of rows that meet all conditions."""
    kinds = {item.name: item.type for item in (*query.source.columns, *query.source.derived)}
    each = [holds(columns[where.column], kinds[where.column], where) for where in query.source.where]
    whole = pa.array([True] * len(next(iter(columns.values()))))
    for held in each:
        whole = pc.and_(whole, held)
    return pc.mean(pc.cast(whole, pa.float64())).as_py()


def test_every_unit_has_its_rows_of_the_columns_types(tmp_path) -> None:
    query = question(tmp_path)
    table = made_up(query, 50)
    assert table.num_rows == 50 * ROWS_A_UNIT
    assert dict(zip(table.column_names, table.schema.types, strict=True)) == {
        column.name: ARROW_TYPES[column.type] for column in query.source.columns
    }
    counts = pc.value_counts(table.column("person"))
    assert {each["counts"] for each in counts.to_pylist()} == {ROWS_A_UNIT}
    assert len(counts) == 50


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("city", ["Oslo", "Lyon"]),
        ("town", ["oslo", "lyon"]),
        ("age", [7, 8]),
        ("day", ["2026-02-03"]),
        ("at", ["2026-02-03T04:05:06"]),
        ("band", ["< 18", "[18, 30)", "[30, 65)", "≥ 65"]),
        ("week", ["2026-W48", "2020-W53"]),
        ("hour", ["2026-02-03T04"]),
        ("loud", ["OSLO", "LYON"]),
        ("size", ["small", "middle", "large"]),
        ("opened", ["2026-02-03"]),
        ("opened_week", ["2026-W48"]),
        ("paid", [700, 8]),
        ("flown", [700, 8]),
        ("late", [700, -8]),
        ("shown", ["OSLO", "LYON"]),
        ("land", ["NO", "FR"]),
    ],
)
def test_rows_fall_into_all_public_partitions(tmp_path, key, values) -> None:
    query = question(tmp_path, key, yaml.safe_dump({"public": {"values": values}}, default_flow_style=True).strip())
    found = columns_of(query, made_up(query, 500))[key]
    listed = query.stages[0].public.column(key).combine_chunks()
    assert pc.all(pc.is_in(listed, value_set=found)).as_py()


@pytest.mark.parametrize(
    "where",
    [
        '[{column: age, op: ">=", value: 70}, {column: age, op: "<", value: 75}]',
        '[{column: city, op: "in", value: [Oslo, Lyon]}, {column: city, op: "!=", value: Oslo}]',
        '[{column: band, op: "==", value: "[18, 30)"}]',
        '[{column: week, op: "==", value: 2026-W48}]',
        '[{column: day, op: ">", value: "2031-01-01"}]',
        '[{column: at, op: "<", value: "1999-01-01 00:00"}]',
        '[{column: town, op: "not_in", value: [oslo]}]',
        '[{column: day, op: "<=", value: "9999-12-31"}]',
        '[{column: loud, op: "==", value: OSLO}]',
        '[{column: shared, op: ">", value: 0.5}, {column: age, op: "==", value: 9}]',
        '[{column: opened, op: ">=", value: "2031-01-01"}]',
        '[{column: paid, op: ">", value: 1000}]',
        '[{column: flown, op: ">", value: 1000}]',
        '[{column: late, op: "<", value: -1000}]',
        '[{column: bill, op: "==", value: 2000.5}]',
        '[{column: land, op: "==", value: FR}]',
        '[{column: size, op: "==", value: large}]',
    ],
)
def test_all_rows_meet_the_conditions(tmp_path, where) -> None:
    query = question(tmp_path, where=where)
    assert kept(query, columns_of(query, made_up(query, 100))) == 1.0


def test_rows_fall_into_the_partition_that_takes_all_others_too(tmp_path) -> None:
    query = question(tmp_path, partitions="{public: {values: [Oslo, Lyon], other: elsewhere}}")
    columns = columns_of(query, made_up(query, 500))
    assert set(columns["__partition.stage"].to_pylist()) == {"Oslo", "Lyon", "elsewhere"}


def test_no_row_is_made_up_that_a_rule_would_fail(tmp_path) -> None:
    query = question(tmp_path, where='[{column: shared, op: ">", value: -100}, {column: paid, op: ">=", value: 0}]')
    table = made_up(query, 100)
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    assert table.num_rows == 300
    assert add_derived(columns, query.source.derived, 300)[1] is None


def test_conditions_that_no_row_meets_are_said(tmp_path) -> None:
    query = question(tmp_path, where='[{column: shared, op: ">", value: 5}, {column: shared, op: "<", value: 4}]')
    with pytest.raises(UsageError) as refused:
        made_up(query, 10)
    assert str(refused.value) == (
        "no row that can be made up meets all of the policy's conditions (where) and the rules of its derived columns; "
        "look whether any can"
    )


def test_values_lie_on_all_of_the_clipping_bounds(tmp_path) -> None:
    cost = made_up(question(tmp_path), 2000).column("cost")
    assert (pc.min(cost).as_py(), pc.max(cost).as_py()) == (-5.0, 8.0)


def test_conditions_that_no_value_meets_are_said(tmp_path) -> None:
    query = question(tmp_path, where='[{column: age, op: "<", value: 3}, {column: age, op: ">", value: 5}]')
    with pytest.raises(UsageError) as refused:
        made_up(query, 10)
    assert str(refused.value) == (
        "no value of column age that can be made up meets the policy's conditions (where) on it; look whether any can"
    )


def test_data_is_made_up_for_any_policy(tmp_path) -> None:
    """300 random ones, with all that a policy may say; a random condition may be one that nothing meets."""
    rng, made = Random(), 0
    for _ in range(300):
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(random_policies.policy(rng)), encoding="utf-8")
        query = compile_query(load_policy(tmp_path / "policy.yaml"))
        try:
            table = made_up(query, 5)
        except UsageError:
            continue
        made += 1
        assert table.num_rows == (5 if query.unit is None else 5 * ROWS_A_UNIT)
        assert math.isclose(kept(query, columns_of(query, table)), 1.0)
    assert made > 250
