"""What a plan lists, how weights share noise, what it prints."""

from __future__ import annotations

import json

import pytest

from dpbeam.accounting.plan import plan, requests_for
from dpbeam.mechanisms.events import from_json
from dpbeam.policy.schema import Policy


def policy(*stages, epsilon=1.0, delta=1e-6):
    return Policy.model_validate(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "user",
            "columns": {"user": {"type": "string"}, "k": {"type": "string"}, "hours": {"type": "float64"}},
            "run": {"epsilon": epsilon, "delta": delta},
            "stages": list(stages),
        }
    )


def stage(name="a", metrics=("count",), private="gaussian_thresholding", weight=1.0, noise="laplace", l0=3, linf=2):
    partitions = {"private": {"strategy": private}} if private else {"public": {"values": ["x"]}}
    return {
        "name": name,
        "group_by": ["k"],
        "partitions": partitions,
        "bounds": {"l0": l0, "linf": linf},
        "metrics": list(metrics),
        "noise": noise,
        "weight": weight,
    }


def test_a_private_stage_asks_for_its_selection_then_its_quantities():
    asked = requests_for(policy(stage(metrics=["privacy_id_count", "count"])))
    assert [(r.metric, r.kind) for r in asked] == [
        ("partitions", "gaussian_thresholding"),
        ("privacy_id_count", "laplace"),
        ("count", "laplace"),
    ]


def test_public_partitions_ask_for_no_selection():
    assert [r.metric for r in requests_for(policy(stage(private=None)))] == ["count"]


def test_sensitivities_follow_the_bounds_of_the_stage():
    mean = {"mean": {"column": "hours", "low": 0.0, "high": 10.0}}
    total = {"sum": {"column": "hours", "low": -7.0, "high": 3.0}}
    asked = requests_for(policy(stage(metrics=["privacy_id_count", total, mean], private=None)))
    assert {r.metric: (r.l0, r.linf_sensitivity) for r in asked} == {
        "privacy_id_count": (3, 1.0),
        "hours_sum": (3, 14.0),
        "hours_mean.sum": (3, 10.0),
        "count": (3, 2.0),
    }


def test_the_weights_in_a_stage_sum_to_the_weight_of_the_stage():
    asked = requests_for(policy(stage(metrics=["count", "privacy_id_count"], weight=2.0), stage("b", weight=0.5)))
    assert sum(r.weight for r in asked if r.stage == "a") == pytest.approx(2.0)
    assert sum(r.weight for r in asked if r.stage == "b") == pytest.approx(0.5)


def test_a_metric_more_in_one_stage_takes_nothing_from_the_other():
    alone = plan(policy(stage("a", ["count"]), stage("b")))
    joined = plan(policy(stage("a", ["count", "privacy_id_count"]), stage("b")))
    assert joined.mechanisms[-1].scale <= alone.mechanisms[-1].scale * 1.01


def test_a_plan_names_its_dataset_policy_and_target():
    made = policy(stage())
    planned = plan(made)
    assert (planned.dataset, planned.policy_digest) == ("d", made.digest)
    assert (planned.epsilon, planned.delta) == (1.0, 1e-6)


def test_a_plan_is_the_same_each_time():
    assert plan(policy(stage())) == plan(policy(stage()))


def test_a_plan_meets_its_target_closely():
    certificate = plan(policy(stage(noise="gaussian"), stage("b", private="truncated_geometric"))).certificate
    assert 0.95 <= certificate.epsilon <= 1.0


def test_the_json_of_a_plan_gives_back_its_mechanisms():
    planned = plan(policy(stage(metrics=["count", {"mean": {"column": "hours", "low": 0.0, "high": 1.0}}])))
    printed = json.loads(json.dumps(planned.to_json(), allow_nan=False))
    assert tuple(from_json(fields) for fields in printed["mechanisms"]) == planned.mechanisms
    assert set(printed) == {
        "version",
        "dataset",
        "policy_digest",
        "epsilon",
        "delta",
        "mechanisms",
        "certificate",
        "utility",
    }
    assert set(printed["certificate"]) == {"naive", "rdp", "pld"}


@pytest.mark.parametrize("epsilon", [0.001, 100.0])
def test_an_unusual_epsilon_is_still_planned(epsilon):
    certificate = plan(policy(stage(), stage("b", noise="gaussian"), epsilon=epsilon)).certificate
    assert 0.95 * epsilon <= certificate.epsilon <= epsilon
