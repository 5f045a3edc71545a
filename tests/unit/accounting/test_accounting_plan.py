"""What a plan lists, how weights share noise, what it prints."""

from __future__ import annotations

import json
import math
import sys

import pytest
from rich.console import Console

from dpbeam.accounting.plan import plan, requests_for
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import from_json
from dpbeam.pipelines.cli import terminal
from dpbeam.policy.schema.policy import Policy


def policy(*stages, epsilon=1.0, delta=1e-6, columns=None):
    return Policy.model_validate(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "user",
            "columns": {
                "user": {"type": "string"},
                "k": {"type": "string"},
                "hours": {"type": "float64"},
                **(columns or {}),
            },
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
    asked = requests_for(policy(stage(metrics=["privacy_id_count", "count"], private="truncated_geometric")))
    assert [(r.metric, r.kind) for r in asked] == [
        ("partitions", "truncated_geometric"),
        ("privacy_id_count", "laplace"),
        ("count", "laplace"),
    ]


def test_public_partitions_ask_for_no_selection():
    assert [r.metric for r in requests_for(policy(stage(private=None)))] == ["count"]


def test_sensitivities_follow_the_bounds_of_the_stage():
    mean = {"mean": {"column": "hours", "low": 0.0, "high": 10.0}}
    total = {"sum": {"column": "hours", "low": -7.0, "high": 3.0}}
    asked = requests_for(policy(stage(metrics=["privacy_id_count", total, mean], private=None)))
    root = math.sqrt(3)
    assert {r.metric: (r.l1, r.l2) for r in asked} == {
        "privacy_id_count": (3.0, root),
        "hours_sum": (3 * 14.0, root * 14.0),
        "hours_mean.sum": (3 * 10.0, root * 10.0),
        "count": (3 * 2.0, root * 2.0),
    }


def test_the_weights_in_a_stage_sum_to_the_weight_of_the_stage():
    asked = requests_for(policy(stage(metrics=["count", "privacy_id_count"], weight=2.0), stage("b", weight=0.5)))
    assert sum(r.weight for r in asked if r.stage == "a") == pytest.approx(2.0)
    assert sum(r.weight for r in asked if r.stage == "b") == pytest.approx(0.5)


def test_a_metric_more_in_one_stage_takes_nothing_from_the_other():
    alone = plan(policy(stage("a", ["count"], "truncated_geometric"), stage("b")))
    joined = plan(policy(stage("a", ["count", "privacy_id_count"], "truncated_geometric"), stage("b")))
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


@pytest.mark.parametrize(("epsilon", "noise"), [(0.001, "gaussian"), (20.0, "gaussian"), (100.0, "laplace")])
def test_an_unusual_epsilon_is_still_planned(epsilon, noise):
    private = f"{noise}_thresholding"
    certificate = plan(
        policy(stage(private=private), stage("b", private=None, noise=noise), epsilon=epsilon)
    ).certificate
    assert 0.95 * epsilon <= certificate.epsilon <= epsilon


@pytest.mark.parametrize(
    ("metric", "l0"),
    [
        ({"histogram": {"column": "hours", "edges": [float(edge) for edge in range(300)]}}, 60_000),
        ({"quantiles": {"column": "hours", "low": 0.0, "high": 1.0, "ranks": [0.5]}}, 60_000),
        ({"vector_sum": {"columns": [f"v{i}" for i in range(300)], "norm": "l2", "max_norm": 1.0}}, 60_000),
    ],
    ids=["histogram", "quantiles", "vector_sum"],
)
def test_more_numbers_of_one_unit_than_the_gaussian_sampler_is_counted_for_are_refused(metric, l0):
    asked = stage(metrics=[metric], private=None, l0=l0, linf=100_000)
    vectors = {f"v{i}": {"type": "float64"} for i in range(300)}
    for noise, limits in (("gaussian", {}), ("laplace", {}), ("gaussian", {"l0": 50})):
        made = policy({**asked, "noise": noise, "bounds": {**asked["bounds"], **limits}}, columns=vectors)
        if noise == "gaussian" and not limits:
            with pytest.raises(UsageError, match=r"may be 16777216 at most: lower l0 or linf, or use laplace noise$"):
                requests_for(made)
        else:
            requests_for(made)


VALUES_COUNTED = {"top_k": {"column": "sex", "k": 3, "max_values": 300}}


@pytest.mark.parametrize(
    ("asked", "l0"),
    [
        ({"metrics": [], "private": "gaussian_thresholding", "noise": None}, 2**24 + 1),
        ({"metrics": ["privacy_id_count"], "private": "gaussian_thresholding"}, 2**24 + 1),
        ({"metrics": [VALUES_COUNTED], "private": None, "noise": "gaussian"}, 60_000),
    ],
    ids=["selection", "selection and count", "top_k"],
)
def test_so_are_more_unit_counts_that_pass_a_threshold(asked, l0):
    made = stage(**asked, l0=l0)
    del made["bounds"]["linf"]
    with pytest.raises(UsageError, match=r"may be 16777216 at most: lower l0 or linf, or use laplace"):
        requests_for(policy(made))
    requests_for(policy(made | {"bounds": {"l0": 50_000}}))


VALUES = {"column": "hours", "low": 0.0, "high": 10.0}
EVERY = [
    "count",
    {"mean": VALUES},
    {"variance": VALUES},
    {"stddev": VALUES},
    {"median": VALUES},
    {"quantiles": VALUES | {"ranks": [0.25, 0.75]}},
    {"min": {"column": "hours", "low": 0.0, "high": 5.0}},
    {"histogram": {"column": "hours", "edges": [0, 5, 10]}},
    {"vector_sum": {"columns": ["hours", "days", "years"], "norm": "l2", "max_norm": 3.0}},
]


def test_metrics_share_the_quantities_that_they_have_in_common():
    asked = requests_for(policy(stage(metrics=EVERY, private=None)))
    assert [r.metric for r in asked] == [
        "count",
        "hours_mean.sum",
        "hours_variance.squares",
        "hours_median.tree",
        "hours_min.tree",
        "hours_histogram",
        "vector_sum",
    ]
    assert sum(r.weight for r in asked) == pytest.approx(1.0)


def test_a_sum_over_bounds_about_zero_is_the_numerator_of_the_mean():
    about_zero = {"column": "hours", "low": -4.0, "high": 4.0}
    asked = requests_for(policy(stage(metrics=[{"sum": about_zero}, {"mean": about_zero}], private=None)))
    assert [r.metric for r in asked] == ["hours_sum", "count"]


def test_the_plan_shows_what_sharing_saves():
    shown = plan(policy(stage(metrics=EVERY, private=None))).utility.sharing
    assert [(figure.quantity, figure.serves) for figure in shown] == [
        ("count", ("count", "hours_mean", "hours_variance", "hours_stddev")),
        ("hours_mean.sum", ("hours_mean", "hours_variance", "hours_stddev")),
        ("hours_variance.squares", ("hours_variance", "hours_stddev")),
        ("hours_median.tree", ("hours_median", "hours")),
    ]
    assert all(figure.std < 0.75 * figure.std_unshared for figure in shown)


def test_a_plan_in_which_nothing_is_shared_says_nothing_of_it():
    two = stage(metrics=["count", "privacy_id_count"], private="truncated_geometric")
    assert plan(policy(two)).utility.sharing == ()


@pytest.mark.parametrize("strategy", ["laplace_thresholding", "gaussian_thresholding"])
def test_one_noisy_count_of_units_selects_and_is_released(strategy):
    metrics = ["count", {"privacy_id_count": {"name": "people", "weight": 2.0}}]
    made = plan(policy(stage(metrics=metrics, private=strategy)))
    assert [(m.metric, m.kind) for m in made.mechanisms] == [("partitions", strategy), ("count", "laplace")]
    (shared,) = made.utility.sharing
    assert (shared.quantity, shared.serves) == ("privacy_id_count", ("partition selection", "people"))
    assert shared.std < shared.std_unshared
    assert made.utility.metrics[1].std == shared.std
    weights = {r.metric: r.weight for r in requests_for(policy(stage(metrics=metrics, private=strategy)))}
    assert weights == {"partitions": pytest.approx(0.75), "count": pytest.approx(0.25)}


def test_the_sensitivities_of_all_metrics_follow_their_definitions():
    asked = {r.metric: (r.l1, r.l2) for r in requests_for(policy(stage(metrics=EVERY, private=None, l0=4, linf=3)))}
    assert asked == {
        "count": (12.0, 6.0),
        "hours_mean.sum": (60.0, 30.0),
        "hours_variance.squares": (12 * 12.5, 6 * 12.5),
        "hours_median.tree": (12 * 4.0, 6 * 2.0),
        "hours_min.tree": (12 * 4.0, 6 * 2.0),
        "hours_histogram": (12.0, 6.0),
        "vector_sum": (pytest.approx(12 * 3.0 * math.sqrt(3)), 6 * 3.0),
    }


@pytest.mark.parametrize(("norm", "l1", "l2"), [("l1", 3, 3), ("l2", 6, 3), ("linf", 12, 6)])
def test_a_vector_of_four_has_the_sensitivity_of_its_norm(norm, l1, l2):
    vector = {"vector_sum": {"columns": ["a", "b", "c", "d"], "norm": norm, "max_norm": 3.0}}
    (request,) = requests_for(policy(stage(metrics=[vector], private=None, l0=1, linf=1)))
    assert (request.l1, request.l2) == (l1, l2)


def bounded(bounds, *metrics):
    return policy(stage(metrics=list(metrics), private=None) | {"bounds": bounds})


TOP = {"column": "word", "k": 3, "max_values": 5}


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
@pytest.mark.parametrize(
    ("bounds", "cells"), [({"l0": 4, "linf": 3}, 12), ({"l0": 4, "linf": 9}, 20), ({"l0": 4}, 20), ({"l1": 7}, 7)]
)
def test_a_top_k_counts_a_unit_in_as_many_values_as_its_bounds_let_it(noise, bounds, cells):
    metrics = [
        {"top_k": TOP | {"pre_threshold": 4}},
        {"top_k": TOP | {"candidates": ["a", "b", "c"], "name": "listed"}},
    ]
    made = policy(bounded(bounds, *metrics).stages[0].model_dump(exclude_unset=True) | {"noise": noise})
    threshold, plain = requests_for(made)
    assert (threshold.kind, threshold.l0, threshold.pre_threshold) == (f"{noise}_thresholding", cells, 4)
    assert (plain.kind, plain.l1, plain.l2) == (noise, cells, pytest.approx(cells**0.5))
    planned = plan(made)
    assert planned.utility.selections[0].metric == "word_top_k"
    assert planned.utility.metrics[0].std == pytest.approx(planned.utility.metrics[1].std, rel=1e-9)


@pytest.mark.parametrize("strategy", ["truncated_geometric", "laplace_thresholding", "gaussian_thresholding"])
def test_the_delta_is_shared_by_the_selection_of_partitions_and_that_of_values(strategy):
    made = plan(policy(stage(metrics=["privacy_id_count", {"top_k": TOP}, {"top_k": TOP | {"k": 1, "name": "first"}}],
                             private=strategy)))  # fmt: skip
    deltas = {m.metric: m.delta for m in made.mechanisms if hasattr(m, "delta")}
    assert set(deltas) == {"partitions", "word_top_k"}
    assert sum(deltas.values()) == pytest.approx(made.delta / 2)
    assert [figure.quantity for figure in made.utility.sharing][-1] == "word_top_k"


@pytest.mark.parametrize(("bounds", "wanted"), [({"l0": 4, "linf": 3}, (12.0, 6.0)), ({"l1": 7}, (7.0, 7.0))])
def test_distinct_values_grow_by_a_units_rows_at_most(bounds, wanted):
    (request,) = requests_for(bounded(bounds, {"distinct_count": {"column": "word"}}))
    assert (request.l1, request.l2) == wanted
    assert plan(bounded(bounds, {"distinct_count": {"column": "word"}}))


def test_a_bound_on_all_rows_lets_them_meet_in_one_partition():
    asked = requests_for(bounded({"l1": 9}, "count", "privacy_id_count", {"mean": VALUES}))
    assert {r.metric: (r.l1, r.l2) for r in asked} == {
        "count": (9.0, 9.0),
        "privacy_id_count": (9.0, 3.0),
        "hours_mean.sum": (45.0, 45.0),
    }


def test_a_selection_within_l1_counts_each_row_as_a_partition():
    bounds = {"l1": 9}
    asked = requests_for(policy(stage() | {"bounds": bounds}))
    assert (asked[0].metric, asked[0].l0) == ("partitions", 9)
    assert plan(policy(stage() | {"bounds": bounds}))


def test_a_total_is_bounded_by_partition_whatever_the_rows():
    total = {"sum": {"column": "hours", "low_total": -2.0, "high_total": 8.0}}
    for bounds in ({"l0": 9}, {"l0": 9, "linf": 3}, {"l1": 9}):
        (request,) = requests_for(bounded(bounds, total))
        assert (request.l1, request.l2) == (72.0, 24.0)
        assert plan(bounded(bounds, total))


def calls_of(work) -> int:
    """How often `work` calls functions of this project: what takes time, counted and not timed."""
    found = 0

    def count(frame, event, _argument) -> None:
        nonlocal found
        found += event == "call" and frame.f_globals.get("__name__", "").startswith("dpbeam.")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def means(number: int) -> list[dict[str, object]]:
    return [{"mean": {"column": "hours", "low": 0.0, "high": 10.0 + i, "name": f"m{i}"}} for i in range(number)]


@pytest.mark.parametrize(
    "made",
    [
        lambda number: policy(stage(metrics=means(number))),
        lambda number: policy(*(stage(f"s{i}", metrics=["count", *means(2)], l0=1 + i) for i in range(number))),
    ],
    ids=["metrics", "stages"],
)
def test_a_plan_of_many_metrics_or_stages_is_made_by_work_in_proportion(made) -> None:
    few, many = (calls_of(lambda number=number: plan(made(number))) for number in (20, 80))
    assert many < 6 * few  # four times as many; work that grows with the square would be sixteen times as much


@pytest.mark.parametrize(
    ("epsilon", "private", "noise", "unused"),
    [
        (1.0, "gaussian_thresholding", "gaussian", False),
        (200.0, "truncated_geometric", "laplace", False),
        (200.0, "truncated_geometric", "gaussian", True),
        (200.0, "gaussian_thresholding", "laplace", True),
        (200.0, None, "gaussian", True),
    ],
)
def test_a_plan_says_what_of_its_epsilon_has_no_effect(epsilon, private, noise, unused):
    made = plan(policy(stage(private=private, noise=noise), epsilon=epsilon))
    console = Console(width=400)
    with console.capture() as shown:
        console.print(terminal.plan(made, None))
    said = f"is charged ε 200, but what is above ε {made.certificate.epsilon:.4g} has no effect"
    assert (said in shown.get()) == unused
    assert ("no effect" in shown.get()) == unused


def test_a_plan_that_uses_less_for_another_reason_does_not_blame_gaussian_noise():
    made = plan(policy(*(stage(f"s{i}", private=None, l0=1 + i) for i in range(100)), delta=1e-14))
    assert made.certificate.epsilon < 0.95  # by Rényi divergences, which a δ so small needs
    console = Console(width=400)
    with console.capture() as shown:
        console.print(terminal.plan(made, None))
    assert "no effect" not in shown.get()
