"""What the command line offers: help, guesses for mistyped words, completion, colours, more and less to be said."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dpbeam.pipelines.cli import commands, printing
from dpbeam.pipelines.cli.main import invoke
from tests.helpers.commands import COMMANDS

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-c", "from dpbeam.pipelines.cli.main import main; main()"]
POLICY = str(ROOT / "examples" / "ngrams" / "policy.yaml")
NO_LEDGER = ("--ledger", "sqlite:///nowhere/none.sqlite")


def test_commands_stand_in_the_order_of_use_each_in_its_group(capsys) -> None:
    assert invoke(["--help"]) == 0
    shown = re.findall(r"^(\w[\w ]+:)$|^  ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    shown = [heading or command for heading, command in shown if heading not in ("Options:",)]
    assert shown == [
        *("Before a run:", "init", "choose", "plan", "check", "rehearse", "tune", "policy", "budget"),
        *("A run:", "run", "recover"),
        *("After it:", "certify", "releases"),
    ]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "dpbeam")
def test_every_help_ends_with_examples_and_exit_codes_and_h_is_help(path, capsys) -> None:
    assert invoke([*path, "-h"]) == 0
    short = capsys.readouterr().out
    assert invoke([*path, "--help"]) == 0
    assert capsys.readouterr().out == short
    _, examples, codes = re.split(r"^  Examples:$|^  Exit codes .*:$", short, flags=re.MULTILINE)
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines
    assert all(" ".join(("dpbeam", *path)) in line for line in lines[:1])
    for line in lines:  # each names a command that is there, and flags that it has
        words = line.split()[1:]
        command = next(COMMANDS[tuple(words[:n])] for n in (3, 2, 1) if tuple(words[:n]) in COMMANDS)
        known = {name for each in command.params for name in each.opts} | {
            "--runner",
            "--flink_master",
            "--environment_type",
        }
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known
    assert {int(code) for code in re.findall(r"^    (\d+) ", codes, re.MULTILINE)} <= set(commands.CODES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pln", "No such command 'pln'. Did you mean 'plan'?"),
        ("budget shwo", "No such command 'shwo'. Did you mean 'show'?"),
        ("plan --jsn p.yaml", "No such option '--jsn'. Did you mean '--json'?"),
        ("plan --zzzzzz p.yaml", "No such option '--zzzzzz'."),
        ("zzzzzz", "No such command 'zzzzzz'."),
    ],
)
def test_a_mistyped_word_is_guessed(words, said, capsys) -> None:
    assert invoke(words.split()) == 2
    assert capsys.readouterr().err == f"dpbeam: {said}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_made_for_a_shell(shell) -> None:
    done = subprocess.run(
        [*PROGRAM, "--show-completion", shell], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )  # fmt: skip
    assert "_DPBEAM_COMPLETE" in done.stdout


def test_bash_completes_commands_and_flags() -> None:
    def completed(words: str) -> list[str]:
        told = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_DPBEAM_COMPLETE": "complete_bash"}
        program = "import sys; sys.argv[0] = 'dpbeam'; from dpbeam.pipelines.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | told
        )
        return done.stdout.split()

    assert completed("dpbeam r") == ["rehearse", "run", "recover", "releases"]
    assert completed("dpbeam budget ") == [
        *("create", "show", "history", "verify", "what-if", "export", "import", "checkpoint", "key", "witness"),
    ]
    assert "--keep-log" in completed("dpbeam run --k")


def on_a_terminal(**environment: str) -> str:
    """What a terminal is sent where the door prints a red word."""
    reads, writes = pty.openpty()
    program = (
        "from rich.text import Text; from dpbeam.pipelines.cli.printing import console; "
        "console().print(Text('red', style='red'))"
    )
    told = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=writes, env=told | environment) as done:
        os.close(writes)
        sent = os.read(reads, 1 << 16)
    os.close(reads)
    assert done.returncode == 0
    return sent.decode()


def test_no_color_turns_colours_off() -> None:
    assert "\x1b[31mred" in on_a_terminal()
    assert on_a_terminal(NO_COLOR="1").strip() == "red"


def test_quiet_and_verbose_say_less_and_more(capsys) -> None:
    assert invoke(["plan", POLICY, *NO_LEDGER]) == 0
    normal = capsys.readouterr()
    assert "note: " in normal.err
    assert invoke(["plan", POLICY, *NO_LEDGER, "-q"]) == 0
    assert capsys.readouterr() == (normal.out, "")
    assert invoke(["plan", POLICY, *NO_LEDGER]) == 0  # -q is of one command
    assert "note: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "said"), [("quiet", ("", "")), ("normal", ("done\n", "")), ("verbose", ("done\n", "more\n"))]
)
def test_a_remark_is_left_out_by_quiet_and_a_detail_is_said_by_verbose(how, said, capsys) -> None:
    printing.speak(how)
    printing.remark("done")
    printing.detail("more")
    printing.speak("normal")
    assert capsys.readouterr() == said


def test_every_command_takes_both() -> None:
    for path, command in COMMANDS.items():
        names = {name for each in command.params for name in each.opts}
        assert hasattr(command, "commands") or {"-v", "-q"} <= names, path
