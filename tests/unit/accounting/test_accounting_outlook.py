"""What a plan says of results to come: strategies against plans that use them, intervals against those of releases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dpbeam.accounting.outlook import SIZES, outlook
from dpbeam.accounting.plan import plan
from dpbeam.mechanisms import moments
from dpbeam.mechanisms.moments import NoisyQuantity
from dpbeam.queries.selections import SELECTIONS
from tests.helpers.queries import query_of

NAMES = tuple(kind.strategy for kind in SELECTIONS)


def asked(*metrics, private="gaussian_thresholding", bounds=None, noise="gaussian", epsilon=1.0, stages=1, delta=1e-6):
    partitions = {"private": {"strategy": private}} if private else {"public": {"values": ["x"]}}
    stage = {
        "group_by": ["k"],
        "partitions": partitions,
        "bounds": bounds or {"l0": 3, "linf": 2},
        "metrics": list(metrics or ["count"]),
        "noise": noise,
    }
    return query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "user",
            "columns": {"user": {"type": "string"}, "k": {"type": "string"}, "hours": {"type": "float64"}},
            "run": {"epsilon": epsilon, "delta": delta},
            "stages": [stage | {"name": f"s{i}"} for i in range(stages)],
        }
    )


def looked_at(query):
    return outlook(query, plan(query))


MEAN = {"mean": {"column": "hours", "low": 0, "high": 10}}


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("stages", [1, 3])
def test_each_strategy_needs_the_people_that_a_plan_with_it_says(strategy, stages):
    found = {
        (each.stage, each.strategy): (each.units_50, each.units_99)
        for each in looked_at(asked("count", "privacy_id_count", stages=stages)).strategies
    }
    planned = plan(asked("count", "privacy_id_count", private=strategy, stages=stages)).utility.selections
    for figure in planned:
        few, many = found[figure.stage, strategy]
        # A plan may step back by up to 2 % where the certifier's grid differs.
        assert figure.units_50 * 0.97 - 1 <= few <= figure.units_50
        assert figure.units_99 * 0.97 - 1 <= many <= figure.units_99
    assert len(found) == stages * len(NAMES)


def test_the_policys_own_strategy_is_marked_and_has_the_plans_figures():
    query = asked(private="dp_sips")
    made = plan(query)
    (own,) = [each for each in outlook(query, made).strategies if each.is_stated]
    (planned,) = made.utility.selections
    assert (own.strategy, own.units_50, own.units_99) == ("dp_sips", planned.units_50, planned.units_99)


def test_public_partitions_need_no_people():
    assert looked_at(asked(private=None)).strategies == ()


def test_a_strategy_that_cant_be_planned_says_why():
    found = {
        each.strategy: each
        for each in looked_at(asked(private="laplace_thresholding", noise="laplace", delta=1e-14)).strategies
    }
    refused = found["gaussian_thresholding"]
    assert (refused.units_50, refused.units_99) == (None, None)
    assert refused.refusal is not None
    assert refused.refusal.startswith("Gaussian noise needs a delta above 2.8e-14 (for 1 mechanisms)")
    assert found["laplace_thresholding"].refusal is None


def test_counts_have_one_half_width_at_every_size():
    query = asked("count")
    made = plan(query)
    found = outlook(query, made).sizes
    assert [each.size for each in found] == list(SIZES)
    assert {(each.least, each.most) for each in found} == {(made.utility.metrics[0].half_width_95,) * 2}


def test_a_means_interval_is_the_one_that_its_figures_get():
    query = asked(MEAN, private=None)
    made = plan(query)
    noise = {m.metric: m for m in made.mechanisms}
    quantities = {q.name: q for q in query.stages[0].metrics[0].quantities}

    def drawn(name, value):
        return NoisyQuantity(quantity=quantities[name], noise=noise[name], noisy=np.array([[value]]))

    for each in outlook(query, made).sizes:
        _, low, high = moments.mean(drawn("hours_mean.sum", 0.0), drawn("count", float(each.size)))
        assert each.least == pytest.approx((high[0] - low[0]) / 2, rel=1e-9)
        assert each.most >= each.least


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
@pytest.mark.parametrize("kind", ["mean", "variance", "stddev"])
def test_moments_intervals_shrink_as_partitions_grow(kind, noise):
    found = looked_at(asked({kind: {"column": "hours", "low": 0, "high": 10}}, noise=noise, epsilon=4.0)).sizes
    widths = [(each.least, each.most) for each in found]
    assert len(widths) == len(SIZES)
    assert all(0 < least <= most for least, most in widths)
    assert widths == sorted(widths, reverse=True)


def test_a_metric_whose_noise_is_all_it_could_be_says_nothing():
    found = looked_at(asked("count", MEAN, epsilon=1e-4))
    assert found.hopeless == (("s0", "count"), ("s0", "hours_mean"))
    assert looked_at(asked("count", MEAN)).hopeless == ()


def test_where_the_run_finds_bounds_on_values_there_is_no_interval():
    found = looked_at(
        asked("count", {"sum": {"column": "hours", "low": 0, "high": {"auto": {"least": 1, "most": 100}}}})
    )
    assert {each.metric for each in found.sizes} == {"count"}


def same(*metrics, **more):
    return [(each.metrics, each.why) for each in looked_at(asked(*metrics, **more)).same]


COUNTED = (
    "count the same: by {} 1 each privacy unit has one row in a partition; drop one, and the other gets its share of "
    "the budget"
)


def test_counts_of_rows_and_of_people_are_one_figure_where_each_has_one_row():
    both = ("count", "privacy_id_count")
    assert same(*both, bounds={"l0": 3, "linf": 1}) == [(both, COUNTED.format("linf"))]
    assert same(*both, bounds={"l1": 1}) == [(both, COUNTED.format("l1"))]
    assert same(*both, bounds={"l0": 3, "linf": 2}) == []
    assert same(*both, bounds={"l0": 3, "linf": {"auto": {"max": 4}}}) == []


def test_one_metric_under_two_names_is_one_figure():
    twice = [{"mean": {"column": "hours", "low": 0, "high": 10, "name": name}} for name in ("a", "b")]
    assert same(*twice) == [(("a", "b"), "are made from the same noisy figures, so they are equal to the digit")]
    other = [twice[0], {"mean": {"column": "hours", "low": 0, "high": 9, "name": "b"}}]
    assert same(*other) == []


def test_a_variance_and_its_root_are_one_figure():
    args = {"column": "hours", "low": 0, "high": 10}
    found = same({"variance": args}, {"stddev": args})
    assert found == [
        (("hours_variance", "hours_stddev"), "are made from the same noisy figures: one is the other's square")
    ]


def test_an_outlook_is_plain_data():
    found = looked_at(asked("count", MEAN)).to_json()
    assert set(found) == {"strategies", "sizes", "same"}
    assert all(math.isfinite(each["most"]) for each in found["sizes"])
    assert replace(looked_at(asked("count")), same=()).to_json()["same"] == []
