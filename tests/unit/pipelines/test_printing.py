"""There is one door to the screen, and nothing raw passes it."""

from __future__ import annotations

import ast
import io
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli import printing
from dpbeam.reporting.visible import visible

ROOT = Path(__file__).parents[3]
DOOR = ROOT / "pipelines" / "cli" / "printing.py"
WRITERS = {"print", "pprint", "echo", "secho", "echo_via_pager", "print_exc", "print_exception", "print_stack", "warn"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}


def outlets(tree: ast.AST) -> list[str]:
    """What a module has by which text could reach the terminal past the door."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in WRITERS:
                found.append(name)
            case ast.Attribute(value=ast.Name(id="sys"), attr=name) if name in STREAMS:
                found.append(f"sys.{name}")
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in ("Console", "print_json"):
                found.append(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="write"), args=[ast.Constant(), *_]):
                found.append("os.write")
            case ast.ImportFrom(module="sys" | "rich" | "click", names=names):
                found += [f"{node.module}.{each.name}" for each in names]
            case ast.ImportFrom(module="rich.console", names=names):
                found += [each.name for each in names if each.name in ("Console", "get_console")]
    return found


ALLOWED = {
    # The streams themselves: they are wrapped so that none fails a command, and flushed; nothing is written to them.
    "pipelines/cli/streams.py": {"sys.stdout", "sys.stderr"},
    # What others write is led elsewhere.
    "pipelines/cli/capture.py": {"sys.stdout", "sys.stderr"},
    # The last flush.
    "pipelines/cli/ending.py": {"sys.stdout", "sys.stderr"},
    # The flush after a release is shown; the console of the door is what prints.
    "pipelines/cli/running.py": {"sys.stdout", "print"},
    "pipelines/cli/watching.py": {"print"},
    "pipelines/cli/looking.py": {"print"},
    "pipelines/cli/budgets.py": {"print"},
    "pipelines/cli/policies.py": {"print"},
    "pipelines/cli/rehearse.py": {"print"},
    "pipelines/cli/releases.py": {"print"},
}


def modules() -> list[Path]:
    return sorted(path for room in ("dpbeam", "transforms", "pipelines") for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_prints_but_the_one_door(path: Path) -> None:
    found = outlets(ast.parse(path.read_text(encoding="utf-8")))
    if path == DOOR:
        assert found
        return
    assert set(found) <= ALLOWED.get(path.relative_to(ROOT).as_posix(), set())


def test_the_command_line_prints_by_the_door_s_console_alone() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "pipelines" / "cli").glob("*.py") if path != DOOR]
    tree = ast.parse("\n".join(text.replace("from __future__ import annotations", "") for text in texts))
    consoles = {"console()", "console(stderr=True)"}
    named = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.value) in consoles
        and isinstance(node.targets[0], ast.Name)
    }
    printed = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("print")]
    assert printed
    assert {ast.unparse(func) for func in printed} <= {f"{name}.print" for name in consoles | named}


@pytest.mark.parametrize(
    "text",
    [
        "print('x')",
        "sys.stdout.write('x')",
        "sys.__stderr__",
        "typer.echo('x')",
        "click.secho('x')",
        "Console()",
        "rich.print('x')",
        "from rich import print",
        "from sys import stderr",
        "warnings.warn('x')",
        "os.write(2, b'x')",
        "traceback.print_exc()",
        "from rich.console import Console",
        "rich.console.Console()",
    ],
)
def test_the_search_finds_what_prints(text: str) -> None:
    assert outlets(ast.parse(text))


NAMES = (
    st.text(st.sampled_from("[/]a:smile \x1b\x07\x9b\u202e\u200b\n\r\t\x00\ud800\U000e0041é中"), max_size=30)
    | st.text()
)


def raw(text: str) -> set[str]:
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}


@given(names=st.lists(NAMES, min_size=1, max_size=4))
def test_no_name_gets_past_the_door_raw_or_writes_a_line_of_its_own(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for stream, show in (("stdout", printing.say), ("stderr", printing.complain)):
            patch.setattr(f"sys.{stream}", io.StringIO())
            show(*names)
            shown = getattr(sys, stream).getvalue()
            lines = shown.removesuffix("\n").removeprefix("dpbeam: ").split("\n")
            assert lines == [visible(name) for name in names]
            assert raw(shown) <= {"\u200c", "\u200d"}


@given(name=NAMES)
def test_no_renderable_gets_past_the_console_raw_and_none_is_read_as_markup(name: str) -> None:
    table = Table(title=name, caption=Text(name))
    table.add_column(name)
    table.add_row(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", io.StringIO())
        out = printing.console()
        out.width = 10_000
        for each in (name, Text(name), table, printing.line(name)):
            out.print(each, soft_wrap=not isinstance(each, Table))
        shown = sys.stdout.getvalue()
    assert raw(shown) <= {"\u200c", "\u200d"}
    for part in "[/]":
        assert shown.count(part) >= 3 * name.count(part)  # rich may cut what a table holds
    assert shown.split("\n")[-2] == visible(name)


@pytest.mark.parametrize(
    "name", ["price[/kg]", "[bold]x[/]", "[link=file:///x]y[/link]", ":smile:", "[@click=a]b", "\\[x]"]
)
def test_no_name_is_read_as_markup_or_as_an_emoji(name: str, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout", shown := io.StringIO())
    table = Table(title=name, caption=name, min_width=40, title_justify="left", caption_justify="left")
    table.add_column(name)
    table.add_row(name)
    for each in (name, table):
        printing.console().print(each)
    assert shown.getvalue().count(name) == 5


def test_an_error_s_lines_are_its_own_and_a_name_adds_none(monkeypatch) -> None:
    error = UsageError("a\nb", "  c")
    assert str(error) == "a\nb\n  c"
    monkeypatch.setattr("sys.stderr", shown := io.StringIO())
    printing.complain(*error.lines)
    assert shown.getvalue() == "dpbeam: a␊b\n  c\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "silent", "is_shown"),
    [(_Terminal, False, True), (_Terminal, True, False), (io.StringIO, False, False)],
    ids=["a terminal", "a terminal that is to be left alone", "a pipe"],
)
def test_what_is_being_done_is_shown_on_a_terminal_alone(stream, silent, is_shown, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", shown := stream())
    with printing.working("Planning [b]", silent=silent):
        pass
    assert ("Planning [b] …" in shown.getvalue()) == is_shown
