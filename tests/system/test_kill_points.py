"""SIGKILL wherever publishing has just changed anything on disk, and wherever `recover` has.

A run is taken up to its verified tables once; each trial starts from a copy of that moment, publishes in a child
process that dies there, and is then settled. The places are found by looking at the disk before every line of the
files that write, delete, rename and charge: all of them are tried, not a sample.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpbeam.ledger import ledger
from dpbeam.ledger.stores.sqlite import store as sqlite
from dpbeam.pipelines.lifecycle import attempts, charging, index, publish, release, steps, values
from dpbeam.pipelines.lifecycle import recover as recovering
from dpbeam.reporting import tables
from dpbeam.transforms.wire import staging
from tests.helpers import kills

MODULES = (attempts, charging, index, publish, release, steps, values, recovering, staging, tables, ledger, sqlite)
FILES = {module.__file__ for module in MODULES}


def on_disk(folder: Path) -> list[tuple[str, int, int]]:
    found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found]


def places(folder: Path, work) -> list[int]:
    """The lines of `work` before which something on disk has changed since the line before, and the first."""
    listed = folder.with_name(f"{folder.name}-places")

    def watched() -> None:
        found, last = [], None

        def look(line: int) -> None:
            nonlocal last
            now = on_disk(folder)
            if now != last:
                found.append(line)
            last = now

        kills.at_new_lines(FILES, look)
        work()
        sys.settrace(None)
        listed.write_text(json.dumps(found))

    os.waitpid(kills.forked(watched), 0)
    return json.loads(listed.read_text())


def killed_everywhere(folder: Path, start, work) -> Iterator[None]:
    """For each place of `work`: `start()`, `work()` killed there, and a turn of the caller's loop."""
    start()
    for place in places(folder, work):
        start()

        def dying(place=place) -> None:
            kills.at_new_lines(FILES, lambda line: kills.die() if line == place else None)
            work()

        _, status = os.waitpid(kills.forked(dying), 0)
        assert os.WIFSIGNALED(status), place  # the kill really happened
        yield


@pytest.fixture
def prepared(workspace, capsys, monkeypatch):
    """A run with verified tables, and a function that brings its folder back to that moment."""
    workspace.create_budget()
    taken = []
    take = replace(release.assemble, work=lambda verified: taken.append(verified) or die_quietly())
    monkeypatch.setattr(release, "assemble", take)
    with pytest.raises(Taken):
        run(workspace)
    monkeypatch.undo()
    # The process that holds the charge is this one: to `recover` it must look dead.
    monkeypatch.setattr(recovering, "alive", lambda _: False)
    kept = workspace.folder.with_name(f"{workspace.folder.name}-kept")
    shutil.copytree(workspace.folder, kept)

    def back() -> None:
        shutil.rmtree(workspace.folder)
        shutil.copytree(kept, workspace.folder)

    return SimpleNamespace(verified=taken[0], back=back)


class Taken(BaseException):
    """Ends a run where it is, and nothing is settled."""


def die_quietly() -> None:
    raise Taken


def run(workspace) -> None:
    from dpbeam.pipelines.jobs.options import beam_options
    from dpbeam.pipelines.lifecycle.values import Request
    from dpbeam.policy.load import load_policy

    release.make_release(
        Request.of(
            load_policy(workspace.policy_path),
            release_name="default",
            ledger=workspace.open_ledger(),
            options=beam_options([]),
            output=workspace.output,
        )
    )


def publishing(prepared) -> None:
    release.commit(release.assemble(prepared.verified))


def test_a_kill_anywhere_in_publishing_is_settled(workspace, prepared) -> None:
    ends: Counter = Counter()
    for _ in killed_everywhere(workspace.folder, prepared.back, lambda: publishing(prepared)):
        kills.settle(workspace)
        assert workspace.open_ledger().balance("visits").spent == kills.COST
        ends[len(workspace.manifests())] += 1
        pages = [page.read_text(encoding="utf-8") for page in workspace.output.glob("*/index.html")]
        assert [page.count("report.html") for page in pages] == [1] * len(workspace.manifests())
    # Most places come before the ledger's decision, one or two after it.
    assert ends[0] >= 8
    assert ends[1] >= 1


@pytest.mark.parametrize("decided", [False, True], ids=["half written", "decided"])
def test_a_kill_anywhere_in_recover_is_settled(workspace, prepared, decided) -> None:
    def broken_off() -> None:
        prepared.back()

        def work() -> None:
            setattr(publish, "complete" if decided else "write_manifest", kills.die)
            publishing(prepared)

        _, status = os.waitpid(kills.forked(work), 0)
        assert os.WIFSIGNALED(status)
        assert workspace.left_behind() != []

    trials = 0
    for _ in killed_everywhere(workspace.folder, broken_off, lambda: recovering.recover(workspace.open_ledger())):
        kills.settle(workspace)
        trials += 1
        assert len(workspace.manifests()) == decided
    assert trials >= 2
