"""Kills of processes at chosen places, and what must hold of a ledger and its releases afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

from dpbeam.ledger.amounts import Amount
from dpbeam.pipelines.lifecycle import publish, release
from dpbeam.pipelines.lifecycle.recover import recover
from dpbeam.reporting.certify import certify
from dpbeam.transforms.wire.staging import Area

COST = Amount.charge(1.0, 1e-6)
"""What one run of the workspace's policy costs."""

INSIDE = {
    "while files are written": (publish, "write_csv"),
    "with the files written": (publish, "entries"),
    "with the manifest written": (Area, "remove_shards"),
    "after the ledger's decision": (publish, "complete"),
}
"""Places within publishing: whose name is replaced by `die`."""


STEPS = ("plan", "guard", "reserve", "start", "run_job", "verify", "assemble", "commit")
"""The lifecycle, in order, by the names of its steps in `release`."""


def does(name: str, work) -> None:
    """From here on `work` is done where the step would be."""
    setattr(release, name, replace(getattr(release, name), work=work))


def forked(work) -> int:
    """Runs `work` in a child process; returns the child's wait status."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            work()
        os._exit(0)
    return child


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def check_sound(workspace) -> None:
    """The ledger verifies and covers every manifest; every manifest stands beside whole, right files."""
    ledger = workspace.open_ledger()
    ledger.verify()
    found = workspace.manifests()
    assert Amount(epsilon=COST.epsilon * len(found), delta=COST.delta * len(found)).fits(ledger.balance("visits").spent)
    for manifest in found:
        certify(manifest)


def settle(workspace) -> None:
    """Recovers, and asserts that nothing is left open, staged or half visible."""
    check_sound(workspace)
    recover(workspace.open_ledger())
    check_sound(workspace)
    assert workspace.open_charges() == []
    published = {charge.release_id for charge in workspace.published_charges()}
    assert published == {m.parent.name for m in workspace.manifests()}
    assert workspace.left_behind() == []


def at_new_lines(files: set[str], act: Callable[[int], object]) -> None:
    """From here on calls `act(n)` before the n-th line of `files` that is executed for the first time."""
    seen: set[tuple[str, int]] = set()

    def trace(frame, event, _):
        if frame.f_code.co_filename not in files:
            return None
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in seen:
            seen.add(place)
            act(len(seen))
        return trace

    sys.settrace(trace)
