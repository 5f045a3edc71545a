"""Every kind of mechanism is known in every place that has to know it, and one that isn't known is refused there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest

from dpbeam.accounting.calibrate import calibrate
from dpbeam.accounting.certify import Certificate, certify_events
from dpbeam.accounting.check import check_same_losses
from dpbeam.accounting.epsilon_delta import epsilon_delta
from dpbeam.accounting.plan import Plan
from dpbeam.accounting.requests import SELECTIONS, Kind, Request
from dpbeam.accounting.utility import noise_figure, selection_figure, utility
from dpbeam.engine.rounds import weighing
from dpbeam.errors import DpbeamError
from dpbeam.mechanisms.events import (
    KINDS,
    Additive,
    Mechanism,
    Selection,
    Thresholding,
    WeightedThresholding,
    from_json,
    to_json,
)
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.selection import Selector
from dpbeam.pipelines.cli import terminal
from dpbeam.reporting import formats, report
from tests.helpers.requested import check_requested

ROOT = Path(__file__).parents[3]
EPSILON, DELTA = 1.0, 1e-6


def request(kind: str) -> Request:
    """A request for a mechanism of the kind, in a stage of its own."""
    which: dict[str, Any] = {"kind": kind, "stage": "s", "weight": 1.0}
    if kind not in SELECTIONS:
        return Request(metric="count", l1=1.0, l2=1.0, **which)
    in_rounds = kind == WeightedThresholding.kind
    return Request(
        metric="partitions.round1" if in_rounds else "partitions", strategy="mad" if in_rounds else None, **which
    )


def made(kind: str) -> Mechanism:
    """The calibrated mechanism of the kind."""
    (mechanism,) = calibrate([request(kind)], epsilon=EPSILON, delta=DELTA)
    return mechanism


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A mechanism that nothing knows, with all fields that any has."""

    kind: ClassVar[str] = "unknown"
    stage: str = "s"
    metric: str = "partitions"
    scale: float = 1e6
    sigma: float = 1e6
    l1: float = 1.0
    l2: float = 1.0
    epsilon: float = 0.1
    delta: float = 1e-9
    threshold: float = 1e9
    l0: int = 1
    pre_threshold: int = 1
    saturation: float = 0.0
    least_bias: float = 1.0
    strategy: str = "mad"
    other: None = None


def draw(mechanism: Mechanism) -> object:
    """What applies the mechanism, on a value, a unit count or a weight."""
    match mechanism:
        case mechanism if isinstance(mechanism, get_args(Additive)):
            return AdditiveNoise(mechanism=mechanism).to_counts(np.array([7]))
        case WeightedThresholding():
            return weighing.check(mechanism)
        case _:
            return Selector(mechanism=mechanism).keep(np.array([7]))


def check(mechanism: Mechanism) -> object:
    """The check of a plan that asks for its kind; for Gaussian noise, if there is no such kind."""
    asked = request(mechanism.kind if mechanism.kind in KINDS else "gaussian")
    return check_requested([asked], [replace(mechanism, metric=asked.metric)], epsilon=EPSILON, delta=DELTA)


def figure(mechanism: Mechanism) -> object:
    """Its figures in a plan: how wide noise is, or how many units a partition needs."""
    return noise_figure(mechanism) if isinstance(mechanism, get_args(Additive)) else selection_figure(mechanism)


def shown(mechanism: Mechanism) -> object:
    """The plan that has this mechanism alone, as the command line shows it."""
    plan = Plan(
        dataset="d",
        policy_digest="",
        epsilon=EPSILON,
        delta=DELTA,
        mechanisms=(mechanism,),
        certificate=Certificate(naive=1.0, rdp=1.0, pld=1.0),
        utility=utility([mechanism], {}),
    )
    return terminal.plan(plan, None)


PLACES: Mapping[str, Callable[[Mechanism], object]] = {
    "accounting/certify.py": lambda m: certify_events([m], epsilon=EPSILON, delta=DELTA),
    "accounting/check.py, a plan": check,
    "accounting/check.py, losses": lambda m: check_same_losses([m], [m]),
    "accounting/epsilon_delta.py": epsilon_delta,
    "accounting/utility.py": figure,
    "mechanisms/events.py, JSON": lambda m: from_json(to_json(m)),
    "mechanisms, drawing": draw,
    "pipelines/cli/terminal.py": shown,
    "reporting/report.py": report._mechanism_view,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_every_place_knows_every_kind(place: str, kind: str) -> None:
    PLACES[place](made(kind))


@pytest.mark.parametrize("place", PLACES)
def test_no_place_passes_over_a_mechanism_that_it_does_not_know(place: str) -> None:
    with pytest.raises((DpbeamError, TypeError, ValueError)) as refused:
        PLACES[place](Unknown())  # type: ignore[arg-type]
    assert "nknown" in str(refused.value)


def test_the_certifier_refuses_an_unknown_mechanism_beside_known_ones() -> None:
    known = made("gaussian")
    with pytest.raises(DpbeamError) as refused:
        certify_events([known, Unknown()], epsilon=2.0, delta=DELTA)  # type: ignore[list-item]
    assert str(refused.value) == "no privacy loss is known of Unknown: events are those of dpbeam.events"


def test_the_check_of_a_plan_refuses_a_mechanism_that_only_claims_to_be_of_a_known_kind() -> None:
    posing = type("Posing", (Unknown,), {"kind": "gaussian"})(metric="count")
    with pytest.raises(DpbeamError) as refused:
        check(posing)
    assert str(refused.value) == f"no noise is known of {posing!r}"


def test_an_unknown_mechanism_has_every_field_so_that_nothing_stumbles_over_one_that_lacks() -> None:
    assert {field.name for kind in KINDS.values() for field in fields(kind)} == {
        field.name for field in fields(Unknown)
    }


def test_every_kind_can_be_asked_for_and_is_what_comes_out() -> None:
    assert get_args(Kind) == tuple(KINDS)
    assert {made(kind).kind for kind in KINDS} == set(KINDS)
    assert {kind for kind, cls in KINDS.items() if not issubclass(cls, get_args(Additive))} == SELECTIONS


def test_the_types_of_mechanisms_are_those_of_the_kinds() -> None:
    members = {*get_args(Additive), *get_args(Selection), WeightedThresholding}
    assert members == set(KINDS.values()) == set(get_args(Mechanism))
    assert set(get_args(Thresholding)) < set(get_args(Selection))


def test_a_plan_has_the_figures_of_every_kind() -> None:
    figures = utility([made(kind) for kind in KINDS if kind not in SELECTIONS], {})
    assert [each.kind for each in figures.noise] == [kind for kind in KINDS if kind not in SELECTIONS]
    for kind in SELECTIONS:
        (selection,) = utility([made(kind)], {}).selections
        assert selection.kind == ("mad" if kind == WeightedThresholding.kind else kind)


@pytest.mark.parametrize("name", ["manifest", "plan"])
def test_the_schemas_of_formats_have_every_kind(name: str) -> None:
    text = json.dumps(formats.schema(name))
    assert [kind for kind in KINDS if f'"const": "{kind}"' not in text] == []


def test_the_page_of_formats_has_a_row_for_every_kind() -> None:
    page = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"\n| `{kind}` |" not in page] == []


def test_the_recipe_for_contributors_names_every_place() -> None:
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## How to add a mechanism")[2]
    recipe = recipe.partition("\n## ")[0]
    places = {place.partition(",")[0] for place in PLACES} - {"mechanisms", "pipelines/cli/terminal.py"}
    drawn = {f"mechanisms/{name}.py" for name in ("noise", "noise_width", "selection")} | {"engine/stage.py"}
    asked = {f"accounting/{name}.py" for name in ("requests", "stage_requests", "calibrate", "expected")}
    assert [name for name in sorted(places | drawn | asked) if f"dpbeam/{name}" not in recipe] == []
    assert "`pipelines/cli/terminal.py`" in recipe
