"""Policies with automatic bounds: what the plan asks for, what the check refuses, and that a chosen bound changes no
privacy loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.accounting.check import check_plan, check_same_losses
from dpbeam.accounting.plan import plan, requests_for
from dpbeam.engine.aggregation import kernels
from dpbeam.engine.automatic_bounds import count_grid, magnitudes
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms import noise
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, LaplaceThresholding, TruncatedGeometric
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.sharing import quantities
from tests.helpers.queries import query_of

AUTO = {"auto": {}}
STAGE = {
    "name": "a",
    "group_by": ["k"],
    "partitions": {"private": {"strategy": "gaussian_thresholding"}},
    "bounds": {"l0": {"auto": {"max": 50}}, "linf": {"auto": {"max": 8, "weight": 0.25}}},
    "metrics": [
        "count",
        {"sum": {"column": "hours", "low": 0.0, "high": AUTO}},
        {"mean": {"column": "hours", "low": AUTO, "high": {"auto": {"weight": 0.75}}}},
        {"variance": {"column": "hours", "low": AUTO, "high": AUTO}},
        {"median": {"column": "days", "low": AUTO, "high": 9.0}},
    ],
    "noise": "gaussian",
}


def policy(*stages, epsilon=1.0):
    return query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"},
            "privacy_unit": "user",
            "columns": {name: {"type": "string"} for name in ("user", "k")}
            | {name: {"type": "float64"} for name in ("hours", "days")},
            "run": {"epsilon": epsilon, "delta": 1e-6},
            "stages": list(stages or [STAGE]),
        }
    )


def choose(made, value=2.0, count=3):
    """The policy with every bound chosen."""
    found = {key: count if key[1] is None else (-value if key[2] == "low" else value) for key in made.automatic}
    return made.with_chosen(found)


def test_a_stage_asks_for_its_histograms_before_all_else():
    asked = requests_for(policy())
    assert [(r.stage, r.metric, r.kind, r.l1, r.l2) for r in asked[:4]] == [
        ("a.values", "hours", "gaussian", 1.0, 1.0),
        ("a.values", "days", "gaussian", 1.0, 1.0),
        ("a.units", "l0", "gaussian", 1.0, 1.0),
        ("a.units", "linf", "gaussian", 1.0, 1.0),
    ]
    assert asked[4].metric == "partitions"


def test_a_histogram_serves_all_metrics_of_its_column_with_the_largest_weight():
    (stage,) = policy().stages
    assert [(h.metric, h.weight) for h in stage.histograms] == [
        ("hours", 0.75), ("days", 0.5), ("l0", 0.5), ("linf", 0.25)
    ]  # fmt: skip


def test_histograms_take_their_share_of_the_stages_weight():
    asked = requests_for(policy({**STAGE, "weight": 3.0}))
    assert math.fsum(r.weight for r in asked) == pytest.approx(3.0)


def test_until_the_run_has_chosen_bounds_stand_for_the_most():
    (stage,) = policy().stages
    assert stage.bounds == Bounds(l0=50, linf=8)
    by_name = {m.name: (m.column, m.low, m.high) for m in stage.metrics if isinstance(m, Clipped)}
    assert by_name["hours_sum"] == ("hours", 0.0, 2.0**40)
    assert by_name["hours_mean"] == ("hours", -(2.0**40), 2.0**40)
    assert by_name["days_median"] == ("days", -(2.0**40), 9.0)


def test_chosen_bounds_are_used_and_leave_the_digest():
    made = policy()
    done = choose(made)
    assert done.stages[0].bounds == Bounds(l0=3, linf=3)
    assert [(m.low, m.high) for m in done.stages[0].metrics[1:]] == [(0, 2), (-2, 2), (-2, 2), (-2, 9)]
    assert done.digest == made.digest
    assert made.stages[0].bounds.l0 == 50  # the policy itself stays as it was written


def test_a_bound_that_was_not_chosen_or_can_not_be_is_refused():
    made = policy()
    found = dict.fromkeys(made.automatic, 1.0)
    with pytest.raises(KeyError):
        made.with_chosen({key: value for key, value in found.items() if key[2] != "linf"})
    with pytest.raises(ValueError, match="must lie between 1 and 50, got 51"):
        made.with_chosen(found | {("a", None, "l0"): 51})
    with pytest.raises(ValueError, match="must lie within"):
        made.with_chosen(found | {("a", "hours_sum", "high"): 2.0**41})
    with pytest.raises(ValueError, match="must lie within"):
        made.with_chosen(found | {("a", "hours_sum", "high"): math.nan})


def test_what_the_policy_tells_apart_stays_apart_when_bounds_come_out_equal():
    """A sum over [0, high] and one over [low, high] with low chosen as 0 would be one quantity by their numbers, and a
    mean over [−2, 2] would share its sum."""
    made = policy()
    found = {key: 3 if key[1] is None else 2.0 for key in made.automatic}
    lows = {key: 0.0 for key in found if key[2] == "low"}
    names = [q.name for q in quantities(made.stages[0].metrics)]
    assert names == ["count", "hours_sum", "hours_mean.sum", "hours_variance.squares", "days_median.tree"]
    for done in (made.with_chosen(found | lows), choose(made)):
        assert [q.name for q in quantities(done.stages[0].metrics)] == names


def test_a_sum_and_a_mean_stay_two_whether_their_centres_come_out_equal_or_not():
    both = {"column": "hours", "low": AUTO, "high": AUTO}
    made = policy({**STAGE, "metrics": [{"sum": both}, {"mean": both}]})
    for low in (-2.0, 0.0):
        found = {key: 3 if key[1] is None else low if key[2] == "low" else 2.0 for key in made.automatic}
        for done in (made, made.with_chosen(found)):
            assert [q.name for q in quantities(done.stages[0].metrics)] == ["hours_sum", "hours_mean.sum", "count"]
            plan(done)  # the check derives the same


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["gaussian_thresholding", "laplace_thresholding", "truncated_geometric"]),
    st.sampled_from(["gaussian", "laplace"]),
    st.sampled_from(count_grid(50)),
    st.sampled_from(count_grid(8)),
    st.sampled_from([value for value in magnitudes(1e-6, 1e12) if value > 0]),
)
def test_whatever_is_chosen_the_plan_keeps_every_privacy_loss(strategy, kind, l0, linf, value):
    made = policy({**STAGE, "partitions": {"private": {"strategy": strategy}}, "noise": kind})
    before = PLANNED.setdefault((strategy, kind), plan(made))
    found = {("a", None, "l0"): l0, ("a", None, "linf"): linf}
    clips = {key: -value if key[2] == "low" else value for key in made.automatic if key[1] is not None}
    done = made.with_chosen(found | clips)
    after = plan(done)
    check_same_losses(before.mechanisms, after.mechanisms)
    assert after.certificate.epsilon <= 1.0
    selection = next(m for m in after.mechanisms if m.metric == "partitions")
    assert isinstance(selection, GaussianThresholding | LaplaceThresholding | TruncatedGeometric)
    assert selection.l0 == l0


PLANNED: dict[tuple[str, str], object] = {}


def test_the_check_refuses_a_plan_for_other_bounds_than_those_chosen():
    """Noise for a smaller l0 than the stage will keep to, or for narrower clipping."""
    made = policy()
    few, many = choose(made, count=2), choose(made, count=3)
    with pytest.raises(Refused, match=r"partitions: l2 must be 1\.73205080757 by"):
        check_plan(many.stages, plan(few).mechanisms, epsilon=1.0, delta=1e-6)
    narrow, wide = choose(made, value=1.0), choose(made, value=4.0)
    with pytest.raises(Refused, match="hours_sum: l2 must be"):
        check_plan(wide.stages, plan(narrow).mechanisms, epsilon=1.0, delta=1e-6)


@pytest.mark.parametrize("drop", range(4))
def test_the_check_refuses_a_plan_that_forgets_a_histogram(drop):
    made = policy()
    mechanisms = plan(made).mechanisms
    with pytest.raises(Refused, match=r"the plan must have the mechanisms a\.values/hours"):
        check_plan(made.stages, mechanisms[:drop] + mechanisms[drop + 1 :], epsilon=1.0, delta=1e-6)


def test_the_check_refuses_a_histogram_whose_noise_does_not_follow_its_weight():
    made = policy()
    mechanisms = list(plan(made).mechanisms)
    assert isinstance(mechanisms[2], Gaussian)
    mechanisms[2] = replace(mechanisms[2], sigma=mechanisms[2].sigma * 2)
    with pytest.raises(Refused, match=r"a\.units, l0: its noise must follow its weight"):
        check_plan(made.stages, mechanisms, epsilon=1.0, delta=1e-6)


def test_a_run_goes_on_only_with_the_losses_it_began_with():
    before = plan(policy()).mechanisms
    after = plan(choose(policy())).mechanisms
    check_same_losses(before, after)
    first = after[0]
    assert isinstance(first, Gaussian)
    less = (replace(first, sigma=first.sigma * 0.99), *after[1:])
    with pytest.raises(Refused, match=r"stage a\.values, hours: its noise against its sensitivity must stay"):
        check_same_losses(before, less)
    place = next(i for i, m in enumerate(after) if m.metric == "partitions")
    selection = after[place]
    assert isinstance(selection, GaussianThresholding)
    more = (*after[:place], replace(selection, delta=selection.delta * 2), *after[place + 1 :])
    with pytest.raises(Refused, match=r"stage a, partitions: its delta against its sensitivity must stay"):
        check_same_losses(before, more)
    with pytest.raises(Refused, match="the run must go on with the mechanisms"):
        check_same_losses(before, after[1:])


def test_a_plan_says_what_the_run_will_find_and_gives_noise_against_one_row():
    figures = plan(policy()).utility
    assert [(f.metric, f.parameter, f.most) for f in figures.automatic][:3] == [
        ("hours_sum", "high", 2.0**40),
        ("hours_mean", "low", -(2.0**40)),
        ("hours_mean", "high", 2.0**40),
    ]
    assert [(f.metric, f.parameter, f.most) for f in figures.automatic][-2:] == [(None, "l0", 50), (None, "linf", 8)]
    relative = {f.quantity: f.std for f in figures.relative}
    assert set(relative) == {"hours_sum", "hours_mean.sum", "hours_variance.squares"}
    most = {"l0": 50, "linf": 8, "low": -4.0, "high": 4.0}
    chosen = plan(policy().with_chosen({key: most[key[2]] for key in policy().automatic})).utility
    assert {f.metric: f.std for f in chosen.noise}["hours_sum"] == pytest.approx(4.0 * relative["hours_sum"])


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-3, 1e3), st.sampled_from([value for value in magnitudes(1e-6, 1e12) if value > 0]))
def test_noise_that_fits_the_finest_grid_fits_that_of_every_bound(low, high):
    """What the run checks before it is charged holds for all that it may choose after."""
    made = policy({**STAGE, "metrics": [{"sum": {"column": "hours", "low": -low, "high": AUTO}}]})
    (most,) = quantities(made.stages[0].metrics)
    (found,) = quantities(choose(made, value=high).stages[0].metrics)
    finest, own = kernels.grid_of(most).finest(), kernels.grid_of(found)
    assert found.reach / own.step <= most.reach / finest.step


def test_noise_that_fits_only_the_widest_bounds_is_refused():
    made = policy({**STAGE, "metrics": [{"mean": {"column": "hours", "low": 3.0, "high": {"auto": {"most": 9.0}}}}]})
    quantity = quantities(made.stages[0].metrics)[0]
    grid = kernels.grid_of(quantity)
    fits = Gaussian(stage="a", metric=quantity.name, sigma=grid.step * 2.0**30 * noise.MOST_OF_BOUNDS * 0.999, l2=1.0)
    noise.check(fits, grid)
    with pytest.raises(UsageError, match=r"must be below 2\*\*26 times its value bounds"):
        noise.check(fits, grid.finest())
