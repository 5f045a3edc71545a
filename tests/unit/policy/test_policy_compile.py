"""What the plan and the engine get from a policy: input, metrics, keys, stage specs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpbeam.engine.stage import planned_stage
from dpbeam.mechanisms.events import Gaussian, Laplace, TruncatedGeometric
from dpbeam.policy.compile import input_spec, query
from dpbeam.policy.load import load_policy
from dpbeam.policy.schema.metrics import MetricChoice
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.means import Mean
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.source import Bin, Column, Condition, InputSpec, Lower, Rule, Truncate

TEXT = """\
version: 1
dataset: visits
source: {format: csv, path: [a.csv, "gs://b/c.csv"], delimiter: ";"}
privacy_unit: person
columns:
  person: {type: int64, on_null: fail}
  place: {type: string, on_invalid: {replace: "?"}}
  hours: {type: float64, on_nan: {replace: 0}, on_inf: fail}
  at: {type: timestamp, on_null: {replace: "2024-05-01 12:00+02:00"}}
derive:
  band: {bin: hours, edges: [1, 2]}
  day: {truncate: at, to: day}
  spot: {lower: place}
where:
  - {column: hours, op: ">=", value: 1}
  - {column: person, op: in, value: [1, 2]}
  - {column: at, op: "<", value: "2024-05-01 12:00Z"}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: one
    group_by: [person2, band, day]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 4, linf: 2}
    metrics:
      - count
      - privacy_id_count: {weight: 3}
      - sum: {column: hours, low: 0, high: 8}
      - mean: {column: hours, low: -1, high: 1, name: m}
    noise: gaussian
"""


@pytest.fixture
def policy(tmp_path):
    text = TEXT.replace("  place:", "  person2: {type: int64}\n  place:", 1)
    (tmp_path / "policy.yaml").write_text(text)
    return load_policy(tmp_path / "policy.yaml")


NOISE = [
    Gaussian(stage="one", metric=name, sigma=1.0, l2=1.0)
    for name in ("count", "privacy_id_count", "hours_sum", "m.sum")
]
SELECTION = TruncatedGeometric(stage="one", epsilon=0.5, delta=1e-9, l0=4)


def test_the_input_spec_holds_every_row_local_step(policy, tmp_path):
    assert input_spec(policy) == InputSpec(
        format="csv",
        paths=(str(Path(tmp_path) / "a.csv"), "gs://b/c.csv"),
        delimiter=";",
        columns=(
            Column(name="person", type="int64", on_null=Rule(action="fail")),
            Column(name="person2", type="int64"),
            Column(name="place", type="string", on_invalid=Rule(action="replace", value="?")),
            Column(name="hours", type="float64", on_nan=Rule(action="replace", value=0.0), on_inf=Rule(action="fail")),
            Column(name="at", type="timestamp", on_null=Rule(action="replace", value="2024-05-01T10:00:00")),
        ),
        derived=(
            Bin(name="band", column="hours", edges=(1.0, 2.0)),
            Truncate(name="day", column="at", unit="day"),
            Lower(name="spot", column="place"),
        ),
        where=(
            Condition(column="hours", op=">=", value=1.0),
            Condition(column="person", op="in", value=(1, 2)),
            Condition(column="at", op="<", value="2024-05-01T12:00:00"),
        ),
    )


def test_metrics_keep_their_order_names_bounds_and_weights(policy):
    assert query(policy).stages[0].metrics == (
        Count(name="count"),
        UnitCount(name="privacy_id_count", weight=3.0),
        Sum(name="hours_sum", column="hours", low=0.0, high=8.0),
        Mean(name="m", column="hours", low=-1.0, high=1.0),
    )


def test_a_median_is_a_quantile_and_a_minimum_one_that_noise_lets_see():
    values = {"column": "hours", "low": 0, "high": 8}
    made = [MetricChoice.model_validate({kind: values}).metric({}) for kind in ("median", "min", "max")]
    assert [(each.kind, each.name, each.ranks) for each in made] == [
        ("median", "hours_median", (0.5,)),
        ("min", "hours_min", (0.005,)),
        ("max", "hours_max", (0.995,)),
    ]


@pytest.mark.parametrize(
    ("kind", "args", "released"),
    [
        ("stddev", {"column": "h", "low": 0, "high": 8}, ("h_stddev",)),
        ("quantiles", {"column": "h", "low": 0, "high": 8, "ranks": [0, 0.25, 0.999]}, ("h_p0", "h_p25", "h_p99_9")),
        ("histogram", {"column": "h", "edges": [0, 4, 8]}, ("h_histogram_0", "h_histogram_1")),
        ("vector_sum", {"columns": ["h", "i"], "norm": "l1", "max_norm": 2}, ("vector_sum_0", "vector_sum_1")),
        ("vector_sum", {"columns": ["h"], "norm": "l2", "max_norm": 2, "name": "e"}, ("e_0",)),
        ("distinct_count", {"column": "h"}, ("h_distinct_count",)),
        ("top_k", {"column": "h", "k": 2, "max_values": 3}, ("h_top_k_1_count", "h_top_k_2_count")),
    ],
)
def test_released_columns_are_named_after_what_they_hold(kind, args, released):
    assert MetricChoice.model_validate({kind: args}).metric({}).released == released


def test_the_values_of_a_top_k_stand_before_their_counts():
    made = MetricChoice.model_validate({"top_k": {"column": "h", "k": 2, "max_values": 3, "name": "best"}}).metric({})
    assert made.labels == ("best_1", "best_2")


def test_candidates_become_text_as_the_engine_writes_values():
    args = {"column": "h", "k": 1, "max_values": 1, "candidates": [True, False, 7, "x"]}
    assert MetricChoice.model_validate({"top_k": args}).metric({}).candidates == ("true", "false", "7", "x")


def test_derived_keys_are_text(policy):
    assert query(policy).stages[0].key_types == ("int64", "string", "string")


def test_a_stage_spec_takes_the_mechanisms_of_its_stage(policy):
    other = Laplace(stage="two", metric="count", scale=1.0, l1=1.0)
    made = planned_stage("person", query(policy).stages[0], [other, SELECTION, *NOISE])
    assert (made.unit, made.keys, made.bounds) == ("person", ("person2", "band", "day"), Bounds(l0=4, linf=2))
    assert dict(made.noise) == {mechanism.metric: mechanism for mechanism in NOISE}
    assert made.selection == SELECTION


def test_a_stage_spec_without_a_mechanism_it_needs_is_refused(policy):
    with pytest.raises(ValueError, match="stage one: the plan's noise doesn't match the stage's quantities"):
        planned_stage("person", query(policy).stages[0], [SELECTION, *NOISE[1:]])


def test_a_private_stage_without_a_selection_is_refused(policy):
    with pytest.raises(ValueError, match="stage one: the plan's selection doesn't match the stage's partitions"):
        planned_stage("person", query(policy).stages[0], NOISE)


def test_where_rows_are_units_the_stage_has_no_unit_column():
    adult = query(load_policy(Path(__file__).parents[3] / "examples" / "adult" / "policy.yaml"))
    stage = adult.stages[1]
    noise = [
        Gaussian(stage=stage.name, metric=name, sigma=1.0, l2=1.0)
        for name in ("privacy_id_count", "hours_mean.sum", "count")
    ]
    assert planned_stage(adult.unit, stage, noise).unit is None
