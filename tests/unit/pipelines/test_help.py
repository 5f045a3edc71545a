"""Every command says what it takes, with the typer that is installed."""

from __future__ import annotations

import subprocess
import sys

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
    assert err.startswith("dpbeam: a command is missing\n\nUsage: dpbeam")
    assert set(COMMANDS[path].commands) <= {line.split()[0] for line in err.split("\n") if line.split()}


def test_what_is_missing_is_said_with_where_to_look(capsys) -> None:
    assert invoke(["budget", "show"]) == 2
    assert capsys.readouterr().err == (
        "dpbeam: Missing argument 'DATASET'. `dpbeam budget show --help` says what it takes.\n"
    )


def test_a_misspelt_flag_in_the_policys_place_is_recognised(capsys) -> None:
    assert invoke(["run", "--hlep"]) == 2
    said = "dpbeam: POLICY must come before Beam's flags, got --hlep in its place. Did you mean '--help'?\n"
    assert capsys.readouterr().err == said


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "dpbeam", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("dpbeam ")
