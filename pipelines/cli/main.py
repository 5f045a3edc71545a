"""The command line: words come in; each command does its work and ends with a documented exit code.

Exit codes: 0 done · 2 the command, policy or input can't be used · 3 the budget, the ledger or a guard refuses ·
4 the run failed, or a release doesn't verify · 129, 130, 143 stopped by SIGHUP, SIGINT (Ctrl-C) or SIGTERM.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dpbeam._version import __version__
from dpbeam.errors import DpbeamError, LedgerError, UsageError
from dpbeam.ledger import waiting
from dpbeam.pipelines.cli import check, streams
from dpbeam.pipelines.cli.printing import complain, console, line, note, say, say_json
from dpbeam.pipelines.lifecycle import stopping

if TYPE_CHECKING:
    from dpbeam.pipelines.lifecycle.values import Published

app = typer.Typer(
    name="dpbeam",
    help="Differentially private releases from Apache Beam, under a privacy budget that holds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
budget_app = typer.Typer(help="What a dataset may spend, has spent, and has left.", no_args_is_help=True)
app.add_typer(budget_app, name="budget")
app.command()(check.check)

DEFAULT_LEDGER = "sqlite:///dpbeam-ledger.sqlite"
LEDGER_VARIABLE = "DPBEAM_LEDGER"

PolicyPath = Annotated[Path, typer.Argument(metavar="POLICY", help="The policy file, YAML.")]


def _ledger_named(value: str) -> str:
    if value == DEFAULT_LEDGER and os.environ.get(LEDGER_VARIABLE, value).strip() == "":
        raise UsageError(f"{LEDGER_VARIABLE} must not be empty; name the ledger (sqlite:///PATH), or unset it")
    return value


LedgerUrl = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar=LEDGER_VARIABLE,
        callback=_ledger_named,
        help="The ledger: sqlite:///PATH.",
        show_default=True,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, as policies give it.")]


def _version(value: bool) -> None:
    if value:
        say(f"dpbeam {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Differentially private releases from Apache Beam, under a privacy budget that holds."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    policy_path: PolicyPath,
    release: Annotated[
        str, typer.Option("--release", help="The release's name: the same name is the same release.")
    ] = "default",
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
    as_json: AsJson = False,
) -> None:
    """Make a private release. Other flags, such as --runner=…, go to Beam; put them after POLICY."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.jobs.options import beam_options
    from dpbeam.pipelines.lifecycle.release import make_release
    from dpbeam.pipelines.lifecycle.values import Request
    from dpbeam.policy.load import load_policy
    from dpbeam.transforms.wire.progress import listening

    if str(policy_path).startswith("-"):
        raise UsageError(f"POLICY must come before Beam's flags, got {policy_path} in its place")
    if engine not in ("dpbeam", "pipelinedp"):
        raise UsageError(f"--engine must be dpbeam or pipelinedp, got {engine!r}")
    policy = load_policy(policy_path, source=source, output=output)
    if "://" in policy.output.path:
        raise UsageError(f"output.path must be a folder of this machine for now, got {policy.output.path!r}")
    request = Request.of(
        policy,
        release_name=release,
        refresh=refresh,
        accept_source=accept_source,
        ledger=open_ledger(ledger),
        options=beam_options(context.args),
        output=Path(policy.output.path),
        engine="pipelinedp" if engine == "pipelinedp" else "dpbeam",
    )
    terminal = console(stderr=True)
    check.say_unused(request.query, silent=as_json)
    with nullcontext() if as_json else terminal.status("Starting") as status:

        def progress(step: str) -> None:
            if status is not None:
                status.update(f"{step} …")
                terminal.print(f"· {step}", style="dim")

        def share(what: str, done: int, of: int) -> None:
            if status is not None:
                status.update(f"{what.capitalize()}: {100 * done // of} % …")

        with listening(share):
            done = make_release(request, progress)
    _show_published(done, as_json=as_json)


def _show_published(done: Published, *, as_json: bool) -> None:
    """The release is out, and the exit code says so: whatever happens to the screen, or while it is drawn."""
    from dpbeam.pipelines.lifecycle.release import run_json

    try:
        if as_json:
            say_json(run_json(done))
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
    from dpbeam.pipelines.lifecycle.report_facts import published_tables

    out = console()
    tables = published_tables(done.folder, done.stages)
    for spec in done.stages:
        out.print(terminal.results(spec, tables[spec.name], out.width))
    out.print(terminal.chosen(done.chosen))
    query = done.request.query
    balance = done.request.ledger.balance(query.dataset)
    cost = f"This release cost {done.charge.amount} (one {query.unit or 'row'}, added or removed)."
    if done.cached:
        cost = "This release was made before: the same files again, at no cost."
    out.print(line(cost))
    out.print(line(f"Left of the budget of {query.dataset}: {balance.left} of {balance.cap}."))
    out.print(line(f"Report: {done.folder / 'report.html'}"), soft_wrap=True)


@app.command()
def plan(
    policy_path: PolicyPath,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do and cost, without reading data."""
    from dpbeam.accounting.plan import plan as make_plan
    from dpbeam.engine.release import releaser
    from dpbeam.engine.stage import planned
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.cli import terminal
    from dpbeam.policy.compile import query as compile_query
    from dpbeam.policy.load import load_policy

    policy = load_policy(policy_path)
    query = compile_query(policy)
    check.say_unused(query, silent=as_json)
    made = make_plan(query)
    for spec in planned(query, made.mechanisms):
        releaser.check(spec)
    balance = None
    try:
        balance = open_ledger(ledger, reading=True).balance(policy.dataset)
    except LedgerError as error:
        if not as_json:
            note(*error.lines)
    if as_json:
        say_json(made.to_json() | {"ledger": None if balance is None else {"left": balance.left.to_json()}})
    else:
        console().print(terminal.plan(made, balance))


@app.command()
def init(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A CSV, JSON Lines, Parquet or Avro file, or a folder of them.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; default: the screen.")] = None,
) -> None:
    """Write a commented first policy from a file's column names and types. Reads no values."""
    from dpbeam.pipelines.cli.init import starter

    text = starter(data, folder=None if output is None else output.parent)
    if output is None:
        say(*text.removesuffix("\n").split("\n"))
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{output} exists already; name another file with --output") from None
    except OSError as error:
        raise UsageError(f"{output} can't be written ({error.strerror})") from None
    say(f"Wrote {output}: read every line of it, then `dpbeam plan {output}`.")


@app.command()
def certify(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A release's manifest.json.")],
    as_json: AsJson = False,
) -> None:
    """Recompute a release's certificate from its manifest alone, and check its files' digests."""
    from dpbeam.reporting.certify import certify as check

    epsilon = check(manifest).epsilon
    if as_json:
        say_json({"version": 1, "certified": True, "epsilon": epsilon, "manifest": str(manifest)})
    else:
        say(f"{manifest}: certified; its mechanisms compose to ε {epsilon:.6g}, and its files are whole.")


@app.command()
def recover(
    ledger: LedgerUrl = DEFAULT_LEDGER,
    charge: Annotated[str | None, typer.Option("--charge", help="Settle only this charge.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Settle --charge though its process may live.")] = False,
    as_json: AsJson = False,
) -> None:
    """Finish or close the runs that a kill cut off. Safe to run at any time."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.lifecycle.recover import recover as settle

    settled = settle(open_ledger(ledger), charge_id=charge, force=force)
    if as_json:
        found = [{"charge": s.charge.id, "dataset": s.charge.dataset, "outcome": s.outcome} for s in settled]
        say_json({"version": 2, "settled": found})
        return
    for each in settled:
        say(f"{each.charge.dataset} {each.charge.release_id} (charge {each.charge.id}): {each.outcome}")
    say("Nothing to settle." if not settled else f"{len(settled)} charges looked at.")


@budget_app.command("create")
def budget_create(
    what: Annotated[str, typer.Argument(metavar="POLICY|DATASET", help="A policy with a budget, or a dataset's name.")],
    epsilon: Annotated[str | None, typer.Option(help="The cap on ε, with a dataset's name.")] = None,
    delta: Annotated[str | None, typer.Option(help="The cap on δ, with a dataset's name.")] = None,
    privacy_unit: Annotated[
        str | None, typer.Option(help="Whom it protects, with a dataset's name; default: whom its first run protects.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
) -> None:
    """Give a dataset its budget, once. From then on the ledger's cap is the authority."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.amounts import Amount
    from dpbeam.ledger.scope import Protected

    if epsilon is None and delta is None:
        from dpbeam.pipelines.lifecycle import identity
        from dpbeam.policy.load import load_policy

        if privacy_unit is not None:
            raise UsageError(f"--privacy-unit goes with a dataset's name; {what} states its own, which counts")
        policy = load_policy(what)
        if policy.budget is None:
            raise UsageError(f"{what} states no budget; add one, or give --epsilon and --delta with the dataset's name")
        dataset, cap = policy.dataset, Amount.cap(policy.budget.epsilon, policy.budget.delta)
        protects: Protected | None = identity.protected(policy)
    elif epsilon is None or delta is None:
        raise UsageError("--epsilon and --delta go together; give both, or name a policy that states a budget")
    else:
        dataset, cap = what, Amount.cap(epsilon, delta)
        try:
            protects = None if privacy_unit is None else Protected(unit=privacy_unit)
        except ValueError as error:
            raise UsageError(f"--privacy-unit: {error}") from None
    balance = open_ledger(ledger, create=True).create_budget(dataset, cap, protected=protects)
    whom = "whom its first run protects" if protects is None else protects
    say(f"Budget of {dataset}: {balance.cap}, meter {balance.meter}; it protects {whom}. Nothing is spent yet.")


@budget_app.command("show")
def budget_show(dataset: Dataset, ledger: LedgerUrl = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Show what a dataset may spend, has spent, holds and has left."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.accounts import budget_json
    from dpbeam.pipelines.cli import budget_terminal

    budget = open_ledger(ledger, reading=True).budget(dataset)
    if as_json:
        say_json(budget_json(budget))
    else:
        console().print(budget_terminal.budget(budget))


@budget_app.command("history")
def budget_history(dataset: Dataset, ledger: LedgerUrl = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Show every entry of a dataset's journal."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.cli import budget_terminal

    entries = open_ledger(ledger, reading=True).history(dataset)
    if as_json:
        say_json({"version": 1, "dataset": dataset, "entries": [entry.to_json() for entry in entries]})
    else:
        console().print(budget_terminal.history(dataset, entries))


@budget_app.command("verify")
def budget_verify(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; default: all.")] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
) -> None:
    """Replay the journal and compare it with every balance."""
    from dpbeam.ledger import open_ledger

    count = open_ledger(ledger, reading=True).verify(dataset)
    say(f"The ledger verifies: {count} entries, every balance is what they amount to.")


def invoke(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code. Errors are said on stderr, without any text of a library's."""
    with streams.unfailing() as terminal, stopping.listening(), waiting.listening(complain):
        code = _invoke(arguments)
        terminal.flush()
        if code == 0 and terminal.lost is not None and arguments[:1] != ["run"]:  # which has said so
            complain(f"standard output can't be written ({terminal.lost})")
            return 4 if streams.only_shows(arguments) else 0
        return code


def _invoke(arguments: Sequence[str]) -> int:
    try:
        streams.refuse_empty(arguments)
        result = typer.main.get_command(app)(args=list(arguments), prog_name="dpbeam", standalone_mode=False)
        return int(result or 0)
    except DpbeamError as error:
        complain(*error.lines)
        return error.exit_code
    except typer.Exit as ending:
        return ending.exit_code
    except stopping.Stopped as stopped:
        complain(f"{stopped}; `dpbeam recover` settles what was begun")
        return stopped.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the command line itself
            complain(*streams.usage_lines(error))
            return 2
        at = traceback.extract_tb(error.__traceback__)[-1]
        complain(
            f"internal error {type(error).__name__} at {Path(at.filename).name}:{at.lineno}; please report it. "
            "`dpbeam recover` settles what was begun"
        )
        return 4


def main() -> NoReturn:
    """The `dpbeam` command."""
    streams.settle()
    sys.exit(invoke(sys.argv[1:]))
