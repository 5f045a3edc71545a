"""`dpbeam rehearse`: a policy tried out on made-up data."""

from __future__ import annotations

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from dpbeam.pipelines.cli.arguments import PolicyPath, Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, line, quiet

REHEARSE = epilog("dpbeam rehearse policy.yaml", "dpbeam rehearse policy.yaml --units 100000")


def rehearse(
    policy_path: PolicyPath,
    units: Annotated[
        int, typer.Option("--units", min=1, max=1_000_000, help="How many people (privacy units) are made up.")
    ] = 5000,
    log_dir: Annotated[
        Path | None,
        typer.Option(
            "--log-dir", help="Where the log of a rehearsal that fails is kept; default: with temporary files."
        ),
    ] = None,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Try a policy out on made-up data. A whole run, under a throw-away ledger: reads no source, keeps nothing."""
    from dpbeam.pipelines.cli import capture, terminal
    from dpbeam.pipelines.lifecycle import runlog
    from dpbeam.pipelines.lifecycle.report_facts import published_tables
    from dpbeam.pipelines.rehearsal.rehearse import rehearsed
    from dpbeam.policy.load import load_policy
    from dpbeam.reporting.coverage import of_stage

    policy = load_policy(policy_path)
    out = console()
    err = console(stderr=True)
    is_silent = quiet()
    with nullcontext() if is_silent or not err.is_terminal else err.status("Making up data"):

        def progress(step: str) -> None:
            if not is_silent:
                err.print(f"· {step}", style="dim")

        logs = Path(tempfile.gettempdir()) / f"dpbeam-rehearsals-{os.geteuid()}" if log_dir is None else log_dir
        with (
            runlog.kept(logs, policy.dataset, loggers=("",)) as log,
            capture.captured(log),
            rehearsed(policy, units, log.telling(progress)) as done,
        ):
            published = done.published
            tables = published_tables(published.folder, published.stages)
            for spec in published.stages:
                told = of_stage(published.coverage, spec.name)
                out.print(terminal.results(spec, tables[spec.name], out.width, told))
            out.print(terminal.chosen(published.chosen))
    out.print(line(f"Rehearsed on made-up data: {done.rows} rows of {units} {published.request.query.unit or 'row'}s."))
    if not is_silent:
        out.print(line("Planned, charged to a throw-away ledger, run, published and certified; nothing of it is kept."))
    out.print(line(f"A real run would charge {published.charge.amount} to {policy.dataset}. Its source wasn't read."))
