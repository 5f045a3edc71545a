"""Rows that are aggregated already: what a unit can move, however its rows are written, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.accounting import plan as plans
from dpbeam.accounting.check import check_plan
from dpbeam.engine.aggregation import accumulate, kernels
from dpbeam.engine.bounding import contributions
from dpbeam.engine.stage import planned_stage
from dpbeam.errors import Refused
from dpbeam.policy.violations import PolicyError
from dpbeam.reading.rows import prepare
from tests.helpers import kernel_reference as reference
from tests.helpers.queries import load_query, query_of

POLICY = """\
version: 1
dataset: visits
source: {format: jsonl, path: d.jsonl, pre_aggregated: {count: n}}
privacy_unit: u
columns: {u: {type: int64}, p: {type: int64}, n: {type: int64}, v: {type: float64}}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: by_p
    group_by: [p]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 3, linf: 5}
    metrics: [count, privacy_id_count, sum: {column: v, low_total: -2, high_total: 7}]
    noise: gaussian
"""


def load(tmp_path, text=POLICY):
    (tmp_path / "policy.yaml").write_text(text)
    return load_query(tmp_path / "policy.yaml")


def test_the_plan_has_the_sensitivities_of_clipped_totals(tmp_path):
    made = {m.metric: m for m in plans.plan(load(tmp_path)).mechanisms}
    assert made["count"].l2 == pytest.approx(5 * math.sqrt(3))
    assert made["privacy_id_count"].l2 == pytest.approx(math.sqrt(3))
    assert made["v_sum"].l2 == pytest.approx(7 * math.sqrt(3))
    laplace = {m.metric: m for m in plans.plan(load(tmp_path, POLICY.replace("gaussian", "laplace"))).mechanisms}
    assert {name: laplace[name].l1 for name in made if name != "partitions"} == {
        "count": 15.0,
        "privacy_id_count": 3.0,
        "v_sum": 21.0,
    }


def test_a_plan_for_single_rows_is_refused_for_sums_of_them(tmp_path):
    """The check derives sensitivities itself: a count planned for l0 = 1 or linf = 4 doesn't pass."""
    policy = load(tmp_path)
    for changed in ("l0: 1, linf: 5", "l0: 3, linf: 4"):
        other = plans.plan(load(tmp_path, POLICY.replace("l0: 3, linf: 5", changed)))
        with pytest.raises(Refused, match="by the stage's bounds"):
            check_plan(policy.stages, other.mechanisms, epsilon=1.0, delta=1e-8)


def test_a_count_is_the_total_of_the_counts_column_without_a_bound_on_rows(tmp_path):
    policy = load(tmp_path)
    (stage,) = policy.stages
    spec = planned_stage(policy.unit, stage, plans.plan(policy).mechanisms)
    count = spec.quantities[0]
    assert (count.kind, count.columns, count.low, count.high) == ("total", ("n",), 0.0, 5.0)
    assert (spec.bounds.l0, spec.bounds.linf, spec.bounds.l1) == (3, None, None)


def rows_of(unit):
    counts = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 9)
    values = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-9, 9)
    return st.lists(st.tuples(st.just(unit), st.integers(0, 4), counts, values), max_size=12)


@settings(max_examples=150, deadline=None)
@given(rows_of(1), rows_of(2))
def test_a_unit_moves_each_figure_by_its_sensitivity_whatever_its_rows_say(tmp_path_factory, others, own):
    """Several rows of one partition, negative and absurd counts: all of it is one total, clipped."""
    policy = load(tmp_path_factory.mktemp("p"))
    (stage,) = policy.stages
    spec = planned_stage(policy.unit, stage, plans.plan(policy).mechanisms)
    read = policy.source
    schema = pa.schema([("u", pa.int64()), ("p", pa.int64()), ("n", pa.int64()), ("v", pa.float64())])

    def figures(rows):
        raw = pa.RecordBatch.from_pylist([dict(zip("upnv", row, strict=True)) for row in rows], schema=schema)
        bounded = contributions.bound([prepare(raw, read)], spec, reference.SALT, (0,))
        found = accumulate.accumulate(bounded, spec)
        keys = found.column("p").to_pylist()
        made = {}
        for quantity in spec.quantities:
            step = 1 if quantity.kind == "privacy_id_count" else Fraction(kernels.grid_of(quantity).step)
            numbers = found.column(accumulate.quantity_column(spec, quantity)).to_pylist()
            made[quantity.name] = {key: number * step for key, number in zip(keys, numbers, strict=True)}
        return made

    before, after = figures(others), figures([*others, *own])
    for quantity in spec.quantities:
        old, new = before[quantity.name], after[quantity.name]
        moved = [new.get(key, 0) - old.get(key, 0) for key in {*old, *new}]
        l1, l2 = quantity.sensitivity(spec.bounds)
        assert sum(map(abs, moved)) <= l1
        assert sum(change**2 for change in moved) <= Fraction(l2) ** 2 * (1 + Fraction(1, 10**12))


def test_counts_of_one_unit_add_up_and_are_clipped_and_rows_of_none_leave_no_trace(tmp_path):
    policy = load(tmp_path)
    spec = planned_stage(policy.unit, policy.stages[0], plans.plan(policy).mechanisms)
    raw = pa.record_batch(
        {"u": [1, 1, 2, 3, 4], "p": [0, 0, 0, 0, 1], "n": [1, 2, 99, 0, -5], "v": [1.0, 0.5, 100.0, 3.0, 3.0]}
    )
    bounded = contributions.bound([prepare(raw, policy.source)], spec, reference.SALT, (0,))
    found = accumulate.accumulate(bounded, spec)
    grids = [kernels.grid_of(q).step if q.kind == "total" else 1 for q in spec.quantities]
    names = [accumulate.quantity_column(spec, q) for q in spec.quantities]
    figures = [found.column(name).to_pylist()[0] * step for name, step in zip(names, grids, strict=True)]
    assert found.column("p").to_pylist() == [0]
    assert figures == [3 + 5, 2, 1.5 + 7]


def test_a_sum_with_the_count_s_bounds_shares_its_noise(tmp_path):
    shared = POLICY.replace("metrics: [count,", "metrics: [count, sum: {column: n, low_total: 0, high_total: 5},")
    assert [m.metric for m in plans.plan(load(tmp_path, shared)).mechanisms] == [
        "partitions",
        "count",
        "privacy_id_count",
        "v_sum",
    ]


SUM = "sum: {column: v, low_total: -2, high_total: 7}"
NEEDS = "needs the values of single rows, and source.pre_aggregated has only their sums"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (SUM, "sum: {column: v, low: -2, high: 7}", f"metrics[2].sum {NEEDS}"),
        (SUM, "mean: {column: v, low: 0, high: 7}", f"metrics[2].mean {NEEDS}"),
        (SUM, "median: {column: v, low: 0, high: 7}", NEEDS),
        (SUM, "histogram: {column: v, edges: [0, 1]}", NEEDS),
        ("l0: 3, linf: 5", "l1: 5", "bounds.l1 bounds single rows, and source.pre_aggregated has only their counts"),
        ("l0: 3, linf: 5", "l0: 3", "metrics[0].count adds up rows"),
        ("privacy_unit: u", "privacy_unit: row", "privacy_unit must name a column with source.pre_aggregated"),
        ("count: n}", "count: m}", "source.pre_aggregated.count must name a column that stands under columns"),
        ("count: n}", "count: v}", "source.pre_aggregated.count must name a column of type int64, and v is float64"),
        ("{count: n}", "{}", "source.pre_aggregated.count is required"),
    ],
)  # fmt: skip
def test_what_rows_aggregated_already_can_not_give_is_refused(tmp_path, old, new, said):
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, POLICY.replace(old, new))
    assert said in str(caught.value)


def test_a_policy_that_was_not_checked_can_not_be_planned_either():
    fields = {
        "version": 1,
        "dataset": "d",
        "source": {"format": "csv", "path": "d", "pre_aggregated": {"count": "n"}},
        "privacy_unit": "u",
        "columns": {"u": {"type": "int64"}, "n": {"type": "int64"}},
        "run": {"epsilon": 1, "delta": 1e-8},
        "stages": [
            {"name": "a", "group_by": [], "bounds": {"l0": 1, "linf": 2}, "noise": "laplace",
             "metrics": [{"mean": {"column": "n", "low": 0, "high": 1}}]}
        ],
    }  # fmt: skip
    with pytest.raises(ValueError, match="a mean can't be made of rows that are aggregated already"):
        query_of(fields)
    (stage,) = query_of(fields | {"source": {"format": "csv", "path": "d"}}).stages
    with pytest.raises(Refused, match="mean can't be bounded on rows that are aggregated already"):
        check_plan([replace(stage, counted_by="n")], [], epsilon=1.0, delta=1e-8)


def test_the_digest_tells_rows_aggregated_already_from_single_ones(tmp_path):
    other = POLICY.replace(", pre_aggregated: {count: n}", "")
    assert load(tmp_path).digest != load(tmp_path, other).digest
