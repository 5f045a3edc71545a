"""Imports point one way only, and importing the core stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.imports import FOLDERS, ROOT, circle, imported, imported_modules, module_paths, name_of

ROOMS = (
    "dpbeam.errors", "dpbeam.extras", "dpbeam._version", "dpbeam.array_types", "dpbeam.mechanisms",
    "dpbeam.events", "dpbeam.queries", "dpbeam.reading", "dpbeam.engine", "dpbeam.policy", "dpbeam.accounting",
    "dpbeam.reporting", "dpbeam.ledger", "dpbeam.phases", "dpbeam.transforms", "dpbeam.adapters", "dpbeam.pipelines",
    "dpbeam.beam", "dpbeam.__main__",
)  # fmt: skip
"""Every room sees those before it and none after it."""

APART = {
    "dpbeam.ledger": ("dpbeam.ledger", "dpbeam.errors"),
    "dpbeam.transforms": (
        "dpbeam.transforms", "dpbeam.engine", "dpbeam.reading", "dpbeam.queries", "dpbeam.mechanisms",
        "dpbeam.array_types", "dpbeam.errors", "dpbeam.extras",
    ),
    "dpbeam.reporting": (
        "dpbeam.reporting", "dpbeam.accounting", "dpbeam.mechanisms", "dpbeam.errors", "dpbeam._version",
    ),
    "dpbeam.accounting": (
        "dpbeam.accounting", "dpbeam.queries", "dpbeam.mechanisms", "dpbeam.array_types", "dpbeam.errors",
    ),
}  # fmt: skip
"""What rooms may see that need less than all before them."""

WITH_BEAM = {"adapters", "beam"}
"""The folders of dpbeam/ itself whose modules import Beam."""

ALLOWED = {room: APART.get(room, ROOMS[: place + 1]) for place, room in enumerate(ROOMS)} | {"dpbeam": ROOMS}


MODULES = {name_of(path): path for path in module_paths()}
IMPORTS = {module: imported_modules(path, MODULES) for module, path in MODULES.items()}


def room_of(module: str) -> str:
    """The room of a module; a KeyError if it is in none that is listed."""
    head = ".".join(module.split(".")[:2])
    if head not in ALLOWED:
        raise KeyError(f"{module} is in no listed room: give {head} its place in ROOMS")
    return head


@pytest.mark.parametrize("path", MODULES.values(), ids=name_of)
def test_a_module_imports_only_from_the_rooms_its_own_may_see(path: Path) -> None:
    allowed = ALLOWED[room_of(name_of(path))]
    ours = {name for name in imported(path) if name.split(".")[0] in FOLDERS}
    assert {name for name in ours if not any(name == room or name.startswith(room + ".") for room in allowed)} == set()


def test_a_room_that_is_not_listed_may_see_nothing() -> None:
    with pytest.raises(KeyError) as refused:
        room_of("dpbeam.attic.trunk")
    assert refused.value.args == ("dpbeam.attic.trunk is in no listed room: give dpbeam.attic its place in ROOMS",)


def test_no_modules_import_each_other() -> None:
    """Not inside a function and not for types alone either: what needs each other is one thing, or needs a third."""
    assert circle(IMPORTS) == []


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES.values() if p.is_relative_to(ROOT / "dpbeam") and not {"adapters", "beam"} & set(p.parts)],
    ids=name_of,
)
def test_the_core_does_not_import_beam(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "apache_beam"}


@pytest.mark.parametrize(
    "statement",
    ["import dpbeam", "import dpbeam.policy.load, dpbeam.ledger, dpbeam.accounting.plan, dpbeam.reporting.manifest"],
)
def test_importing_the_core_does_not_load_beam(statement: str) -> None:
    check = f"{statement}; import sys; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


SAMPLING = {
    "dpbeam.mechanisms.noise": {"pydp.algorithms.numerical_mechanisms"},
    "dpbeam.mechanisms.randomness": {"pydp.util"},
    "dpbeam.mechanisms.selection": {"pydp.algorithms.partition_selection"},
    "dpbeam.mechanisms.rare_partitions": {"pydp.distributions"},
    "dpbeam.adapters.reference.plan": {"pydp.algorithms.numerical_mechanisms"},
}
"""What may import PyDP, and what of it: whole noise; words to throw away after a fork; decisions yes or no, gaps
between them; and to ask how wide what PipelineDP draws is. None but the first has a number that is released."""


def test_noise_is_asked_for_at_one_place_and_pydp_is_used_for_nothing_else() -> None:
    """No number gets noise but by `AdditiveNoise.draw`, which hands PyDP an integer that is always the same, and by
    PipelineDP's own mechanisms in their own engine, which are only ever asked for noise on a zero."""
    asking, using = [], {}
    for path in MODULES.values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called = {node.func: node for node in calls}
        asking += [
            (name_of(path), ast.unparse(called.get(node, node)))
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "add_noise"
        ]
        found = {name.rpartition(".")[0] for name in imported(path) if name.split(".")[0] == "pydp"}
        if found:
            using[name_of(path)] = found
    assert asking == [
        ("dpbeam.adapters.reference.stepped", "mechanism.add_noise(0.0)"),
        ("dpbeam.mechanisms.noise", "self._sampler[0].add_noise"),
    ]
    assert using.items() <= SAMPLING.items()
