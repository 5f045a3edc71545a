"""The tests of imports see every import, wherever it stands and however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.imports import circle, imported, imported_modules, module_paths, name_of


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder of two modules, b and c, in dpbeam.a."""
    (tmp_path / "dpbeam/a").mkdir(parents=True)
    for name in ("__init__", "a/__init__", "a/b", "a/c"):
        (tmp_path / f"dpbeam/{name}.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "import dpbeam.a.b",
        "import dpbeam.a.b as other",
        "from dpbeam.a import b",
        "from dpbeam.a.b import name",
        "from dpbeam.a.b import *",
        "from . import b",
        "from .b import name",
        "from ..a import b",
        "def f():\n    from dpbeam.a import b",
        "if TYPE_CHECKING:\n    from dpbeam.a.b import Name",
        "importlib.import_module('dpbeam.a.b')",
        "__import__('dpbeam.a.b')",
    ],
)
def test_a_module_s_import_of_another_is_seen(house: Path, text: str) -> None:
    path = house / "dpbeam/a/c.py"
    path.write_text(text)
    known = [name_of(each, house) for each in module_paths(house)]
    assert known == ["dpbeam", "dpbeam.a", "dpbeam.a.b", "dpbeam.a.c"]
    assert imported_modules(path, known, house) == {"dpbeam.a.b"}


def test_what_a_package_imports_relatively_is_below_it(house: Path) -> None:
    path = house / "dpbeam/a/__init__.py"
    path.write_text("from . import b\nfrom .c import name\n")
    assert imported(path, house) == {"dpbeam.a.b", "dpbeam.a.c.name"}


def test_a_circle_is_named_however_long() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a", "d"}}) == []
    assert sorted(set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}))) == ["a", "b", "c"]
