"""SIGKILL at every step and at random times: the ledger never shows less than what was published, and `recover`
leaves each run published whole or spent with nothing visible.

A parent process imports everything and forks a child a trial, so a kill lands in the run, not in the imports.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpbeam.errors import DpbeamError, RunFailed
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.refusals import FenceLost
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs.options import beam_options
from dpbeam.pipelines.lifecycle import attempts, charging, publish, release
from dpbeam.pipelines.lifecycle.recover import recover
from dpbeam.pipelines.lifecycle.steps import Step
from dpbeam.pipelines.lifecycle.values import Request
from dpbeam.policy.load import load_policy
from dpbeam.transforms.wire.staging import Area
from tests.helpers.kills import COST, INSIDE, STEPS, check_sound, die, does, forked, settle


def test_these_are_the_steps_that_a_run_takes_in_order(workspace, capsys) -> None:
    workspace.create_budget()
    told: list[str] = []
    request = Request.of(
        load_policy(workspace.policy_path),
        release_name="default",
        ledger=workspace.open_ledger(),
        options=beam_options([]),
        output=workspace.output,
    )
    release.make_release(request, told.append)
    assert told == [getattr(release, name).says for name in STEPS]
    assert {name for name, found in vars(release).items() if isinstance(found, Step)} == set(STEPS)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", STEPS)
def test_a_kill_around_a_step_is_settled(workspace, capsys, name, after) -> None:
    workspace.create_budget()
    step = getattr(release, name)

    def killed(value):
        if after:
            step(value)
        die()

    def work() -> None:
        does(name, killed)
        workspace.run()

    _, status = os.waitpid(forked(work), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL  # the kill really happened
    settle(workspace)


@pytest.mark.parametrize("place", INSIDE)
def test_a_kill_inside_publishing_is_settled(workspace, capsys, place) -> None:
    workspace.create_budget()
    owner, name = INSIDE[place]

    def work() -> None:
        setattr(owner, name, die)
        workspace.run()

    _, status = os.waitpid(forked(work), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    settle(workspace)
    published = place in ("with the manifest written", "after the ledger's decision")
    assert len(workspace.manifests()) == published


def test_a_run_killed_after_the_decision_is_finished_by_asking_again(workspace, capsys) -> None:
    workspace.create_budget()

    def work() -> None:
        publish.complete = die
        workspace.run()

    os.waitpid(forked(work), 0)
    assert workspace.manifests() == []
    assert workspace.run() == 0
    assert "at no cost" in capsys.readouterr().out
    assert workspace.open_ledger().balance("visits").spent == COST


def test_a_killed_run_is_retried_under_its_own_charge(workspace, capsys) -> None:
    workspace.create_budget()

    def work() -> None:
        Area.read_stage = die
        workspace.run()

    os.waitpid(forked(work), 0)
    assert workspace.run() == 0
    assert workspace.open_ledger().balance("visits").spent == COST
    settle(workspace)


def test_of_two_that_retry_a_broken_run_the_later_clears_nothing(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def work() -> None:
        Area.read_stage = die
        workspace.run()

    os.waitpid(forked(work), 0)
    (broken,) = workspace.open_charges()
    write_manifest = publish.write_manifest

    def meanwhile(folder, manifest):
        """Another process found the same broken charge before this one took it, and goes on with it only now."""
        late = SimpleNamespace(request=SimpleNamespace(ledger=workspace.open_ledger(), options=beam_options([])))
        with pytest.raises(FenceLost):
            charging._resume(late, broken)
        return write_manifest(folder, manifest)

    monkeypatch.setattr(publish, "write_manifest", meanwhile)
    assert workspace.run() == 0
    settle(workspace)
    assert len(workspace.manifests()) == 1


def test_files_that_can_not_be_removed_are_named_and_the_rest_is_settled(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    charges = []
    for name in ("a", "b"):

        def work(name=name) -> None:
            Area.read_stage = die
            workspace.run("--release", name)

        os.waitpid(forked(work), 0)
        charges.append(workspace.open_charges()[-1])
    stuck = attempts.staging_area(charges[0]).path
    with monkeypatch.context() as broken:
        remove = shutil.rmtree
        broken.setattr(shutil, "rmtree", lambda path, **options: path == stuck or remove(path, **options))
        with pytest.raises(RunFailed, match="can't be removed; make it writable"):
            recover(workspace.open_ledger())
    assert workspace.open_charges() == []
    assert Path(stuck).exists()
    assert not Path(attempts.staging_area(charges[1]).path).exists()
    assert [settled.outcome for settled in recover(workspace.open_ledger())] == ["cleared"]
    settle(workspace)


def test_a_run_that_was_given_up_can_not_publish(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    write_manifest = publish.write_manifest

    def given_up_meanwhile(folder, manifest):
        recover(workspace.open_ledger(), charge_id=manifest.charge.id, force=True)
        folder.mkdir(parents=True, exist_ok=True)  # a late writer brings it back
        return write_manifest(folder, manifest)

    monkeypatch.setattr(publish, "write_manifest", given_up_meanwhile)
    assert workspace.run() == 4
    assert f"publish nothing. Its {COST} stays spent" in capsys.readouterr().err
    assert workspace.manifests() == []
    settle(workspace)


def test_fifty_kills_at_random_times_are_settled(workspace, capsys) -> None:
    workspace.policy["budget"] = {"epsilon": 100.0, "delta": 1e-4}
    workspace.create_budget()
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    assert workspace.run("--release", "first") == 0
    started = time.monotonic()
    assert workspace.run("--release", "second") == 0
    length, killed = time.monotonic() - started, 0
    for trial in range(50):
        child = forked(lambda trial=trial: workspace.run("--release", f"r{trial}"))
        time.sleep(rng.uniform(0, 1.3 * length))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        try:
            check_sound(workspace)
        except (AssertionError, DpbeamError) as error:
            raise AssertionError(f"trial {trial} of seed {seed}") from error
    assert killed >= 5, "the kills came too late to test anything"
    settle(workspace)


def test_sixteen_runs_at_once_on_a_budget_for_five_publish_five(workspace, capsys) -> None:
    workspace.policy["budget"] = {"epsilon": 5.0, "delta": 5e-6}
    workspace.create_budget()

    run = ["run", str(workspace.policy_path), "--ledger", workspace.ledger, "--output", str(workspace.output)]
    children = [forked(lambda n=n: os._exit(invoke([*run, "--release", f"r{n}"]))) for n in range(16)]
    codes = sorted(os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0] * 5 + [3] * 11
    assert len(workspace.manifests()) == 5
    assert workspace.open_ledger().balance("visits").left == Amount(epsilon=0, delta=0)
    settle(workspace)


def test_the_same_release_asked_for_sixteen_times_at_once_is_charged_once(workspace, capsys) -> None:
    workspace.create_budget()
    run = ["run", str(workspace.policy_path), "--ledger", workspace.ledger, "--output", str(workspace.output)]
    children = [forked(lambda: os._exit(invoke(run))) for _ in range(16)]
    codes = {os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children}
    assert codes <= {0, 3}
    assert len(workspace.manifests()) == 1
    assert workspace.open_ledger().balance("visits").spent == COST
