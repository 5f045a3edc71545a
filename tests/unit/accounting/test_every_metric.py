"""Every metric is planned, certified and turned into a stage under both noises, with all ways to have partitions."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.plan import plan
from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.engine.stage import planned_stage
from dpbeam.queries import custom
from dpbeam.queries.metrics import KINDS
from tests.helpers import kernel_reference as reference
from tests.helpers.queries import query_of

VALUES = {"column": "v", "low": 0.0, "high": 10.0}
METRICS = {
    "count": {},
    "privacy_id_count": {},
    "sum": VALUES,
    "mean": VALUES,
    "variance": VALUES,
    "stddev": VALUES,
    "quantiles": VALUES | {"ranks": [0.25, 0.75]},
    "median": VALUES,
    "min": VALUES,
    "max": VALUES,
    "vector_sum": {"columns": ["v", "w"], "norm": "l2", "max_norm": 3.0},
    "histogram": {"column": "v", "edges": [0, 5, 10]},
    "distinct_count": {"column": "t"},
    "top_k": {"column": "t", "k": 2, "max_values": 3},
    "custom": {"metric": "geometric_mean", "columns": ["v"], "params": {"low": 1.0, "high": 10.0}},
    "count_if": {"column": "v", "op": ">=", "value": 5},
}
PARTITIONS = {
    "public": {"group_by": ["p"], "partitions": {"public": {"values": ["a"]}}},
    "whole": {"group_by": []},
    **{
        strategy: {"group_by": ["p"], "partitions": {"private": {"strategy": strategy, "pre_threshold": 3}}}
        for strategy in (
            "truncated_geometric",
            "laplace_thresholding",
            "gaussian_thresholding",
            "dp_sips",
            "mad",
            "mad2r",
        )
    },
    "hierarchical": {
        "group_by": ["p", "t"],
        "partitions": {"private": {"strategy": "gaussian_thresholding", "hierarchical": True}},
    },
}


@pytest.fixture(autouse=True)
def _custom_metric(monkeypatch):
    monkeypatch.setitem(custom._registered, "geometric_mean", reference.GeometricMean)


def policy(metrics, noise, partitions, *, delta=1e-6):
    columns = {"u": "string", "p": "string", "t": "string", "v": "float64", "w": "float64"}
    stage = {"name": "s", "bounds": {"l0": 1, "linf": 3}, "metrics": metrics, "noise": noise} | PARTITIONS[partitions]
    return query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "u",
            "columns": {name: {"type": kind} for name, kind in columns.items()},
            "run": {"epsilon": 1.0, "delta": delta},
            "stages": [stage],
        }
    )


def test_this_file_knows_every_metric():
    assert tuple(METRICS) == KINDS


@pytest.mark.parametrize(("noise", "partitions"), list(itertools.product(["laplace", "gaussian"], PARTITIONS)))
def test_each_metric_is_certified_by_itself_and_all_together(noise, partitions):
    alone = [[{kind: args}] for kind, args in METRICS.items()]
    for metrics in (*alone, [metric for (metric,) in alone]):
        made = policy(metrics, noise, partitions)
        planned = plan(made)
        assert all(epsilon > 0 for epsilon in planned.certificate.to_json().values())
        assert planned.certificate.epsilon <= 1.0 + 1e-9
        spec = planned_stage(made.unit, made.stages[0], planned.mechanisms)
        if spec.hierarchical:
            spec = replace(spec, selection=None)  # as it is once the leaves are kept
        assert results.result_schema(spec).names
        assert set(noises(spec)) | set(spec.thresholds) == {
            q.name for q in spec.quantities if not (q.kind == "privacy_id_count" and spec.shares_count)
        }


@pytest.mark.parametrize(("noise", "delta"), [("laplace", 1e-14), ("gaussian", 1.9e-12)])
def test_a_delta_too_small_for_ffts_is_planned_too(noise, delta):
    made = policy([{kind: args} for kind, args in METRICS.items()], noise, f"{noise}_thresholding", delta=delta)
    assert 0.9 < plan(made).certificate.epsilon <= 1.0


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
def test_every_metric_shares_a_budget_with_jobs_of_pipelinedps(noise):
    made = policy([{kind: args} for kind, args in METRICS.items()], noise, "truncated_geometric")
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    (asked,) = made.stages
    stage = accountant.add_stage(asked)
    accountant.compute_budgets()
    assert {m.metric for m in stage.mechanisms} >= {"partitions", "t_top_k", "t_distinct_count", "v_geometric_mean"}
    assert certify_events(accountant.mechanisms, epsilon=1.0, delta=1e-6) == accountant.certificate
