"""Selections in rounds: their plans, what they cost, and slips in them, each refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.check import check_plan
from dpbeam.accounting.plan import plan
from dpbeam.accounting.rounds import novel_weight, round_weights
from dpbeam.errors import Refused
from dpbeam.mechanisms.events import from_json, to_json
from tests.helpers.queries import query_of

EPSILON, DELTA = 1.0, 1e-6
STRATEGIES = ("dp_sips", "mad", "mad2r")

FIELDS = {
    "version": 1,
    "dataset": "d",
    "source": {"format": "csv", "path": "d.csv"},
    "privacy_unit": "user",
    "columns": {"user": {"type": "string"}, "k": {"type": "string"}},
    "run": {"epsilon": EPSILON, "delta": DELTA},
}


def policy(strategy="mad2r", metrics=("count",), **private):
    stage = {
        "name": "a",
        "group_by": ["k"],
        "partitions": {"private": {"strategy": strategy, **private}},
        "bounds": {"l0": 9, "linf": 2},
        "metrics": list(metrics),
    }
    if metrics:
        stage["noise"] = "gaussian"
    return query_of(FIELDS | {"stages": [stage]})


@pytest.mark.parametrize(
    ("strategy", "rounds", "names"),
    [("dp_sips", None, 3), ("dp_sips", 5, 5), ("mad", None, 1), ("mad2r", None, 2)],
)
def test_every_round_is_in_the_plan(strategy, rounds, names):
    private = {} if rounds is None else {"rounds": rounds}
    made = plan(policy(strategy, **private))
    assert [m.metric for m in made.mechanisms] == [*(f"partitions.round{i + 1}" for i in range(names)), "count"]
    assert {m.strategy for m in made.mechanisms[:-1]} == {strategy}
    assert made.certificate.epsilon <= EPSILON * (1 + 1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_rounds_cost_what_one_gaussian_of_their_weight_costs(strategy):
    assert math.hypot(*round_weights(policy(strategy).stages[0].selection)) == pytest.approx(1)
    one = plan(policy("gaussian_thresholding")).mechanisms
    many = plan(policy(strategy)).mechanisms
    assert many[-1].sigma == pytest.approx(one[-1].sigma, rel=2e-3)


def test_each_round_has_three_times_the_weight_of_the_one_before():
    first, second, third, _ = plan(policy("dp_sips")).mechanisms
    assert (first.sigma / second.sigma, second.sigma / third.sigma) == pytest.approx((3, 3))
    assert (second.delta / first.delta, third.delta / second.delta) == pytest.approx((3, 3))
    assert first.delta + second.delta + third.delta == pytest.approx(DELTA / 2)


def test_the_second_round_of_mad2r_has_twice_the_weight_of_the_first():
    first, second, _ = plan(policy("mad2r")).mechanisms
    assert first.sigma / second.sigma == pytest.approx(2)
    assert second.delta / first.delta == pytest.approx(2)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_threshold_gives_its_delta_and_no_more(strategy):
    for event in plan(policy(strategy)).mechanisms[:-1]:
        failures = []
        for t in range(1, event.l0 + 1):
            most = novel_weight(t, event.l0, event.least_bias, adaptive=event.saturation > 0)
            failures.append(-math.expm1(t * math.log1p(-stats.norm.sf(event.threshold - most, scale=event.sigma))))
        assert max(failures) <= event.delta
        assert max(failures) == pytest.approx(event.delta, rel=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("metrics", [(), ("count",)])
def test_a_plan_in_rounds_comes_back_from_json_and_certifies(strategy, metrics):
    made = plan(policy(strategy, metrics))
    back = tuple(from_json(to_json(mechanism)) for mechanism in made.mechanisms)
    assert certify_events(back, epsilon=EPSILON, delta=DELTA) == made.certificate


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, {"l0": 8}, "stage a, partitions.round1: l0 must be 9 by the stage's bounds, got 8"),
        (0, {"pre_threshold": 3}, "stage a, partitions.round1: pre_threshold must be 1 by the stage's bounds, got 3"),
        (1, {"l2": 0.5}, "stage a, partitions.round2: l2 must be 1 by the stage's bounds, got 0.5"),
        (1, {"least_bias": 1.0}, "stage a, partitions.round2: least_bias must be 0.5 by the stage's bounds, got 1"),
        (0, {"strategy": "mad"}, "stage a, partitions.round1: the strategy must be mad2r, got mad"),
        (
            0,
            {"saturation": 0.0},
            "stage a, partitions.round1: weights have a saturation in mad and mad2r alone, got 0",
        ),
    ],
)
def test_a_slip_in_a_round_is_refused(index, change, message):
    mechanisms = list(plan(policy()).mechanisms)
    mechanisms[index] = replace(mechanisms[index], **change)
    with pytest.raises(Refused) as error:
        check_plan(policy().stages, mechanisms, epsilon=EPSILON, delta=DELTA)
    assert str(error.value) == message


def test_a_forgotten_round_is_refused():
    mechanisms = plan(policy("dp_sips")).mechanisms
    with pytest.raises(Refused, match=r"the plan must have the mechanisms a/partitions\.round1, a/partitions\.round2"):
        check_plan(policy("dp_sips").stages, mechanisms[1:], epsilon=EPSILON, delta=DELTA)


def test_a_round_with_another_share_of_the_noise_is_refused():
    mechanisms = list(plan(policy("dp_sips")).mechanisms)
    mechanisms[1] = replace(mechanisms[1], sigma=mechanisms[1].sigma * 2, threshold=mechanisms[1].threshold * 3)
    with pytest.raises(Refused, match=r"stage a, partitions\.round2: its noise must follow its weight"):
        check_plan(policy("dp_sips").stages, mechanisms, epsilon=EPSILON, delta=DELTA)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_threshold_that_is_too_low_is_not_certified(strategy):
    mechanisms = list(plan(policy(strategy)).mechanisms)
    mechanisms[0] = replace(mechanisms[0], threshold=mechanisms[0].threshold * 0.99)
    with pytest.raises(Refused, match="shows a lone unit with probability"):
        certify_events(mechanisms, epsilon=EPSILON, delta=DELTA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l2": 0.9}, "l2 must be at least 1 for shares of norm 1, got 0.9"),
        ({"saturation": 0.5}, "a saturation must be at least 1, got 0.5"),
        ({"l0": 2**31}, "l0 must be at most 65536 in a round, got 2147483648"),
        ({"l0": 300}, "l0 must be at most 256 where weight is sent on, got 300"),
        ({"least_bias": 0.01}, "shows a lone unit with probability"),
    ],
)
def test_a_round_that_contradicts_itself_is_not_certified(change, message):
    first, *rest = plan(policy("mad")).mechanisms
    with pytest.raises(Refused, match=message):
        certify_events([replace(first, **change), *rest], epsilon=EPSILON, delta=DELTA)


def test_the_plan_says_of_which_units_its_counts_are():
    (figure,) = plan(policy("mad2r")).utility.selections
    assert figure.kind == "mad2r"
    assert figure.note.startswith("in the last round, of units that fill all their 9 partitions; of units in this")
    assert figure.units_50 < figure.units_99


@pytest.mark.parametrize("strategy", ["gaussian_thresholding", "mad"])
def test_hierarchical_keys_release_no_count_that_selected_leaves(strategy):
    """The leaves' noisy counts are of other partitions than the cells, so the unit count has noise of its own."""
    stage = {
        "name": "a",
        "group_by": ["j", "k"],
        "partitions": {"private": {"strategy": strategy, "hierarchical": True}},
        "bounds": {"l0": 9, "linf": 2},
        "metrics": ["privacy_id_count"],
        "noise": "gaussian",
    }
    columns = {name: {"type": "string"} for name in ("user", "j", "k")}
    made = plan(query_of(FIELDS | {"columns": columns, "stages": [stage]}))
    assert [m.metric.split(".")[0] for m in made.mechanisms] == ["partitions", "privacy_id_count"]
    assert made.mechanisms[1].l2 == 3.0
    assert made.utility.sharing == ()
