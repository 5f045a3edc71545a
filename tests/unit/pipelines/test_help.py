"""Every command says what it takes, with the typer that is installed."""

from __future__ import annotations

import pytest

from dpbeam.pipelines.cli.main import invoke
from tests.helpers.commands import COMMANDS


def test_all_commands_are_found() -> None:
    assert {("run",), ("plan",), ("budget", "create"), ("recover",)} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "dpbeam")
def test_every_command_says_what_it_takes(path: tuple[str, ...], capsys) -> None:
    assert invoke([*path, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert " ".join(("Usage: dpbeam", *path)) in out
    for taken in COMMANDS[path].params:
        assert not taken.opts or max(taken.opts, key=len) in out or taken.metavar in out


@pytest.mark.parametrize("path", [path for path in COMMANDS if hasattr(COMMANDS[path], "commands")], ids="-".join)
def test_without_a_command_all_are_named_each_on_its_line(path: tuple[str, ...], capsys) -> None:
    assert invoke(path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert set(COMMANDS[path].commands) <= {line.split()[0] for line in err.split("\n") if line.split()}
