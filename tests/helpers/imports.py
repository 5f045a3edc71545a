"""What modules of the house import, wherever in the file: at the top, inside functions, for types alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("dpbeam", "transforms", "pipelines")
"""The second and third are `dpbeam.transforms` and `dpbeam.pipelines`, by links in the first."""


def module_paths(root: Path = ROOT) -> list[Path]:
    """Every module of the house below `root`, tests apart."""
    return sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def name_of(path: Path, root: Path = ROOT) -> str:
    """A module's full name, such as dpbeam.transforms.read; a package's is that of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return dotted if parts[0] == "dpbeam" else f"dpbeam.{dotted}"


def imported(path: Path, root: Path = ROOT) -> set[str]:
    """The full names of all that a file imports: `from a import b` is a.b, whether b is a module or a name in one.

    Relative imports are resolved, and so are calls of `import_module` and `__import__` with a plain text.
    """
    package = name_of(path, root).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                base = [*package[: len(package) - level + 1]] if level else []
                base += [module] if module else []
                found |= {".".join((*base, alias.name)).removesuffix(".*") for alias in names}
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    return found


def imported_modules(path: Path, known: Iterable[str], root: Path = ROOT) -> set[str]:
    """The modules of `known` that a file imports, by full name: for a name in a module, that module."""
    known = set(known)
    found = set()
    for name in imported(path, root):
        first = name.partition(".")[0]
        if first in FOLDERS:
            whole = name if first == "dpbeam" else f"dpbeam.{name}"
            while whole not in known and "." in whole:
                whole = whole.rpartition(".")[0]
            found.add(whole)
    return found


def circle(imports: Mapping[str, Set[str]]) -> list[str]:
    """Modules each of which is imported by the next, the first and last being the same; empty if there are none."""
    try:
        TopologicalSorter({module: found - {module} for module, found in imports.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
