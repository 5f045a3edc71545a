"""What one unit adds to one `other` of hierarchical keys: in the plan, checked again, and no less than the worst."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from dpbeam.accounting import stage_requests
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.check import check_plan, check_same_losses
from dpbeam.accounting.check_other import Leaves, _worst_squares
from dpbeam.accounting.plan import plan
from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms.events import Gaussian, Laplace, Other, from_json, to_json
from dpbeam.pipelines.cli import terminal
from dpbeam.queries.residual import effect_on_residual
from dpbeam.reporting.formats import violations
from tests.helpers.queries import query_of

EPSILON, DELTA = 1.0, 1e-6
V = {"column": "v", "low": 0.0, "high": 10.0}
EVERY = [
    "count",
    "privacy_id_count",
    {"sum": V},
    {"mean": V},
    {"variance": V},
    {"median": V},
    {"sum": {"column": "v", "low_total": -2.0, "high_total": 7.0, "name": "total"}},
    {"histogram": {"column": "v", "edges": [0.0, 5.0, 10.0]}},
    {"vector_sum": {"columns": ["v", "w"], "norm": "linf", "max_norm": 3.0}},
    {"distinct_count": {"column": "t"}},
    {"top_k": {"column": "t", "k": 2, "max_values": 3}},
    {"top_k": {"column": "t", "k": 2, "max_values": 3, "candidates": ["a", "b"], "name": "listed"}},
]


def policy(bounds, metrics=EVERY, noise="gaussian", *, source=None, **private):
    stage = {
        "name": "a",
        "group_by": ["j", "k"],
        "partitions": {"private": {"strategy": "truncated_geometric", "hierarchical": True} | private},
        "bounds": bounds,
        "metrics": metrics,
        "noise": noise,
    }
    text, number = {"type": "string"}, {"type": "float64"}
    return query_of(
        {
            "version": 1,
            "dataset": "d",
            "source": {"format": "csv", "path": "d.csv"} | (source or {}),
            "privacy_unit": "user",
            "columns": {
                "user": text,
                "j": text,
                "k": text,
                "t": text,
                "v": number,
                "w": number,
                "n": {"type": "int64"},
            },
            "run": {"epsilon": EPSILON, "delta": DELTA},
            "stages": [stage],
        }
    )


def others(made):
    return {m.metric: m.other for m in made.mechanisms if isinstance(m, Gaussian | Laplace)}


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
@pytest.mark.parametrize(
    ("bounds", "other_l0"),
    [({"l0": 6, "linf": 2}, None), ({"l0": 6, "linf": 2}, 1), ({"l0": 1, "linf": 1}, None), ({"l1": 5}, None)],
    ids=str,
)
def test_every_metric_has_its_figure_in_plan_json_and_manifest_and_passes_the_check(noise, bounds, other_l0):
    made = plan(policy(bounds, noise=noise, other_l0=other_l0))
    assert {m.metric for m in made.mechanisms} == {*others(made), "partitions", "t_top_k"}
    assert None not in others(made).values()
    assert tuple(from_json(to_json(m)) for m in made.mechanisms) == made.mechanisms
    printed = made.to_json()
    assert printed["version"] == 2
    assert violations("plan", printed | {"ledger": None}) == []
    assert [figure["quantity"] for figure in printed["utility"]["others"]] == list(others(made))


def test_the_figures_of_a_plan():
    found = others(plan(policy({"l0": 6, "linf": 2}, other_l0=4)))
    rows = {"leaves": 4, "rows": 8}
    assert found["count"] == Other(**rows, most=8.0, noise=2.0)
    assert found["privacy_id_count"] == Other(**rows, most=1.0, noise=1.0)
    assert found["v_sum"] == Other(**rows, most=80.0, noise=2.0)
    assert found["v_mean.sum"] == Other(**rows, most=40.0, noise=2.0)
    assert found["v_median.tree"] == Other(**rows, most=16.0, noise=2.0)
    assert found["total"] == Other(**rows, most=28.0, noise=2.0)
    assert found["listed"] == Other(**rows, most=math.sqrt(3), noise=1.0)
    whole = others(plan(policy({"l0": 6, "linf": 2})))
    assert whole["count"] == Other(leaves=6, rows=12, most=12.0, noise=math.sqrt(6))
    assert others(plan(policy({"l1": 5})))["count"] == Other(leaves=5, rows=5, most=5.0, noise=1.0)
    assert others(plan(policy({"l1": 5})))["total"] == Other(leaves=5, rows=5, most=35.0, noise=math.sqrt(5))
    laplace = others(plan(policy({"l0": 6, "linf": 2}, noise="laplace")))
    assert {other.noise for other in laplace.values()} == {1.0}
    assert laplace["v_median.tree"].most == 48.0


def test_leaves_have_the_noise_that_they_have_without_a_hierarchy():
    stage = {"strategy": "truncated_geometric", "hierarchical": False}
    plain = plan(policy({"l0": 6, "linf": 2}, **stage))
    made = plan(policy({"l0": 6, "linf": 2}))
    assert tuple(replace(m, other=None) if isinstance(m, Gaussian) else m for m in made.mechanisms) == plain.mechanisms
    assert made.certificate == plain.certificate
    assert plain.to_json()["version"] == 1
    assert plain.utility.others == ()


def test_rows_aggregated_already_are_totals_of_leaves():
    source = {"pre_aggregated": {"count": "n"}}
    metrics = ["count", "privacy_id_count", {"sum": {"column": "v", "low_total": -2.0, "high_total": 7.0}}]
    found = others(plan(policy({"l0": 4, "linf": 5}, metrics, source=source)))
    assert found["count"] == Other(leaves=4, rows=None, most=20.0, noise=2.0)
    assert found["v_sum"] == Other(leaves=4, rows=None, most=28.0, noise=2.0)


def test_without_bounds_on_rows_what_is_counted_once_has_a_figure():
    metrics = ["privacy_id_count", EVERY[6], EVERY[-1]]
    found = others(plan(policy({"l0": 4}, metrics)))
    assert found["privacy_id_count"] == Other(leaves=4, rows=None, most=1.0, noise=1.0)
    assert found["total"] == Other(leaves=4, rows=None, most=28.0, noise=2.0)
    assert found["listed"] == Other(leaves=4, rows=None, most=math.sqrt(3), noise=1.0)


def test_automatic_bounds_keep_their_losses_when_they_are_chosen():
    auto = policy({"l0": {"auto": {"max": 50}}, "linf": {"auto": {"max": 8}}}, EVERY[:4], other_l0=9)
    before = plan(auto)
    assert others(before)["count"] == Other(leaves=9, rows=72, most=72.0, noise=3.0)
    for l0, leaves in ((4, 4), (16, 9)):
        chosen = {key: l0 if key[2] == "l0" else 2 for key in auto.automatic}
        after = plan(auto.with_chosen(chosen))
        check_same_losses(before.mechanisms, after.mechanisms)
        rows = 2 * leaves
        assert others(after)["count"] == Other(leaves=leaves, rows=rows, most=float(rows), noise=leaves**0.5)


@pytest.mark.parametrize("most", [1, 2, 3, 5])
@pytest.mark.parametrize("l0", [1, 2, 3, 5, 7])
def test_no_way_to_fill_others_moves_the_values_further_and_less_noise_would_not_do(l0, most):
    """Against every way to split up to l0 leaves into kept ones and others of up to `most`."""
    other = others(plan(policy({"l0": l0, "linf": 2}, ["count"], other_l0=min(l0, most))))["count"]

    def worst(factor):
        ways = (
            parts
            for others_ in range(l0 + 1)
            for parts in itertools.combinations_with_replacement(range(1, min(l0, most) + 1), others_)
            if sum(parts) <= l0
        )
        return max((l0 - sum(parts)) * 4 + sum((2 * n / factor) ** 2 for n in parts) for parts in ways)

    assert worst(other.noise) == pytest.approx(l0 * 4, rel=1e-12)
    if other.noise > 1:
        assert worst(other.noise * 0.99) > l0 * 4
    # The check's own search finds the same worst, whatever noise others have.
    together = lambda n: (2.0 * n, 2.0 * n)  # noqa: E731
    leaves = Leaves(leaves=1, rows=1, count=l0, most=min(l0, most), leaf=2.0, together=together)
    for factor in (1.0, 1.3, other.noise, 2.5, 10.0):
        assert _worst_squares(leaves, factor) == pytest.approx(worst(factor), rel=1e-12)


MADE = policy({"l0": 6, "linf": 2}, ["count", "privacy_id_count", EVERY[6], EVERY[-1]], other_l0=4)


@pytest.mark.parametrize(
    ("metric", "change", "message"),
    [
        (
            "count",
            {"noise": 1.9},
            "with others at 1.9 times a leaf's noise a unit moves the values by 5.07233002238 in l2, more than the "
            "stated 4.89897948557",
        ),
        ("count", {"noise": 2.1}, "others have more noise than the policy's bounds ask for, 2.1 times"),
        ("count", {"leaves": 3}, "leaves of a unit in an other must be 4 by the stage's bounds, got 3"),
        ("count", {"rows": 2}, "a unit's rows in an other must be 8 by the stage's bounds, got 2"),
        ("count", {"most": 2.0}, "a unit's change of an other must be 8 by the stage's bounds, got 2"),
        (
            "total",
            {"noise": 1.0},
            "with others at 1 times a leaf's noise a unit moves the values by 31.304951685 in l2, more than the "
            "stated 17.1464281995",
        ),
        ("privacy_id_count", {"most": 4.0}, "a unit's change of an other must be 1 by the stage's bounds, got 4"),
        ("listed", {"rows": None}, "a unit's rows in an other must be 8 by the stage's bounds, got None"),
    ],
)
def test_a_slip_in_what_an_other_takes_is_refused(metric, change, message):
    mechanisms = [
        replace(m, other=replace(m.other, **change)) if m.metric == metric else m for m in plan(MADE).mechanisms
    ]
    with pytest.raises(Refused) as error:
        check_plan(MADE.stages, mechanisms, epsilon=EPSILON, delta=DELTA)
    assert str(error.value) == f"stage a, {metric}: {message}"


@pytest.mark.parametrize(
    "slip",
    [
        lambda quantity, bounds, leaves, noise: effect_on_residual(quantity, bounds, 1, noise),
        lambda quantity, bounds, leaves, noise: replace(effect_on_residual(quantity, bounds, leaves, noise), noise=1.0),
        lambda quantity, bounds, leaves, noise: None,
    ],
    ids=["one leaf alone", "the noise of leaves", "no other"],
)
def test_a_slip_in_the_plans_own_rule_is_refused(monkeypatch, slip):
    monkeypatch.setattr(stage_requests, "effect_on_residual", slip)
    with pytest.raises(Refused, match=r"^stage a, count: "):
        plan(policy({"l0": 6, "linf": 2}))


@pytest.mark.parametrize(
    ("noise", "change", "message"),
    [
        (
            "gaussian",
            {"noise": 1.0},
            "at 1 times a leaf's noise one other moves by 8 against it, more than the stated 4.89898",
        ),
        (
            "laplace",
            {"most": 13.0},
            "at 1 times a leaf's noise one other moves by 13 against it, more than the stated 12",
        ),
    ],
)
def test_what_contradicts_itself_is_not_certified_without_the_policy(noise, change, message):
    selection, count = plan(policy({"l0": 6, "linf": 2}, ["count"], noise, other_l0=4)).mechanisms
    assert certify_events([selection, count], epsilon=EPSILON, delta=DELTA)
    with pytest.raises(Refused) as error:
        certify_events([selection, replace(count, other=replace(count.other, **change))], epsilon=EPSILON, delta=DELTA)
    assert str(error.value) == f"stage a, count: {message}"


def test_a_forgotten_other_is_refused():
    mechanisms = [replace(m, other=None) if m.metric == "count" else m for m in plan(MADE).mechanisms]
    with pytest.raises(Refused) as error:
        check_plan(MADE.stages, mechanisms, epsilon=EPSILON, delta=DELTA)
    assert str(error.value) == (
        "stage a, count: keys are hierarchical, so the mechanism must say what one unit adds to an other"
    )


def test_an_other_without_a_hierarchy_is_refused():
    flat = policy({"l0": 6, "linf": 2}, ["count"], hierarchical=False)
    selection, count = plan(flat).mechanisms
    slip = replace(count, other=Other(leaves=1, rows=2, most=2.0, noise=1.0))
    with pytest.raises(Refused) as error:
        check_plan(flat.stages, [selection, slip], epsilon=EPSILON, delta=DELTA)
    assert str(error.value) == "stage a, count: keys aren't hierarchical, so the mechanism must have no other"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"leaves": 0}, "leaves must be a whole number of at least 1, got 0"),
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"most": math.inf}, "most must be a positive finite number, got inf"),
        ({"noise": math.nan}, "noise must be a positive finite number, got nan"),
        ({"noise": 0.5}, "noise must be at least 1, got 0.5"),
    ],
)
def test_an_other_that_makes_no_sense_cant_be_built(fields, message):
    with pytest.raises(ValueError) as error:
        Other(**({"leaves": 1, "rows": 1, "most": 1.0, "noise": 1.0} | fields))
    assert str(error.value) == message


def test_laplace_noise_is_the_same_in_others():
    other = Other(leaves=2, rows=2, most=2.0, noise=2.0)
    with pytest.raises(ValueError, match=r"an other has the Laplace noise of a leaf, got 2\.0 times that"):
        Laplace(stage="a", metric="count", scale=1.0, l1=2.0, other=other)


def test_a_selection_has_no_other():
    other = Other(leaves=1, rows=1, most=1.0, noise=1.0)
    with pytest.raises(UsageError, match="a selection looks at leaves, so it has no other"):
        Request(stage="a", metric="partitions", kind="truncated_geometric", weight=1.0, other=other)


def test_a_metric_that_is_called_like_a_part_of_others_is_shown_by_its_name():
    made = plan(policy({"l0": 6, "linf": 2}, [{"sum": V | {"name": "sum"}}, {"mean": V | {"name": "m"}}]))
    console = Console(width=400)
    with console.capture() as shown:
        console.print(terminal.plan(made, None))
    assert re.search(r"That moves its sum by [0-9.,]+, centred sum by ", shown.get())
