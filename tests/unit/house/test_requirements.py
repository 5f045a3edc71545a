"""setup.py names what the code imports, from the lowest version that is tested to below the next untested one."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
OURS = ("dpbeam", "transforms", "pipelines")


def stated() -> dict[str, list[Requirement]]:
    """The requirements in setup.py's call, by extra: what is always installed is `base`. An extra's own of dpbeam's
    other extras are left out."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "setup")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    lists = {"base": ast.literal_eval(given["install_requires"]), **ast.literal_eval(given["extras_require"])}
    found = {kind: [Requirement(text) for text in lines] for kind, lines in lists.items()}
    return {kind: [one for one in ones if one.name != "dpbeam"] for kind, ones in found.items()}


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.lstrip().startswith("#")]


STATED = stated()
ALL = [requirement for requirements in STATED.values() for requirement in requirements]
NEED_EXTRAS = (
    "transforms",
    "pipelines/jobs",
    "pipelines/lifecycle",
    "dpbeam/adapters",
    "dpbeam/beam",
    "dpbeam/ledger/stores/postgresql",
)
"""The rooms that may import what comes with an extra."""


def bound(requirement: Requirement, operator: str) -> Version:
    (found,) = (Version(spec.version) for spec in requirement.specifier if spec.operator == operator)
    return found


def imported(rooms: tuple[str, ...], but: tuple[str, ...] = ()) -> dict[str, str]:
    """The packages of others that modules import, at the top or within functions, each with one module that does."""
    found: dict[str, str] = {}
    for path in sorted(path for room in rooms for path in (ROOT / room).rglob("*.py")):
        if any(path.is_relative_to(ROOT / room) for room in but):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            found |= {name.partition(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name not in OURS}


@pytest.fixture(scope="module")
def owners() -> dict[str, set[str]]:
    """Which installed distributions each package that can be imported comes from."""
    found: dict[str, set[str]] = {}
    for one in metadata.distributions():
        files = re.findall(r"^([^/,]+)\S*\.(?:py|so),", one.read_text("RECORD") or "", re.MULTILINE)
        for top in {file.partition(".")[0] for file in files}:
            found.setdefault(top, set()).add(canonicalize_name(one.metadata["Name"]))
    return found


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_every_import_is_of_a_dependency_that_is_named_and_none_is_named_in_vain(owners) -> None:
    named = names(STATED["base"] + STATED["beam"] + STATED["pipelinedp"] + STATED["postgresql"])
    used = {(package, path): owners.get(package, set()) & named for package, path in imported(OURS).items()}
    assert [of for of, found in used.items() if not found] == []
    assert named - set().union(*used.values()) == set()


def test_what_needs_no_extra_imports_what_comes_with_none(owners) -> None:
    used = {(package, path): owners.get(package, set()) for package, path in imported(OURS, but=NEED_EXTRAS).items()}
    assert [of for of, found in used.items() if not found & names(STATED["base"])] == []
    assert not names(STATED["base"]) & names(STATED["beam"] + STATED["pipelinedp"] + STATED["postgresql"])


def test_every_import_of_the_tests_is_of_a_dependency_that_is_named(owners) -> None:
    rooms = ("tests/unit", "tests/statistical", "tests/system")
    ours = {"tests", "benchmarks", *(path.stem for room in rooms for path in (ROOT / room).glob("*.py"))}
    used = {package: path for package, path in imported(rooms).items() if package not in ours}
    assert [of for of in used.items() if not owners.get(of[0], set()) & names(ALL)] == []


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_every_dependency_has_a_lower_and_an_upper_bound(requirement: Requirement) -> None:
    assert bound(requirement, ">=") < bound(requirement, "<")


def pythons() -> list[str]:
    """The minor versions of Python that dpbeam runs on."""
    (stated,) = re.findall(r'python_requires="(.+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    return [f"3.{minor}" for minor in range(30) if SpecifierSet(stated).contains(f"3.{minor}")]


def holding(requirements: list[Requirement], python: str) -> list[Requirement]:
    """Those whose marker holds in CPython `python` on Linux."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux",
        "platform_python_implementation": "CPython", "implementation_name": "cpython",
    }  # fmt: skip
    return [one for one in requirements if one.marker is None or one.marker.evaluate(environment)]


@pytest.mark.parametrize("python", pythons())
def test_what_is_pinned_lies_within_the_bounds(python: str) -> None:
    pinned, needed = holding(pins(), python), holding(ALL, python)
    assert len(names(pinned)) == len(pinned)
    assert len(names(needed)) == len(needed)
    versions = {canonicalize_name(pin.name): bound(pin, "==") for pin in pinned}
    outside = [
        f"{one.name} {version}"
        for one in needed
        if (version := versions.get(canonicalize_name(one.name))) is None
        or not bound(one, ">=") <= version < bound(one, "<")
    ]
    assert outside == []


def test_all_pythons_are_looked_at() -> None:
    assert set(pythons()) >= {"3.10", "3.13"}
    assert names(ALL) == set().union(*(names(holding(ALL, python)) for python in pythons()))
