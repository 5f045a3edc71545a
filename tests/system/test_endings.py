"""A command ends by its own exit code, and by no signal: whatever threads of libraries do as the program ends."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dpbeam.pipelines.cli import main
from tests.helpers import endings

ROOT = Path(__file__).parents[2]
CALLS = 20
"""A command that aborts one time in five passes all of them with probability 0.8²⁰ = 1.2 %, and all 38 lines, were it
the fault of the way in which every command ends, with 10⁻⁷³. `python -m tests.helpers.endings` makes 200 calls."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("endings")
    endings.prepare(made)
    return made


@pytest.mark.parametrize("command", endings.COMMANDS)
def test_no_call_of_a_command_ends_by_a_signal(folder, command) -> None:
    assert endings.bad(folder, command, CALLS) == []


def test_every_command_is_among_those_that_are_called() -> None:
    def names(command, path=()):
        inner = getattr(command, "commands", {})
        return [name for each in inner for name in names(inner[each], (*path, each))] or [" ".join(path)]

    called = {name.partition(",")[0] for name in endings.COMMANDS} - {"--help"}
    assert called == set(names(main.typer.main.get_command(main.app)))


ABORTS = """
import atexit, os, sys, threading, time
from dpbeam.pipelines.cli import main

class Aborts:  # as a library's thread does that lets go of a Python object while the interpreter is taken down
    def __del__(self, abort=os.abort):
        abort()

def invoke(words, really=main.invoke):
    atexit.register(lambda: sys.stdout.write("at exit, "))
    return really(words)

sys.kept, main.invoke = Aborts(), invoke
threading.Thread(target=lambda: (time.sleep(0.3), sys.stdout.write("waited for, "))).start()
print("said, ", end="")
"""


def ended(last: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", ABORTS + last], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["plan"], 2)])
def test_what_aborts_as_python_is_taken_down_aborts_no_command(words, code) -> None:
    done = ended(f"sys.argv[1:] = {words!r}\nmain.main()")
    assert done.returncode == code, done.stderr
    assert "said, " in done.stdout
    assert done.stdout.endswith("waited for, at exit, ")


def test_without_this_ending_it_would() -> None:
    assert ended("sys.exit(main.invoke(['--version']))").returncode < 0


def test_an_error_that_nobody_caught_is_shown_as_python_shows_it() -> None:
    done = ended("Aborts.__del__ = lambda _: None\nmain.invoke = lambda _: 1 / 0\nmain.main()")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def threaded(tree: ast.AST) -> list[str]:
    """The readings by Arrow of Python's own objects that may use Arrow's threads."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="ReadOptions"), keywords=keywords):
                asked = "use_threads=False" in map(ast.unparse, keywords)
            case ast.Call(func=ast.Attribute(attr="read_csv" | "open_csv" | "read_json"), args=args, keywords=keywords):
                asked = len(args) > 1 or bool({each.arg for each in keywords} & {"read_options", None})
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Attribute(attr="ParquetFile"), args=[ast.Call()]))
            ):
                asked = "use_threads=False" in ast.unparse(node)
            case _:
                asked = True
        found += [] if asked else [ast.unparse(node)]
    return found


def test_arrow_reads_no_object_of_pythons_by_threads_of_its_own() -> None:
    """A program of somebody else's ends as Python does; there no thread may be left that holds one of its objects."""
    modules = [path for room in ("dpbeam", "transforms", "pipelines") for path in (ROOT / room).rglob("*.py")]
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in modules}
    assert {name: found for name, tree in trees.items() if (found := threaded(tree))} == {}


@pytest.mark.parametrize(
    "text", ["c.read_csv(file)", "c.ReadOptions(block_size=1)", "pq.ParquetFile(io.BytesIO(data)).read()"]
)
def test_the_search_finds_a_reading_by_threads(text) -> None:
    assert threaded(ast.parse(text)) == [text]
