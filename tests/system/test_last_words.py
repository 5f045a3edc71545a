"""After a release is out nothing about the screen fails the run; and an empty word is never taken for a default."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dpbeam.errors import DpbeamError
from dpbeam.ledger.amounts import Amount
from dpbeam.pipelines.cli import main, running
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import stopping
from tests.helpers import kills

ROOT = Path(__file__).parents[2]


def in_shell(workspace, how: str, *flags: str) -> subprocess.CompletedProcess:
    """The run as a shell starts it, with its streams as `how` says."""
    command = [sys.executable, "-m", "dpbeam.pipelines.aggregate", "--policy", str(workspace.policy_path)]
    command += ["--ledger", workspace.ledger, "--output", str(workspace.output), *flags]
    return subprocess.run(
        ["sh", "-c", f'"$@" {how}', "sh", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("how", [">/dev/full", ">&-", ">/dev/full 2>&1", "<&- >&- 2>&-"])
def test_a_screen_that_takes_nothing_fails_no_run(workspace, capsys, how) -> None:
    workspace.create_budget()
    done = in_shell(workspace, how)
    assert done.returncode == 0, done.stderr
    assert len(workspace.manifests()) == 1
    if "2>" not in how:
        assert f"dpbeam: the release is out, in {workspace.release_folder()}, but could not be shown" in done.stderr


@pytest.mark.parametrize("json_flag", [(), ("--json",)])
@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
def test_a_stream_that_dies_fails_no_run(workspace, capsys, monkeypatch, stream, json_flag) -> None:
    workspace.create_budget()
    with open("/dev/full", "w") as full:
        if stream != "stderr":
            monkeypatch.setattr(sys, "stdout", full)
        if stream != "stdout":
            monkeypatch.setattr(sys, "stderr", full)
        kept = [os.dup(1), os.dup(2)]
        assert workspace.run(*json_flag) == 0
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
    monkeypatch.undo()
    assert len(workspace.manifests()) == 1
    kills.settle(workspace)


def test_a_reader_that_goes_away_fails_no_run(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert workspace.run() == 0
        monkeypatch.undo()
    assert "but could not be shown here (Broken pipe)" in capsys.readouterr().err


def test_whatever_fails_while_a_release_is_shown_the_exit_code_is_its_own(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def fails(*_):
        raise LookupError("in the screen")

    monkeypatch.setattr(running, "_show", fails)
    assert workspace.run() == 0
    said = capsys.readouterr().err
    assert f"the release is out, in {workspace.release_folder()}, but could not be shown here (LookupError)" in said


ONLY_SHOWS = ("choose bounds --print-tree", "plan POLICY", "plan POLICY --json",
    "certify MANIFEST", "certify MANIFEST --json", "init DATA",
    "budget show visits", "budget show visits --json", "budget history visits", "budget history visits --json",
    "budget verify", "releases --output RELEASES", "releases --json --output RELEASES")  # fmt: skip
DOES = (
    "recover",
    "recover --json",
    "rehearse POLICY",
    "init DATA --output NEW",
    "budget create d --epsilon 1 --delta 1e-6",
)


def test_what_only_shows_fails_where_it_can_not_show_and_what_does_fails_not(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    monkeypatch.setenv("DPBEAM_LEDGER", workspace.ledger)
    words = {
        "POLICY": workspace.policy_path,
        "MANIFEST": workspace.manifests()[0],
        "DATA": workspace.folder / "data.csv",
    }
    words["RELEASES"] = workspace.output
    words["NEW"] = workspace.folder / "new.yaml"
    for command in (*ONLY_SHOWS, *DOES):
        with open("/dev/full", "w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            expected = 4 if command in ONLY_SHOWS else 0
            assert invoke([str(words.get(word, word)) for word in command.split()]) == expected, command
            monkeypatch.setattr(sys, "stdout", sys.__stdout__)
        assert "standard output can't be written (No space left on device)" in capsys.readouterr().err, command
    assert words["NEW"].exists()
    assert workspace.open_ledger().balance("d").left == Amount.charge("1", "1e-6")


def test_the_readme_names_every_exit_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"Exit codes:\n\n((?:\|.*\n)+)", text)
    named = {int(code) for row in table.splitlines()[2:] for code in re.findall(r"\d+", row.split("|")[1])}
    errors, codes = [DpbeamError], {0}
    while errors:
        kind = errors.pop()
        errors += kind.__subclasses__()
        codes |= {kind.exit_code} if hasattr(kind, "exit_code") else set()
    assert named == codes | {stopping.Stopped(number).exit_code for number in stopping.SIGNALS}


def commands() -> dict[str, list[str]]:
    """Every command, with the words that it must be given."""
    policy = ["p.yaml"]
    alone = (
        "run",
        "plan",
        "check",
        "tune",
        "rehearse",
        "budget create",
        "budget what-if",
        "policy check",
        "policy submit",
    )
    words = dict.fromkeys(alone, policy)
    words |= {
        "recover": [],
        "releases": ["d"],
        "choose": ["bounds"],
        "init": ["d"],
        "certify": ["m"],
        "budget verify": [],
        "budget export": ["f", "--to", "l"],
        "budget import": ["f"],
        "budget key new": ["f"],
        "budget key rotate": ["f"],
        "budget key list": [],
        "budget witness new": [],
        "budget checkpoint": [],
        "policy diff": ["a.yaml", "b.yaml"],
        "policy key": ["f"],
        "policy approve": ["d", "1"],
        "policy activate": ["d", "1"],
    }
    of_dataset = ("budget show", "budget history", "policy history", "policy show", "policy bind", "policy revert")
    return words | {name: ["d"] for name in of_dataset}


def every_word() -> list[tuple[list[str], str]]:
    """(command line with one word empty, what is named) for each option of each command that takes a value."""
    found = []

    def of(command, path: list[str]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            of(inner, [*path, name])
        if hasattr(command, "commands"):
            return
        needed = commands()[" ".join(path)]
        for option in command.params:
            if option.param_type_name == "argument":
                found.append(([*path, ""], "an argument"))
            elif not option.is_flag:
                for name in option.opts:
                    found.append(([*path, *needed, name, ""], name))
                    found.append(([*path, *needed, name, "  "], name))
                    if name.startswith("--"):
                        found.append(([*path, *needed, f"{name}="], name))

    of(typer.main.get_command(main.app), [])
    return found


@pytest.mark.parametrize(("words", "named"), every_word(), ids=lambda value: " ".join(value) if value else "")
def test_an_empty_word_is_refused(words, named, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(words) == 2
    assert f"dpbeam: {named} must not be empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_finds_the_options() -> None:
    named = {name for _, name in every_word()}
    assert {"--output", "--source", "--ledger", "--release", "--charge", "--engine", "--epsilon", "-o"} <= named


@pytest.mark.parametrize("flag", ["--runner=", "--job_endpoint="])
def test_an_empty_value_for_beam_is_refused(workspace, capsys, flag) -> None:
    workspace.create_budget()
    assert workspace.run(flag) == 2
    assert "must not be empty" in capsys.readouterr().err


def test_an_empty_variable_names_no_ledger(workspace, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DPBEAM_LEDGER", "")
    assert invoke(["budget", "show", "visits"]) == 2
    assert "DPBEAM_LEDGER must not be empty" in capsys.readouterr().err
    workspace.create_budget()  # which is told by --ledger


@pytest.mark.parametrize("id", ["typo", "0" * 32])
def test_recover_refuses_a_charge_that_the_ledger_does_not_know(workspace, capsys, id) -> None:
    workspace.create_budget()
    assert invoke(["recover", "--ledger", workspace.ledger, "--charge", id]) == 2
    assert f"--charge must be the whole id of a charge of this ledger, got '{id}'" in capsys.readouterr().err


def test_recover_takes_a_charge_that_is_settled(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run("--json") == 0
    charge = json.loads(capsys.readouterr().out.splitlines()[-1])["charge"]["id"]
    assert invoke(["recover", "--ledger", workspace.ledger, "--charge", charge]) == 0
