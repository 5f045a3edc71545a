"""Every metric and quantity is known in every room that has to know it, each in one module a family."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpbeam.accounting.expectations.base import expected_quantities
from dpbeam.engine.aggregation.kernels import KERNELS
from dpbeam.engine.metrics import result_columns
from dpbeam.policy.metrics import ARGUMENTS
from dpbeam.queries.metrics import FAMILIES, KINDS, TYPES
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import QUANTITIES, Quantity

ROOT = Path(__file__).parents[3]
ROOMS = ("queries/metrics", "policy/metrics", "accounting/expectations", "engine/metrics")


def concrete(kind: type[Any]) -> Iterator[type[Any]]:
    """The types that can be made, of all that are derived from `kind` in dpbeam."""
    for derived in kind.__subclasses__():
        if derived.__module__.startswith("dpbeam.") and not inspect.isabstract(derived) and "kind" in vars(derived):
            yield derived
        yield from concrete(derived)


ANSWERS = {"dpbeam.accounting.expectations": expected_quantities, "dpbeam.engine.metrics": result_columns}


def missing(metrics: tuple[type[Metric], ...], quantities: tuple[type[Quantity], ...]) -> list[str]:
    """What some room doesn't know, by name."""
    return [
        *(f"dpbeam.policy.metrics: {each.kind}" for each in metrics if each.kind not in ARGUMENTS),
        *(
            f"{where}: {each.__name__}"
            for where, known in ANSWERS.items()
            for each in metrics
            if known.dispatch(each) is known.dispatch(object)
        ),
        *(f"dpbeam.engine.metrics, kernel of {each.__name__}" for each in quantities if each not in KERNELS),
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_module_a_family_and_no_other(room: str) -> None:
    found = {path.stem for path in (ROOT / "dpbeam" / room).glob("*.py")} - {"__init__", "base"}
    assert found == set(FAMILIES)


def test_every_room_knows_every_metric_and_quantity() -> None:
    assert missing(TYPES, tuple(set(concrete(Quantity)))) == []


def test_what_no_room_knows_is_named() -> None:
    mode = type("Mode", (Metric,), {"kind": "mode"})
    values = type("Modes", (Quantity,), {"kind": "modes"})
    assert missing((mode,), (values,)) == [
        "dpbeam.policy.metrics: mode",
        "dpbeam.accounting.expectations: Mode",
        "dpbeam.engine.metrics: Mode",
        "dpbeam.engine.metrics, kernel of Modes",
    ]


def test_the_recipe_for_contributors_names_a_metric_s_files() -> None:
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## How to add a metric")[2]
    assert [f"dpbeam/{room}/count_if.py" in recipe for room in ROOMS] == [True] * len(ROOMS)
    files = [path for path in (ROOT / "dpbeam").rglob("*.py") if "count_if" in path.read_text(encoding="utf-8")]
    others = {path.relative_to(ROOT / "dpbeam").as_posix() for path in files if path.stem != "count_if"}
    assert others == {"queries/metrics/__init__.py", "policy/builder.py"}


def test_the_lists_of_types_are_whole() -> None:
    assert set(concrete(Metric)) == set(TYPES)
    assert set(concrete(Quantity)) >= set(QUANTITIES)
    assert set(ARGUMENTS) == set(KINDS)
    assert len({each.kind for each in QUANTITIES}) == len(QUANTITIES)
