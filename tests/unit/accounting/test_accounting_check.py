"""Mutants of a finished plan, each refused; 400 random plans, each certified near its target."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dpbeam.accounting import plan as plans
from dpbeam.accounting import stage_requests
from dpbeam.accounting.calibrate import calibrate
from dpbeam.accounting.check import check_plan
from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused
from tests.helpers.queries import query_of
from tests.helpers.requested import check_requested

EPSILON, DELTA = 1.0, 1e-6


STAGES: list[dict[str, Any]] = [
    {
        "name": "a",
        "group_by": ["k"],
        "partitions": {"private": {"strategy": "truncated_geometric", "pre_threshold": 7}},
        "bounds": {"l0": 4, "linf": 2},
        "metrics": ["count", {"sum": {"column": "hours", "low": -5.0, "high": 3.0, "weight": 2.0}}],
        "noise": "gaussian",
    },
    {
        "name": "b",
        "group_by": ["k"],
        "partitions": {"private": {"strategy": "laplace_thresholding", "weight": 2.0}},
        "bounds": {"l0": 9, "linf": 1},
        "metrics": ["privacy_id_count", {"mean": {"column": "hours", "low": 0.0, "high": 8.0}}],
        "noise": "laplace",
        "weight": 0.5,
    },
]


def policy(**changes):
    fields = {
        "version": 1,
        "dataset": "d",
        "source": {"format": "csv", "path": "d.csv"},
        "privacy_unit": "user",
        "columns": {"user": {"type": "string"}, "k": {"type": "string"}, "hours": {"type": "float64"}},
        "run": {"epsilon": EPSILON, "delta": DELTA},
        "stages": STAGES,
    }
    return query_of(fields | changes)


@pytest.fixture(scope="module")
def made():
    return plans.plan(policy())


def refused(mechanisms):
    with pytest.raises(Refused) as error:
        check_plan(policy().stages, mechanisms, epsilon=EPSILON, delta=DELTA)
    return str(error.value)


def test_the_plan_itself_passes(made):
    assert check_plan(policy().stages, made.mechanisms, epsilon=EPSILON, delta=DELTA) == made.certificate


def test_bounds_far_from_0_whose_middle_is_rounded_are_planned():
    values = {"column": "hours", "low": 1e15 - 0.125, "high": 1e15}
    stage = STAGES[0] | {"metrics": [{"mean": values}, {"variance": values}]}
    found = policy(stages=[stage])
    (centred,) = (m for m in plans.plan(found).mechanisms if m.metric == "hours_mean.sum")
    assert centred.l2 == 4**0.5 * 2 * 0.125  # one end is the middle


def test_a_forgotten_mechanism_is_refused(made):
    assert refused(made.mechanisms[:-1]) == (
        "the plan must have the mechanisms a/partitions, a/count, a/hours_sum, b/partitions, b/hours_mean.sum, "
        "b/count in this order, got a/partitions, a/count, a/hours_sum, b/partitions, "
        "b/hours_mean.sum"
    )


def test_a_mechanism_too_many_is_refused(made):
    assert refused((*made.mechanisms, made.mechanisms[-1])).startswith("the plan must have the mechanisms a/partitions")


def test_a_swapped_order_is_refused(made):
    first, second, *rest = made.mechanisms
    assert refused((second, first, *rest)).startswith("the plan must have the mechanisms a/partitions, a/count")


def test_parameters_swapped_between_two_metrics_are_refused(made):
    m = list(made.mechanisms)
    m[1], m[2] = replace(m[2], metric="count"), replace(m[1], metric="hours_sum")
    assert refused(m) == "stage a, count: l2 must be 4 by the stage's bounds, got 20"


def test_another_kind_of_noise_is_refused(made):
    m = list(made.mechanisms)
    m[1] = replace(made.mechanisms[4], stage="a", metric="count")
    assert refused(m) == "stage a, count: the mechanism must be gaussian, got laplace"


def test_a_selection_with_its_neighbours_parameters_is_refused(made):
    # PipelineDP's accountant composes a truncated geometric selection as the mechanism before it.
    m = list(made.mechanisms)
    m[0] = replace(m[0], epsilon=m[1].l2 / m[1].sigma * 3)
    assert refused(m).startswith("stage a, count: its noise must follow its weight like that of a, partitions")


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, {"l0": 3}, "stage a, partitions: l0 must be 4 by the stage's bounds, got 3"),
        (0, {"pre_threshold": 6}, "stage a, partitions: pre_threshold must be 7 by the stage's bounds, got 6"),
        (2, {"l2": 12.0}, "stage a, hours_sum: l2 must be 20 by the stage's bounds, got 12"),
        (3, {"l1": 3.0}, "stage b, partitions: l1 must be 9 by the stage's bounds, got 3"),
        (4, {"l1": 4.0}, "stage b, hours_mean.sum: l1 must be 36 by the stage's bounds, got 4"),
    ],
)
def test_a_wrong_bound_is_refused(made, index, change, message):
    m = list(made.mechanisms)
    m[index] = replace(m[index], **change)
    assert refused(m) == message


def test_a_weight_that_reached_only_some_mechanisms_is_refused(made):
    m = list(made.mechanisms)
    m[2] = replace(m[2], sigma=m[2].sigma * 2)
    assert refused(m) == (
        "stage a, hours_sum: its noise must follow its weight like that of a, partitions, but it is 2 times that"
    )


def test_a_delta_counted_twice_is_refused(made):
    m = list(made.mechanisms)
    m[0] = replace(m[0], delta=m[0].delta * 2)
    assert refused(m).startswith("stage b, partitions: its delta must follow its weight like that of a, partitions")


def test_all_noise_a_little_too_small_is_refused(made):
    m = [
        replace(x, **{f: getattr(x, f) * (1.03 if f == "epsilon" else 1 / 1.03)})
        for x in made.mechanisms
        for f in ("epsilon", "sigma", "scale")
        if hasattr(x, f)
    ]
    m[3] = replace(m[3], threshold=made.mechanisms[3].threshold)
    assert refused(m).startswith("the mechanisms cost epsilon 1.0")


# Mutants of the calibration itself: each is seeded into the module, and the plan must then be refused.
def forget_one(monkeypatch):
    real = plans.calibrate
    monkeypatch.setattr(plans, "calibrate", lambda r, **kw: real(r[1:], **kw))


def compose_without_the_selections(monkeypatch):
    from dpbeam.accounting import calibrate as module

    real = module._mix
    monkeypatch.setattr(module, "_mix", lambda r: real([one for one in r if not one.is_selection]))


def count_delta_twice(monkeypatch):
    from dpbeam.accounting import calibrate as module

    monkeypatch.setattr(module, "SELECTION_DELTA_SHARE", 1.0)
    real = module._solve
    monkeypatch.setattr(module, "_solve", lambda mix, epsilon, delta, composed: real(mix, epsilon, DELTA, composed))


def count_delta_not_at_all(monkeypatch):
    from dpbeam.accounting import mechanism_at as module

    real = module._threshold
    monkeypatch.setattr(module, "_threshold", lambda law, scale, delta, l0: real(law, scale, 0.1, l0))


def wrong_l0(monkeypatch):
    real = plans.requests_for
    monkeypatch.setattr(
        plans, "requests_for", lambda p: tuple(replace(r, l0=1) if r.is_selection else r for r in real(p))
    )


def wrong_sensitivity(monkeypatch):
    real = plans.requests_for

    def smaller(p):
        return tuple(r if r.is_selection else replace(r, l1=r.l1 / 2, l2=r.l2 / 2) for r in real(p))

    monkeypatch.setattr(plans, "requests_for", smaller)


def a_tree_of_one_level(monkeypatch):
    from dpbeam.queries import quantities

    monkeypatch.setattr(quantities, "TREE_HEIGHT", 1)


def a_vector_as_one_number(monkeypatch):
    from dpbeam.queries import quantities

    monkeypatch.setattr(quantities, "vector_norms", lambda norm, most, length: (most, most))


def squares_of_half_their_size(monkeypatch):
    from dpbeam.queries.quantities import Squares

    monkeypatch.setattr(Squares, "reach", property(lambda q: (q.high - q.low) / 3))


def weight_on_some(monkeypatch):
    real = plans.requests_for

    def some(p):
        return tuple(replace(r, weight=1.0) if r.kind == "gaussian" else r for r in real(p))

    monkeypatch.setattr(plans, "requests_for", some)


def weights_left_out_of_the_composition(monkeypatch):
    from dpbeam.accounting import calibrate as module

    real = module._mix
    monkeypatch.setattr(module, "_mix", lambda r: real([replace(one, weight=0.05) for one in r]))


@pytest.mark.parametrize(
    "mutate",
    [
        forget_one,
        compose_without_the_selections,
        count_delta_twice,
        count_delta_not_at_all,
        wrong_l0,
        wrong_sensitivity,
        weight_on_some,
        weights_left_out_of_the_composition,
    ],
)
def test_a_mutant_of_the_calibration_is_refused(mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch):
    mutate(monkeypatch)
    with pytest.raises(Refused):
        plans.plan(policy())


VALUES = {"column": "hours", "low": 0.0, "high": 8.0}
OTHERS = {
    "name": "a",
    "group_by": ["k"],
    "partitions": {"public": {"values": ["x"]}},
    "bounds": {"l0": 4, "linf": 2},
    "metrics": [
        {"variance": VALUES},
        {"quantiles": VALUES | {"ranks": [0.1]}},
        {"vector_sum": {"columns": ["x", "y", "z"], "norm": "linf", "max_norm": 1.0}},
        {"histogram": {"column": "hours", "edges": [0, 1, 2]}},
        {"distinct_count": {"column": "k"}},
        {"top_k": {"column": "k", "k": 3, "max_values": 5}},
        {"top_k": {"column": "k", "k": 1, "max_values": 5, "candidates": ["a", "b"], "name": "listed"}},
    ],
    "noise": "gaussian",
}


def one_value_a_partition(monkeypatch):
    from dpbeam.queries.bounds import Bounds

    monkeypatch.setattr(Bounds, "of_values", lambda bounds, most: bounds.partitions)


def values_of_one_partition(monkeypatch):
    from dpbeam.queries.bounds import Bounds

    monkeypatch.setattr(Bounds, "of_values", lambda bounds, most: min(most, bounds.linf))


@pytest.mark.parametrize(
    "mutate",
    [
        a_tree_of_one_level,
        a_vector_as_one_number,
        squares_of_half_their_size,
        one_value_a_partition,
        values_of_one_partition,
    ],
)
def test_a_sensitivity_that_is_too_small_is_refused(mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch):
    assert plans.plan(policy(stages=[OTHERS]))
    mutate(monkeypatch)
    with pytest.raises(Refused, match="by the stage's bounds, got"):
        plans.plan(policy(stages=[OTHERS]))


def test_values_that_are_kept_without_a_threshold_are_refused(monkeypatch):
    """A top_k over values of the data whose threshold, and its δ, is forgotten: plain noise on all counts."""
    made = plans.plan(policy(stages=[OTHERS]))
    kinds = {m.metric: m.kind for m in made.mechanisms}
    assert (kinds["k_top_k"], kinds["listed"]) == ("gaussian_thresholding", "gaussian")
    real = stage_requests._of_quantity

    def forgotten(stage, q, limits, leaves, noise, unit):
        if q.kind != "values":
            return real(stage, q, limits, leaves, noise, unit)
        return Request(stage=stage, metric=q.name, kind="gaussian", weight=q.weight * unit, l1=8.0, l2=8**0.5)

    monkeypatch.setattr(stage_requests, "_of_quantity", forgotten)
    with pytest.raises(Refused, match=r"^stage a, k_top_k: the mechanism must be gaussian_thresholding, got gaussian$"):
        plans.plan(policy(stages=[OTHERS]))


KINDS = ("laplace", "gaussian", "truncated_geometric", "laplace_thresholding", "gaussian_thresholding")


def random_plan(seed):
    draw = random.Random(seed)
    size = 30 if seed % 40 == 0 else draw.randint(1, 8)
    requests = []
    for number in range(size):
        kind = draw.choice(KINDS)
        is_noise = kind in ("laplace", "gaussian")
        weight, l0 = draw.choice((1.0, 10 ** draw.uniform(-1, 1))), draw.choice((1, 3, 20, 1000))
        if is_noise:
            linf = draw.choice((1.0, 2.0, 99.5))
            own = {"l1": l0 * linf, "l2": l0**0.5 * linf}
        else:
            # Truncated geometric selections take no tiny delta a partition.
            own = {"l0": min(l0, 3 if kind == "truncated_geometric" else l0), "pre_threshold": draw.choice((1, 10))}
        requests.append(Request(stage=f"s{number}", metric="m", kind=kind, weight=weight, **own))
    least = -8 if any(request.kind == "truncated_geometric" for request in requests) else -10
    return requests, 10 ** draw.uniform(-1.30102, 1), 10 ** draw.uniform(least, -5)


@pytest.mark.parametrize("block", range(8))
def test_fifty_random_plans_are_certified_between_95_percent_of_their_target_and_the_target(block):
    for seed in range(50 * block, 50 * block + 50):
        requests, epsilon, delta = random_plan(seed)

        def check(found, requests=requests, epsilon=epsilon, delta=delta):
            return check_requested(requests, found, epsilon=epsilon, delta=delta)

        _, certificate = plans.solve(requests, check, epsilon, delta)
        assert 0.95 * epsilon <= certificate.epsilon <= epsilon * (1 + 1e-9), f"seed {seed}"


def test_a_calibration_meets_its_target_at_the_first_try_nearly_always():
    tries = []
    for seed in range(1000, 1060):
        requests, epsilon, delta = random_plan(seed)
        mechanisms = calibrate(requests, epsilon=epsilon, delta=delta)
        try:
            check_requested(requests, mechanisms, epsilon=epsilon, delta=delta)
            tries.append(1)
        except Refused:
            tries.append(2)
    assert tries.count(1) >= 50
