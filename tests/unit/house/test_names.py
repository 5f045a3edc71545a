"""Words that were given up name no class and no module, and docstrings open with a purpose."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted(path for room in ("dpbeam", "transforms", "pipelines") for path in (ROOT / room).rglob("*.py"))

LEFT_CLASSES = frozenset({"Shelf", "Pile", "Tally", "Known", "Part", "Parts", "Found", "Thing", "Things"})
"""What classes aren't called any more: each has a name that says what it is (`ShardBuffer`, `EarlierRounds`, …)."""
LEFT_MODULES = frozenset(
    """
    shelf pile piled tally tallied known prospects others places parts choosing leaves spreading skipping releasing
    layout describe starting screen outcomes widths belongings
    """.split()  # noqa: SIM905
)
EXEMPT_MODULES = frozenset({"pipelines/library/releasing.py"})
"""It says what it does: the library's releasing of a policy."""

IN_AND_OUT = re.compile(r"\bin[;,] .*\bout\b|\b(come|go) in[;,]")


def first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


def classes(tree: ast.Module) -> Iterator[str]:
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def openings(tree: ast.Module) -> Iterator[str]:
    """The first sentence of each docstring: of the module, of classes and of functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return (first_sentence(text) for text in texts if text)


def test_no_class_has_a_name_that_was_given_up() -> None:
    named = [(path.name, name) for path in FILES for name in classes(ast.parse(path.read_text(encoding="utf-8")))]
    assert [each for each in named if each[1].lstrip("_") in LEFT_CLASSES] == []


def test_no_module_has_a_name_that_was_given_up() -> None:
    paths = [path.relative_to(ROOT).as_posix() for path in FILES if path.stem in LEFT_MODULES]
    assert [path for path in paths if path not in EXEMPT_MODULES] == []


def test_no_docstring_opens_with_what_goes_in_and_what_comes_out() -> None:
    opened = [
        (path.relative_to(ROOT).as_posix(), number, opening)
        for path in FILES
        for number, opening in enumerate(openings(ast.parse(path.read_text(encoding="utf-8"))))
        if IN_AND_OUT.search(opening)
    ]
    assert opened == []


@pytest.mark.parametrize(
    ("opening", "is_of_that_form"),
    [
        ("Rows in; the released rows of the query's one stage out, as dicts.", True),
        ("Privacy losses in, an upper bound on their composed ε out: by adding up.", True),
        ("The command line: words come in; each command does its work.", True),
        ("The most partitions that one unit counts in.", False),
        ("What each column is declared as in a policy; what dpbeam doesn't read is left out.", False),
        ("A merge buffer: takes batches from several threads, and holds few that amount to the same.", False),
    ],
)
def test_openings_of_that_form_are_known(opening: str, is_of_that_form: bool) -> None:
    assert bool(IN_AND_OUT.search(opening)) == is_of_that_form


def test_a_class_that_is_named_so_is_seen() -> None:
    tree = ast.parse('class Shelf:\n    """Rows in, shards out."""\n')
    assert list(classes(tree)) == ["Shelf"]
    assert [bool(IN_AND_OUT.search(opening)) for opening in openings(tree)] == [True]
