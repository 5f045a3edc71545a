"""Every command says what it takes, with the typer that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from dpbeam.pipelines.cli.main import app, invoke


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


def test_all_commands_are_found() -> None:
    assert {("run",), ("plan",), ("budget", "create"), ("recover",)} <= set(ALL)


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "dpbeam")
def test_every_command_says_what_it_takes(path: tuple[str, ...], capsys) -> None:
    assert invoke([*path, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert " ".join(("Usage: dpbeam", *path)) in out
    for taken in ALL[path].params:
        assert not taken.opts or max(taken.opts, key=len) in out or taken.metavar in out


@pytest.mark.parametrize("path", [path for path in ALL if hasattr(ALL[path], "commands")], ids="-".join)
def test_without_a_command_all_are_named_each_on_its_line(path: tuple[str, ...], capsys) -> None:
    assert invoke(path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert set(ALL[path].commands) <= {line.split()[0] for line in err.split("\n") if line.split()}
