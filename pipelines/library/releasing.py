"""A release made from Python: the whole lifecycle, as `dpbeam run` takes it.

Guarantee: that of `dpbeam.pipelines.lifecycle.release.make_release`. Rows that lie in memory stay in this process: only
a runner that works in it is taken.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpbeam.errors import Interrupted, UsageError
from dpbeam.extras import require
from dpbeam.ledger import Ledger, open_ledger
from dpbeam.pipelines.library.plans import policy_of
from dpbeam.pipelines.library.releases import Release, read_release
from dpbeam.policy.builder import QueryBuilder
from dpbeam.policy.schema.policy import Policy
from dpbeam.reading import memory

if TYPE_CHECKING:
    from dpbeam.pipelines.lifecycle.steps import Progress
    from dpbeam.pipelines.lifecycle.values import Published, Request


def release(
    asked: Policy | QueryBuilder,
    *,
    ledger: str | Ledger,
    output: str | Path | None = None,
    name: str = "default",
    period: str | None = None,
    refresh: bool = False,
    accept_source: bool = False,
    logs: str | Path | None = None,
    flags: Sequence[str] = (),
) -> Release:
    """Makes a release, or finds the one that was made of the same query and rows under the same name, at no cost.

    `ledger` is a URL or what `dpbeam.open_ledger` gives; it must have a budget for the dataset. `output` is the folder
    where releases go (default: the policy's). `period`, such as 2026-W48, stands in the name where that says
    `{period}`, and in the manifest. `refresh` asks for a new release, charged anew, though one exists;
    `accept_source` says that a source that is new to the dataset's budget is meant. `flags` are Beam's: a runner, say.
    `logs` is the folder for the run's log (default: `.logs` beside staging). Only errors and what Beam's and dpbeam's
    loggers let through are in it, at the levels that they have: what runners write on the standard streams stays there.
    Rows that lie in memory are logged only where a folder is named: else nothing of them is written to a disk.

    Raises:
        UsageError: the query, its source, the output folder or a flag can't be used; nothing was charged.
        Refused, LedgerError: the budget or the ledger says no.
        RunFailed: the run broke off after it was charged; nothing was published.
        Interrupted: Ctrl-C stopped it; what it staged is removed, and the message says what is spent. On SIGTERM and
            SIGHUP the same is logged, as a warning of the logger `dpbeam`; then the program's own handler gets the
            signal, or, without one, the program ends as it would have. (In another thread than the main one a release
            isn't told of signals; `dpbeam recover` settles what a process that ended left behind.)
    """
    require("beam")
    from dpbeam.pipelines.jobs.options import beam_options, runs_here
    from dpbeam.pipelines.lifecycle import runlog
    from dpbeam.pipelines.lifecycle.naming import ReleaseName
    from dpbeam.pipelines.lifecycle.values import Request

    if not isinstance(ledger, str | Ledger):
        raise UsageError(
            f"ledger must be a ledger's URL, or what dpbeam.open_ledger gives, got {type(ledger).__name__}"
        )
    policy, options = policy_of(asked), beam_options(list(flags))
    folder = Path(policy.output.path if output is None else output)
    if "://" in str(policy.output.path if output is None else output):
        raise UsageError(f"output must be a folder of this machine for now, got {str(output)!r}")
    rows = asked.rows() if isinstance(asked, QueryBuilder) else None
    if rows is not None and not runs_here(options):
        raise UsageError(
            "rows that lie in memory are read in this process alone: leave --runner out, or write them to files that "
            "the runner's workers can read"
        )
    request = Request.of(
        policy,
        release_name=ReleaseName.of(name, period).text,
        period=period,
        ledger=open_ledger(ledger) if isinstance(ledger, str) else ledger,
        options=options,
        output=folder,
        refresh=refresh,
        accept_source=accept_source,
    )
    with ExitStack() as stack:
        if rows is not None:
            stack.enter_context(memory.holding(policy.dataset, rows))
        progress: Progress = lambda says: None  # noqa: E731
        if rows is None or logs is not None:
            place = folder / runlog.FOLDER_NAME if logs is None else Path(logs)
            progress = stack.enter_context(runlog.kept(place, policy.dataset)).telling(progress)
        done = _made(request, progress)
    return replace(read_release(done.folder), cached=done.cached)


def _made(request: Request, progress: Progress) -> Published:
    """What `make_release` makes, with signals taken while it is at work."""
    from dpbeam.pipelines.lifecycle import stopping
    from dpbeam.pipelines.lifecycle.release import make_release

    try:
        with stopping.listening():
            return make_release(request, progress, note=logging.getLogger("dpbeam").warning)
    except Interrupted as interrupted:
        number = interrupted.exit_code - 128
        if number != signal.SIGINT:
            logging.getLogger("dpbeam").warning("%s", interrupted)
            stopping.hand_on(number)
        raise
