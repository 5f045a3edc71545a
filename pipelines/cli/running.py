"""The commands that go with one run: `run`, and `recover` after one that was cut off."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.arguments import (
    DEFAULT_LEDGER,
    AsJson,
    DryRun,
    LedgerUrl,
    Period,
    PolicyPath,
    Quiet,
    Verbose,
)
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import complain, console, detail, line, note, quiet, remark, say, say_json, working
from dpbeam.pipelines.lifecycle import stopping

if TYPE_CHECKING:
    from dpbeam.pipelines.lifecycle.foreseeing import Foreseen
    from dpbeam.pipelines.lifecycle.values import Published


RUN = epilog(
    "dpbeam run policy.yaml",
    "dpbeam run policy.yaml --release august --json",
    "dpbeam run policy.yaml --release visits-{period} --period 2026-W48 --dry-run",
    "dpbeam run policy.yaml --runner=FlinkRunner --flink_master=flink:8081 --environment_type=DOCKER",
)
RECOVER = epilog("dpbeam recover", "dpbeam recover --charge ID --force")


def run(
    context: typer.Context,
    policy_path: PolicyPath,
    release: Annotated[
        str, typer.Option("--release", help="The release's name: the same name is the same release.")
    ] = "default",
    period: Period = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    output: Annotated[
        str | None, typer.Option("--output", help="Where releases go, in place of the policy's output.path.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Input file or pattern, in place of the policy's.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Make a new release, charged anew, though one exists.")
    ] = False,
    accept_source: Annotated[
        bool,
        typer.Option("--accept-source", help="The dataset's budget is meant for this source, new to it, as well."),
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", help="dpbeam, or pipelinedp: PipelineDP's own engine, slow, to compare with.")
    ] = "dpbeam",
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", help="Where the run's log goes; default: .logs beside staging.")
    ] = None,
    keep_log: Annotated[
        bool, typer.Option("--keep-log", help="Keep the log of a run that succeeds. It may hold raw values.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Make a private release. Other flags, such as --runner=…, go to Beam; put them after POLICY."""
    from dpbeam.policy.load import load_policy

    if str(policy_path).startswith("-"):
        flags = [name for each in context.command.params for name in each.opts]
        close = get_close_matches(str(policy_path).partition("=")[0], [*flags, "--help"], n=1)
        hint = f". Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"POLICY must come before Beam's flags, got {policy_path} in its place{hint}")
    if engine not in ("dpbeam", "pipelinedp"):
        raise UsageError(f"--engine must be dpbeam or pipelinedp, got {engine!r}")
    policy = load_policy(policy_path, source=source, output=output)
    from dpbeam.ledger import open_ledger  # only now, and so the rest: an error in the policy needs none of it
    from dpbeam.pipelines.cli import capture, foreseen
    from dpbeam.pipelines.lifecycle import runlog
    from dpbeam.pipelines.lifecycle.foreseeing import foresee
    from dpbeam.pipelines.lifecycle.naming import ReleaseName
    from dpbeam.pipelines.lifecycle.release import make_release
    from dpbeam.pipelines.lifecycle.values import Published, Request
    from dpbeam.transforms.wire.progress import listening

    if "://" in policy.output.path:
        raise UsageError(f"output.path must be a folder of this machine for now, got {policy.output.path!r}")
    options = None
    if context.args:
        from dpbeam.pipelines.jobs.options import beam_options

        options = beam_options(context.args, [name for each in context.command.params for name in each.opts])
    request = Request.of(
        policy,
        release_name=ReleaseName.of(release, period).text,
        period=period,
        refresh=refresh,
        accept_source=accept_source,
        ledger=open_ledger(ledger, reading=dry_run),
        options=options,
        output=Path(policy.output.path),
        engine="pipelinedp" if engine == "pipelinedp" else "dpbeam",
    )
    terminal = console(stderr=True)
    is_silent = as_json or quiet()
    detail(f"policy {policy_path}, digest {request.query.digest}, ledger {ledger}")
    with nullcontext() if is_silent else terminal.status("Starting") as status:

        def progress(step: str) -> None:
            if status is not None:
                status.update(f"{step} …")
                terminal.print(f"· {step}", style="dim")

        def share(what: str, done: int, of: int) -> None:
            if status is not None:
                status.update(f"{what.capitalize()}: {100 * done // of} % …")

        def made() -> Published:
            logs = request.output / runlog.FOLDER_NAME if log_dir is None else log_dir
            with (
                runlog.kept(logs, policy.dataset, keep=keep_log, loggers=("",)) as log,
                capture.captured(log),
                listening(share),
            ):
                detail(f"log {log.path}, {'kept' if keep_log else 'removed if all goes well'}; it may hold raw values")
                return make_release(request, log.telling(progress), (lambda says: None) if as_json else note)

        # Only a run that writes has a log.
        done: Published | Foreseen = foresee(request, progress) if dry_run else made()
    if isinstance(done, Published):
        _show_published(done, as_json=as_json)
    else:
        foreseen.show(done, as_json=as_json)


def _show_published(done: Published, *, as_json: bool) -> None:
    """The release is out, and the exit code says so: whatever happens to the screen, or while it is drawn."""
    from dpbeam.pipelines.lifecycle.release import run_json

    try:
        if as_json:
            say_json(run_json(done))
        elif quiet():
            say(str(done.folder))
        else:
            _show(done)
        sys.stdout.flush()
        trouble = getattr(sys.stdout, "lost", None)
    except stopping.Stopped as stopped:
        trouble = str(stopped)
    except Exception as error:
        trouble = type(error).__name__
    if trouble is not None:
        complain(f"the release is out, in {done.folder}, but could not be shown here ({trouble})")


def _show(done: Published) -> None:
    from dpbeam.pipelines.cli import terminal
    from dpbeam.pipelines.lifecycle import remarks
    from dpbeam.pipelines.lifecycle.report_facts import published_tables
    from dpbeam.reporting.coverage import of_stage

    out = console()
    tables = published_tables(done.folder, done.stages)
    for spec in done.stages:
        out.print(terminal.results(spec, tables[spec.name], out.width, of_stage(done.coverage, spec.name)))
    out.print(terminal.chosen(done.chosen))
    query = done.request.query
    balance = done.request.ledger.balance(query.dataset)
    cost = f"This release cost {done.charge.amount} (one {query.unit or 'row'}, added or removed)."
    if done.cached:
        cost = "This release was made before: the same files again, at no cost."
    out.print(line(cost))
    out.print(line(f"Left of the budget of {query.dataset}: {balance.left} of {balance.cap}."))
    out.print(line(f"Report: {done.folder / 'report.html'}"), soft_wrap=True)
    if remark := remarks.of_page(done):
        note(f"{remark[0].upper()}{remark[1:]}.")


def recover(
    ledger: LedgerUrl = DEFAULT_LEDGER,
    charge: Annotated[str | None, typer.Option("--charge", help="Settle only this charge.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Settle --charge though its process may live.")] = False,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Finish or close the runs that a kill cut off. Safe to run at any time."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.lifecycle.recover import recover as settle

    with working("Settling what was cut off", silent=as_json):
        settled = settle(open_ledger(ledger), charge_id=charge, force=force)
    if as_json:
        found = [{"charge": s.charge.id, "dataset": s.charge.dataset, "outcome": s.outcome} for s in settled]
        say_json({"version": 2, "settled": found})
        return
    for each in settled:
        say(f"{each.charge.dataset} {each.charge.release_id} (charge {each.charge.id}): {each.outcome}")
    remark(
        "Nothing to settle."
        if not settled
        else f"{len(settled)} {'charge' if len(settled) == 1 else 'charges'} looked at."
    )
