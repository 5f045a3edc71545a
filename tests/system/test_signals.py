"""Ctrl-C, SIGTERM and SIGHUP at every step: what was staged is gone, the ledger knows, a word says what is spent."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from dpbeam.ledger import Ledger
from dpbeam.ledger.amounts import ZERO
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import attempts, publish, release
from dpbeam.transforms.steps import write_shards
from tests.helpers import kills

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEPS = kills.STEPS
CHARGED = STEPS.index("start")


def run(workspace, prepare) -> tuple[int, str]:
    """The run in a process of its own that `prepare` may change; its exit code and what it said on stderr."""
    said = workspace.folder / "stderr"

    def work() -> None:
        command = ["run", str(workspace.policy_path), "--ledger", workspace.ledger, "--output", str(workspace.output)]
        prepare()
        with said.open("w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
            code = invoke(command)
        os._exit(code)

    status = os.waitpid(kills.forked(work), 0)[1]
    assert os.WIFEXITED(status), status
    return os.WEXITSTATUS(status), said.read_text(encoding="utf-8")


def comes(number: int) -> None:
    signal.raise_signal(number)


def before(name: str, number: int):
    """A signal as the step begins."""
    step = getattr(release, name)
    return lambda: kills.does(name, lambda value: comes(number) or step(value))


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", STEPS)
def test_a_signal_at_a_step(workspace, capsys, name, number) -> None:
    workspace.create_budget()
    code, said = run(workspace, before(name, number))
    ledger = workspace.open_ledger()
    assert workspace.left_behind() == []
    assert ledger.balance("visits").held == ZERO
    if name == "commit":  # not torn: the release is out
        assert (code, len(workspace.manifests())) == (0, 1)
        return
    assert code == 128 + number
    assert f"dpbeam: stopped by {number.name}; " in said
    assert workspace.manifests() == []
    if STEPS.index(name) < CHARGED:
        assert "nothing was charged" in said
        assert ledger.balance("visits").spent == ZERO
    else:
        assert f"{kills.COST} of dataset visits stays spent" in said
        assert "the same command on the same input tries again under the same charge" in said
        assert ledger.history("visits")[-1].fact.reason == "interrupted"
    assert workspace.run() == 0
    assert ledger.balance("visits").spent == kills.COST
    kills.settle(workspace)


def inside_the_job(number: int) -> None:
    work = write_shards._WriteShard.work

    def stopped(self, element):
        yield from work(self, element)  # a draw is staged, and now the signal
        comes(number)

    write_shards._WriteShard.work = stopped


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_with_draws_staged(workspace, capsys, number) -> None:
    workspace.create_budget()
    code, said = run(workspace, lambda: inside_the_job(number))
    assert code == 128 + number
    assert "what was staged is removed" in said
    assert workspace.left_behind() == []
    assert workspace.open_ledger().balance("visits").spent == kills.COST
    kills.settle(workspace)


def test_more_signals_while_a_run_clears_up_leave_no_more(workspace, capsys) -> None:
    workspace.create_budget()

    def prepare() -> None:
        inside_the_job(signal.SIGTERM)
        clear, fail = attempts.clear, Ledger.fail_attempt
        attempts.clear = lambda charge: (all_of_them(), clear(charge), all_of_them())
        Ledger.fail_attempt = lambda *rest: (all_of_them(), fail(*rest), all_of_them())

    code, said = run(workspace, prepare)
    assert code == 128 + signal.SIGTERM
    assert "stays spent" in said
    assert workspace.left_behind() == []
    assert workspace.open_ledger().history("visits")[-1].kind == "attempt_failed"


def all_of_them() -> None:
    for number in SIGNALS * 2:
        comes(number)


def test_signals_on_both_sides_of_the_ledgers_decision_publish(workspace, capsys) -> None:
    workspace.create_budget()

    def prepare() -> None:
        complete, decide = publish.complete, Ledger.publish

        def decided(*rest, **named):
            all_of_them()
            charge = decide(*rest, **named)
            all_of_them()
            return charge

        Ledger.publish = decided
        publish.complete = lambda *rest: (all_of_them(), complete(*rest), all_of_them())

    code, _ = run(workspace, prepare)
    assert code == 0
    assert len(workspace.manifests()) == 1
    kills.settle(workspace)


def test_a_signal_as_a_failed_attempt_clears_up_leaves_no_more(workspace, capsys) -> None:
    workspace.create_budget()

    def prepare() -> None:
        def fails(self, element):
            raise OSError("no")
            yield

        clear = attempts.clear
        write_shards._WriteShard.work = fails
        attempts.clear = lambda charge: (all_of_them(), clear(charge))

    assert run(workspace, prepare)[0] in (4, 130)
    assert workspace.left_behind() == []
    assert "attempt_failed" in [entry.kind for entry in workspace.open_ledger().history("visits")]


def test_the_last_attempt_says_that_it_was_the_last(workspace, capsys) -> None:
    workspace.create_budget()
    for _ in range(3):
        _, said = run(workspace, lambda: inside_the_job(signal.SIGINT))
    assert "attempt 3 of 3" in said
    assert "--refresh makes a new release" in said


def test_a_signal_that_was_to_be_ignored_is_ignored(workspace, capsys) -> None:
    workspace.create_budget()

    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
        inside_the_job(signal.SIGHUP)

    assert run(workspace, prepare)[0] == 0
    assert len(workspace.manifests()) == 1


def test_the_handlers_of_the_program_around_are_given_back(workspace, capsys) -> None:
    taken = [signal.getsignal(number) for number in SIGNALS]
    workspace.create_budget()
    assert [signal.getsignal(number) for number in SIGNALS] == taken
