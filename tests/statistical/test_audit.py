"""A black-box estimate of ε from neighbouring tables stays below the certified ε; each seeded bug lifts it above.

Each bound is above the truth with probability 1e-9 at most (`audit.FAILURE`); there are some 130 of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpbeam.engine.aggregation import kernels
from dpbeam.engine.bounding import hierarchy, sampling, votes
from dpbeam.engine.release import releaser
from dpbeam.mechanisms import noise, selection
from dpbeam.mechanisms.events import Laplace
from dpbeam.queries import custom
from tests.helpers import audit
from tests.helpers import kernel_reference as reference
from tests.helpers.audited_stages import HIERARCHICAL, METRICS, PUBLIC, SELECTIONS

COPIES = {"median": 800}
"""Releases of each table, by metric, where it isn't the usual: each search of a quantile draws 192 noises or more."""
USUAL_COPIES = 3_000


def least_epsilons(folder, stage, scenarios, copies=USUAL_COPIES):
    """{scenario: bound}. Scenarios with the same others share what is released without the one unit: each bound holds
    but with probability 1e-9 all the same."""
    policy, planned = audit.planned(folder, stage, copies)
    assert planned.certificate.epsilon <= audit.EPSILON * (1 + 1e-9)
    without = {others: audit.releases(policy, planned, others, copies) for others in {s.others for s in scenarios}}
    return {
        scenario.name: audit.least_epsilon(
            audit.releases(policy, planned, scenario.others + scenario.one, copies),
            without[scenario.others],
            audit.DELTA,
        )
        for scenario in scenarios
    }


def least_epsilon(folder, stage, scenario, copies=USUAL_COPIES):
    (found,) = least_epsilons(folder, stage, [scenario], copies).values()
    return found


def above(bounds):
    """The scenarios that cost more than certified."""
    return {name: bound for name, bound in bounds.items() if not bound <= audit.EPSILON}


@pytest.fixture(autouse=True)
def _custom_metric(monkeypatch):
    monkeypatch.setitem(custom._registered, "geometric_mean", reference.GeometricMean)


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("metric", METRICS)
def test_no_metric_costs_more_than_certified(tmp_path, metric, noise_kind):
    stage = {"metrics": [METRICS[metric]], "noise": noise_kind, "partitions": PUBLIC}
    assert above(least_epsilons(tmp_path, stage, audit.SCENARIOS, COPIES.get(metric, USUAL_COPIES))) == {}


@pytest.mark.parametrize("strategy", SELECTIONS)
def test_no_selection_costs_more_than_certified_with_the_counts_beside_it(tmp_path, strategy):
    stage = {"metrics": ["count", "privacy_id_count"], "noise": "gaussian", "partitions": SELECTIONS[strategy]}
    assert above(least_epsilons(tmp_path, stage, audit.SCENARIOS)) == {}


@pytest.mark.parametrize("bounds", [{"l1": 4}, {"l0": 2}])
@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
def test_no_other_bounds_cost_more_than_certified(tmp_path, bounds, noise_kind):
    metrics = [METRICS["total"], "privacy_id_count"] + (["count"] if "l1" in bounds else [])
    stage = {"metrics": metrics, "noise": noise_kind, "bounds": bounds, "partitions": PUBLIC}
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[1]) <= audit.EPSILON


# Coverage, which has half of the budget so that the audit comes near it, beside the results that it is about.

COVERED = {"metrics": ["count"], "partitions": PUBLIC, "coverage": {"share": 0.5}}


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("partitions", ["public", "gaussian_thresholding"])
def test_no_coverage_costs_more_than_certified_with_the_results_beside_it(tmp_path, partitions, noise_kind):
    stage = COVERED | {"noise": noise_kind, "partitions": SELECTIONS[partitions]}
    assert above(least_epsilons(tmp_path, stage, audit.SCENARIOS)) == {}


@pytest.mark.parametrize("scenario", [1, 2])
def test_rows_that_are_counted_in_place_of_votes_are_caught(tmp_path, monkeypatch, scenario):
    def counts(read, passed, kept):
        return np.column_stack([read - passed, passed - kept, kept]).astype(float)

    monkeypatch.setattr(votes, "shares", counts)
    monkeypatch.setattr(kernels, "shorten", lambda vectors, *_: vectors)
    stage = COVERED | {"noise": "laplace"}
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[scenario]) > audit.EPSILON


def test_coverage_that_no_mechanism_pays_for_is_caught(tmp_path, monkeypatch):
    paid = audit.counting

    def free(known):
        stages = paid(known).stages
        noise_of = {"rows": Laplace(stage="audited.coverage", metric="rows", scale=0.4, l1=1.0)}
        return replace(known, stages=tuple(replace(s, noise=noise_of) if s.votes else s for s in stages))

    monkeypatch.setattr(audit, "counting", free)
    assert least_epsilon(tmp_path, COVERED | {"noise": "laplace"}, audit.SCENARIOS[1]) > audit.EPSILON


# Hierarchical keys: a unit all of whose leaves fall into one `other`, and one who hits every bound of leaves that are
# kept. Most of the budget is the metric's, so that the audit comes near it.

IN_OTHERS = {name: METRICS[name] for name in ("count", "privacy_id_count", "total", "distinct_count")}
KEPT = audit.Scenario(
    name="one who hits every bound of kept leaves", others=audit.others(60), one=audit.SCENARIOS[1].one
)


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("metric", IN_OTHERS)
def test_no_metric_of_hierarchical_keys_costs_more_than_certified(tmp_path, metric, noise_kind):
    stage = HIERARCHICAL | {"metrics": [IN_OTHERS[metric]], "noise": noise_kind}
    assert least_epsilon(tmp_path, stage, audit.ALL_IN_ONE_OTHER) <= audit.EPSILON


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
def test_leaves_of_hierarchical_keys_cost_no_more_than_certified(tmp_path, noise_kind):
    stage = HIERARCHICAL | {"metrics": ["count"], "noise": noise_kind, "bounds": {"l0": 2, "linf": 2}}
    assert least_epsilon(tmp_path, stage, KEPT) <= audit.EPSILON


def test_others_with_the_noise_of_leaves_are_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(releaser, "in_others", lambda mechanism: mechanism)
    stage = HIERARCHICAL | {"metrics": ["count"], "noise": "gaussian"}
    assert least_epsilon(tmp_path, stage, audit.ALL_IN_ONE_OTHER) > audit.EPSILON


def test_a_unit_that_counts_for_each_of_its_leaves_in_an_other_is_caught(tmp_path, monkeypatch):
    once = hierarchy.rolled

    def for_each_leaf(bounded):
        return replace(once(bounded), pairs=bounded.cells.codes[bounded.pairs])

    monkeypatch.setattr(hierarchy, "rolled", for_each_leaf)
    stage = HIERARCHICAL | {"metrics": ["privacy_id_count"], "noise": "gaussian"}
    assert least_epsilon(tmp_path, stage, audit.ALL_IN_ONE_OTHER) > audit.EPSILON


# The six seeded bugs. Each must lift the bound above the certified ε, or the audit would not see it.

COUNTING = {"metrics": ["count"], "noise": "laplace", "partitions": PUBLIC}


class Silent:
    def add_noise(self, value):
        return value


@pytest.mark.parametrize("metric", METRICS)
def test_missing_noise_is_caught(tmp_path, monkeypatch, metric):
    monkeypatch.setattr(noise, "_laplace", lambda *_: Silent())
    stage = COUNTING | {"metrics": [METRICS[metric]]}
    copies = COPIES.get(metric, USUAL_COPIES)
    scenario = audit.SCENARIOS[3]
    if metric == "top_k":  # below its threshold nothing shows, with noise or without
        scenario = audit.Scenario(name="one more of many", others=audit.others(20, "a"), one=(("me", "a", 5.0),))
        copies = 1_000
    assert least_epsilon(tmp_path, stage, scenario, copies) > audit.EPSILON


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
def test_half_the_noise_is_caught(tmp_path, monkeypatch, noise_kind):
    laplace, gaussian = noise._laplace, noise._gaussian
    monkeypatch.setattr(noise, "_laplace", lambda scale: laplace(scale / 2))
    monkeypatch.setattr(noise, "_gaussian", lambda sigma: gaussian(sigma / 2))
    stage = COUNTING | {"noise": noise_kind, "bounds": {"l0": 1, "linf": 1}}
    # For Gaussian noise 20,000 give 1.25, with a standard deviation of 0.07: too near.
    copies = 20_000 if noise_kind == "laplace" else 40_000
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[0], copies) > audit.EPSILON


def test_a_skipped_l0_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "_within_l0", lambda _, __, ___, pair_unit, *____: pair_unit >= 0)
    stage = COUNTING | {"noise": "gaussian", "bounds": {"l0": 1, "linf": 1}}
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[1], copies=20_000) > audit.EPSILON


def test_a_skipped_linf_is_caught(tmp_path, monkeypatch):
    within = sampling._within_linf
    monkeypatch.setattr(sampling, "_within_linf", lambda _, *rest: within(None, *rest))
    stage = COUNTING | {"noise": "gaussian", "bounds": {"l0": 4, "linf": 1}}
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[1], copies=20_000) > audit.EPSILON


def forget_delta(monkeypatch):
    """Makes a threshold only say that the noisy count is at least one unit's."""
    build = selection._strategy

    def without_delta(mechanism):
        built = build(mechanism)
        return replace(built, threshold=1.0)

    monkeypatch.setattr(selection, "_strategy", without_delta)


@pytest.mark.parametrize("strategy", ["laplace_thresholding", "gaussian_thresholding"])
def test_a_forgotten_delta_in_the_threshold_is_caught(tmp_path, monkeypatch, strategy):
    forget_delta(monkeypatch)
    stage = {"metrics": ["count"], "noise": "laplace", "partitions": {"private": {"strategy": strategy}}}
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[3]) > audit.EPSILON


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
def test_a_forgotten_delta_in_the_threshold_of_values_is_caught(tmp_path, monkeypatch, noise_kind):
    forget_delta(monkeypatch)
    stage = {"metrics": [METRICS["top_k"]], "noise": noise_kind, "partitions": PUBLIC}
    assert least_epsilon(tmp_path, stage, audit.SCENARIOS[1]) > audit.EPSILON


def test_one_seed_for_every_value_is_caught(tmp_path, monkeypatch):
    class Repeated:
        """Draws once, and adds that to every value."""

        def __init__(self, sampler):
            self.drawn = sampler.add_noise(2**33) - 2**33

        def add_noise(self, value):
            return value + self.drawn

    laplace = noise._laplace
    monkeypatch.setattr(noise, "_laplace", lambda scale: Repeated(laplace(scale)))
    assert least_epsilon(tmp_path, COUNTING, audit.SCENARIOS[0]) > audit.EPSILON


def test_the_audit_comes_near_what_a_mechanism_costs(tmp_path):
    """A bound far below the truth would see nothing: for Laplace noise on one count it finds more than half of ε."""
    found = least_epsilon(tmp_path, COUNTING | {"bounds": {"l0": 1, "linf": 1}}, audit.SCENARIOS[0], copies=20_000)
    assert 0.5 * audit.EPSILON < found <= audit.EPSILON
