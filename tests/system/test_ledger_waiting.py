"""A ledger that others keep locked is waited for; a finished release isn't lost to the wait, and nobody starves."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpbeam.ledger import Ledger, waiting
from dpbeam.ledger.refusals import Locked
from dpbeam.ledger.stores.sqlite import file as sqlite_file
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import attempts, charging, publish
from dpbeam.pipelines.lifecycle import recover as recovering
from tests.helpers import kills
from tests.helpers.locking import locked


@pytest.fixture
def ledger(workspace) -> Path:
    workspace.create_budget()
    return workspace.folder / "ledger.sqlite"


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)


def after_waits(monkeypatch, number: int, act: Callable[[], None]) -> list[int]:
    """Calls `act` when a lock was asked for in vain `number` times; gives how often that was in the end."""
    waits, wait = [0], waiting.Patience.wait

    def counted(self) -> bool:
        waits[0] += 1
        if waits[0] == number:
            act()
        return wait(self)

    monkeypatch.setattr(waiting.Patience, "wait", counted)
    return waits


@pytest.mark.parametrize("mode", ["NORMAL", "EXCLUSIVE"])
def test_whatever_is_locked_is_waited_for(workspace, ledger, monkeypatch, mode) -> None:
    """EXCLUSIVE has already the first statement of a connection wait, not just BEGIN."""
    with locked(ledger, mode) as let_go:
        waits = after_waits(monkeypatch, 20, let_go)
        workspace.open_ledger()
        assert waits[0] == 20
        assert workspace.open_ledger().verify() == 1


@pytest.mark.parametrize("mode", ["NORMAL", "EXCLUSIVE"])
def test_who_waits_in_vain_is_told_so(workspace, ledger, impatient, capsys, mode) -> None:
    with locked(ledger, mode):
        assert workspace.run() == 3
        assert "other runs kept it locked for 0 s; try again when they are done" in capsys.readouterr().err
        assert invoke(["budget", "verify", "--ledger", workspace.ledger]) == (0 if mode == "NORMAL" else 3)


def finished(workspace, ledger: Path, monkeypatch, held: contextlib.ExitStack) -> list[bytes]:
    """From the moment on at which a run has written its release, the ledger is locked; the bytes it has written."""
    written, write = [], publish.write_manifest

    def then_lock(folder, manifest):
        digest = write(folder, manifest)
        written.extend(path.read_bytes() for path in sorted(folder.iterdir()))
        held.let_go = held.enter_context(locked(ledger))
        return digest

    monkeypatch.setattr(publish, "write_manifest", then_lock)
    return written


def test_a_finished_run_asks_again_and_again(workspace, ledger, impatient, monkeypatch, capsys) -> None:
    asked, publishes = [], Ledger.publish

    def counted(self, *more, **named):
        asked.append(1)
        if len(asked) == attempts.TELLING_TRIES:
            held.let_go()
        return publishes(self, *more, **named)

    monkeypatch.setattr(Ledger, "publish", counted)
    with contextlib.ExitStack() as held:
        written = finished(workspace, ledger, monkeypatch, held)
        assert workspace.run() == 0
    assert len(asked) == attempts.TELLING_TRIES
    assert [path.read_bytes() for path in sorted(workspace.release_folder().iterdir())] == written


@pytest.mark.parametrize("how", ["recover", "the same command"])
def test_a_finished_release_that_could_not_be_told_is_published_later(
    workspace, ledger, impatient, monkeypatch, capsys, how
) -> None:
    monkeypatch.setattr(recovering, "alive", lambda _: False)  # its process is this one
    monkeypatch.setattr(charging, "alive", lambda _: False)
    with contextlib.ExitStack() as held:
        written = finished(workspace, ledger, monkeypatch, held)
        assert workspace.run() == 3
        said = capsys.readouterr().err
        assert "The release is made and paid for: once that is mended, `dpbeam recover`, or the same command" in said
    assert workspace.manifests() == []
    if how == "recover":
        assert invoke(["recover", "--ledger", workspace.ledger]) == 0
        assert ": published" in capsys.readouterr().out
    else:
        assert workspace.run() == 0
        assert "at no cost" in capsys.readouterr().out
    assert [path.read_bytes() for path in sorted(workspace.release_folder().iterdir())] == written
    assert workspace.open_ledger().balance("visits").spent == kills.COST
    kills.settle(workspace)


@pytest.mark.parametrize("what", ["a changed file", "a missing file", "one file more", "another manifest", "a link"])
def test_what_waits_and_was_changed_is_not_published(workspace, ledger, impatient, monkeypatch, capsys, what) -> None:
    monkeypatch.setattr(recovering, "alive", lambda _: False)
    with contextlib.ExitStack() as held:
        finished(workspace, ledger, monkeypatch, held)
        assert workspace.run() == 3
    (charge,) = workspace.open_charges()
    folder = Path(attempts.staging_area(charge).release)
    match what:
        case "a changed file":
            (folder / "by_place.csv").write_text("place\n")
        case "a missing file":
            (folder / "by_place.csv").unlink()
        case "one file more":
            (folder / "more.csv").write_text("place\n")
        case "another manifest":
            manifest = folder / "manifest.json"
            manifest.write_text(manifest.read_text().replace(charge.id, "0" * 32))
        case "a link":
            folder.rename(workspace.folder / "away")
            folder.symlink_to(workspace.folder / "away")
    assert invoke(["recover", "--ledger", workspace.ledger]) == 0
    assert ": closed" in capsys.readouterr().out
    assert workspace.manifests() == []
    kills.settle(workspace)


HAMMERS = 12
LET_BY = 5000
"""If the one who waits gets the next turn with a chance of 1 in 4 × HAMMERS each time, and not 1 in HAMMERS, it lets so
many by with a probability below 1e-45."""


def test_who_waits_among_many_who_come_again_and_again_gets_its_turn(workspace, ledger) -> None:
    counts = mmap.mmap(-1, 8 * HAMMERS)

    def others() -> int:
        return sum(int.from_bytes(counts[8 * n : 8 * n + 8], "little") for n in range(HAMMERS))

    def hammer(number: int) -> None:
        for done in range(1, 1 << 30):
            with sqlite_file.written(ledger) as connection:
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('turn', random())")
            counts[8 * number : 8 * number + 8] = done.to_bytes(8, "little")

    children = [kills.forked(lambda number=number: hammer(number)) for number in range(HAMMERS)]
    try:
        for _ in range(10):
            before = others()
            while others() == before:  # they are at work
                assert all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in children)
            before = others()
            with sqlite_file.written(ledger):
                assert others() - before < LET_BY
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def test_who_has_waited_longest_asks_most_often(monkeypatch) -> None:
    now, longest = [0.0], []
    monkeypatch.setattr(waiting.random, "uniform", lambda low, high: high)
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda pause: longest.append(pause))
    monkeypatch.setattr(waiting, "time", clock)
    patience = waiting.Patience(60, "the ledger")
    for second in range(61):
        now[0] = second
        assert patience.wait()
    assert longest == sorted(longest, reverse=True)
    assert longest[0] > 50 * longest[-1] > 0
    now[0] = 60.1
    assert not patience.wait()


def test_waiting_in_vain_raises_what_can_be_told_apart(ledger, impatient) -> None:
    with locked(ledger), pytest.raises(Locked), sqlite_file.written(ledger):
        pass
