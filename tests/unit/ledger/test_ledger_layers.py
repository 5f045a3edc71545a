"""Inside the ledger's room imports point one way: values, journal, rules; and the databases beside the rules."""

from __future__ import annotations

import ast
import inspect
import typing
from pathlib import Path

import pytest

import dpbeam.ledger
from dpbeam.ledger import Ledger, open_ledger

ROOM = Path(dpbeam.ledger.__file__).parent
VALUES = (
    "canonical",
    "checks",
    "ed25519",
    "private_files",
    "identities",
    "governance.state",
    "governance.messages",
    "governance.facts",
    "allocation",
    "meters",
    "amounts",
    "owner",
    "patterns",
    "scope",
    "terms",
    "accounts",
    "actors",
    "budget_facts",
    "charge_facts",
    "standing",
    "marks",
    "checkpoints",
    "entries",
    "words",
)
RULES = (
    "bookkeeping",
    "binding",
    "signatures",
    "verifying",
    "creating",
    "governance.enforcing",
    "reserving",
    "journaling",
    "guarding",
    "ledger",
    "governance.book",
    "moving",
)
BELOW = ("governance.replayed", "replay", "refusals", "waiting", "rows", "sql", "signing", "witness", "store")
LAYERS = (*VALUES, *BELOW, *RULES, "keys", "safeguards")
"""Each may import those before it; no rule imports a database."""
SQLITE = ("file_locks", "drafts", "names", "schema", "file", "store")
POSTGRESQL = ("address", "connections", "errors", "schema", "session", "store")
DATABASES = {"sqlite": SQLITE, "postgresql": POSTGRESQL}
FOR_DATABASES = {*VALUES, "refusals", "waiting", "rows", "sql", "store"}
"""What a database may import of the room: values and refusals, no rule."""
PLAIN = (*VALUES, "replay", "refusals", "rows", "sql", "signing", "witness", "store", *RULES)


def imported(path: Path) -> set[str]:
    """The modules of this room that one imports, by their names in it, and the others by their first name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if module_of(name) else node.module for name in names}
    return {name.removeprefix("dpbeam.ledger.") if name.startswith("dpbeam.ledger.") else name for name in found}


def module_of(name: str) -> bool:
    place = ROOM.parent.parent.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def file_of(name: str) -> Path:
    return ROOM / f"{name.replace('.', '/')}.py"


def own(names: set[str]) -> set[str]:
    names = {name for name in names if name != "governance"}
    return {name for name in names if (ROOM / f"{name.replace('.', '/')}.py").is_file() or name.startswith("stores")}


def test_every_module_has_its_layer() -> None:
    assert {path.stem for path in ROOM.glob("*.py")} - {"__init__"} | {
        f"governance.{path.stem}" for path in (ROOM / "governance").glob("*.py") if path.stem != "__init__"
    } == set(LAYERS)
    for database, modules in DATABASES.items():
        assert {path.stem for path in (ROOM / "stores" / database).glob("*.py")} - {"__init__"} == set(modules)


@pytest.mark.parametrize("name", LAYERS)
def test_a_module_imports_what_lies_below_it(name) -> None:
    assert own(imported(file_of(name))) <= set(LAYERS[: LAYERS.index(name)])


@pytest.mark.parametrize("name", PLAIN)
def test_neither_values_nor_rules_know_a_database_or_a_file(name) -> None:
    firsts = {each.partition(".")[0] for each in imported(file_of(name))}
    assert firsts & {"sqlite3", "stores", "psycopg", "fcntl"} == set()


@pytest.mark.parametrize(
    ("database", "name"), [(database, name) for database, names in DATABASES.items() for name in names]
)
def test_a_database_imports_values_and_its_own(database, name) -> None:
    modules = DATABASES[database]
    below = {f"stores.{database}.{each}" for each in modules[: modules.index(name)]}
    assert own(imported(ROOM / "stores" / database / f"{name}.py")) <= FOR_DATABASES | below


def test_every_public_method_is_documented_and_typed() -> None:
    methods = [each for name, each in vars(Ledger).items() if inspect.isfunction(each) and not name.startswith("_")]
    assert {method.__name__ for method in methods} >= {
        "create_budget",
        "balance",
        "history",
        "reserve",
        "start",
        "refund",
    }
    for each in (*methods, open_ledger):
        assert inspect.getdoc(each), each.__name__
        hints = typing.get_type_hints(each)
        assert set(hints) == {*inspect.signature(each).parameters, "return"} - {"self"}, each.__name__


def test_what_the_room_offers_is_there_and_documented() -> None:
    for name in dpbeam.ledger.__all__:
        assert inspect.getdoc(getattr(dpbeam.ledger, name)), name
