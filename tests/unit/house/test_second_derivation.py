"""What a plan must be is derived twice, by code that has the query's fields in common and no more."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity
from dpbeam.queries.query import Stage
from tests.helpers.imports import imported, imported_modules, module_paths, name_of

MODULES = {name_of(path): path for path in module_paths()}
OF_METRICS = sorted(name for name in MODULES if name.startswith("dpbeam.accounting.expectations"))
SECOND = ("dpbeam.accounting.expected", "dpbeam.accounting.check", "dpbeam.accounting.check_other", *OF_METRICS)
COMPOSING = ("dpbeam.accounting.certify", "dpbeam.accounting.composition")

ASKED = {
    "dpbeam.queries.query", "dpbeam.queries.bounds", "dpbeam.queries.selections",
    *(name for name in MODULES if name.startswith("dpbeam.queries.metrics")),
}  # fmt: skip
"""What is asked, as fields; what follows from it lies in modules beside them (quantities, sharing, residual …)."""
SEEN = {"dpbeam.errors", "dpbeam.mechanisms.events", "dpbeam.accounting.requests", *ASKED, *SECOND, *COMPOSING}
"""All of the house that the second derivation may import. A `Request` stands in for a stage in some tests."""
CALIBRATING = {
    f"dpbeam.accounting.{name}" for name in ("calibrate", "rounds", "requests", "stage_requests", "automatic", "plan")
} | {name for name in MODULES if name.startswith("dpbeam.queries")}
"""What plans are made by and from; the certifier knows neither."""

DERIVED = {
    *(name for name, value in vars(Bounds).items() if callable(value) and not name.startswith("_")),
    *(name for name, value in vars(Quantity).items() if callable(value) and not name.startswith("_")),
    *Metric.__abstractmethods__,
    *(name for name in ("histograms", "shares_count", "counting") if vars(Stage)[name]),
}
"""What the plan is made from that can be asked of the query's own values, without an import."""


def unseen(module: str, allowed: set[str]) -> set[str]:
    """What a module imports of the house beyond what it may."""
    return imported_modules(MODULES[module], MODULES) - allowed


def reached(module: str) -> set[str]:
    """All modules of the house that one imports, and those that these import, and so on."""
    found, left = set(), {module}
    while left:
        found |= left
        left = {other for name in left for other in imported_modules(MODULES[name], MODULES)} - found
    return found


def asked(path: Path) -> set[str]:
    """The names of all attributes that a file reads."""
    return {
        node.attr for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize("module", SECOND)
def test_the_second_derivation_imports_nothing_that_the_plan_is_made_from(module: str) -> None:
    assert unseen(module, SEEN) == set()


def test_the_certifier_reaches_nothing_of_the_calibration_by_any_way() -> None:
    assert set(MODULES) >= CALIBRATING
    assert reached("dpbeam.accounting.certify") & CALIBRATING == set()


def test_neither_imports_the_library_that_the_calibration_composes_with() -> None:
    composing = {name for name in reached("dpbeam.accounting.certify") if name.startswith("dpbeam.accounting.")}
    packages = {name: {each.partition(".")[0] for each in imported(MODULES[name])} for name in {*SECOND, *composing}}
    assert "dp_accounting" in {each.partition(".")[0] for each in imported(MODULES["dpbeam.accounting.calibrate"])}
    assert [name for name, found in packages.items() if "dp_accounting" in found] == []


@pytest.mark.parametrize("module", SECOND)
def test_the_second_derivation_asks_no_value_for_what_it_derives_itself(module: str) -> None:
    of_requests = {"sensitivity"} if module == "dpbeam.accounting.expected" else set()
    assert asked(MODULES[module]) & (DERIVED - of_requests) == set()


def test_what_may_not_be_asked_is_what_the_plan_asks() -> None:
    assert {"sensitivity", "numbers", "of_rows", "of_partitions", "of_values", "histograms"} <= DERIVED
    assert asked(MODULES["dpbeam.accounting.stage_requests"]) & DERIVED
