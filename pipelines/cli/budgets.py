"""The commands of `dpbeam budget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.arguments import DEFAULT_LEDGER, AsJson, Dataset, LedgerUrl, Quiet, Verbose
from dpbeam.pipelines.cli.commands import Group, epilog
from dpbeam.pipelines.cli.printing import console, remark, say_json, working

budget_app = typer.Typer(
    cls=Group,
    help="What a dataset may spend, has spent, and has left.",
    epilog=epilog("dpbeam budget create policy.yaml", "dpbeam budget show visits"),
    no_args_is_help=True,
)


@budget_app.command(
    "create",
    epilog=epilog(
        "dpbeam budget create policy.yaml",
        "dpbeam budget create visits --epsilon 10 --delta 1e-6 --privacy-unit person",
        codes=(0, 2, 3),
    ),
)
def budget_create(
    what: Annotated[str, typer.Argument(metavar="POLICY|DATASET", help="A policy with a budget, or a dataset's name.")],
    epsilon: Annotated[str | None, typer.Option(help="The cap on ε, with a dataset's name.")] = None,
    delta: Annotated[str | None, typer.Option(help="The cap on δ, with a dataset's name.")] = None,
    privacy_unit: Annotated[
        str | None, typer.Option(help="Whom it protects, with a dataset's name; default: whom its first run protects.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
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
    remark(f"Budget of {dataset}: {balance.cap}, meter {balance.meter}; it protects {whom}. Nothing is spent yet.")


@budget_app.command("show", epilog=epilog("dpbeam budget show visits --json", codes=(0, 2, 3, 4)))
def budget_show(
    dataset: Dataset,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Show what a dataset may spend, has spent, holds and has left."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.accounts import budget_json
    from dpbeam.pipelines.cli import budget_terminal

    budget = open_ledger(ledger, reading=True).budget(dataset)
    if as_json:
        say_json(budget_json(budget))
    else:
        console().print(budget_terminal.budget(budget))


@budget_app.command("history", epilog=epilog("dpbeam budget history visits", codes=(0, 2, 3, 4)))
def budget_history(
    dataset: Dataset,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Show every entry of a dataset's journal."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.cli import budget_terminal

    entries = open_ledger(ledger, reading=True).history(dataset)
    if as_json:
        say_json({"version": 1, "dataset": dataset, "entries": [entry.to_json() for entry in entries]})
    else:
        console().print(budget_terminal.history(dataset, entries))


@budget_app.command("verify", epilog=epilog("dpbeam budget verify", "dpbeam budget verify visits", codes=(0, 2, 3, 4)))
def budget_verify(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; default: all.")] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Replay the journal and compare it with every balance."""
    from dpbeam.ledger import open_ledger

    with working("Replaying the journal"):
        count = open_ledger(ledger, reading=True).verify(dataset)
    remark(f"The ledger verifies: {count} entries, every balance is what they amount to.")


@budget_app.command(
    "export",
    epilog=epilog("dpbeam budget export ledger.export --to 'postgresql://me@db.example.org/dpbeam'", codes=(0, 2, 3)),
)
def budget_export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; holds the ledger's secret.")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The ledger that it becomes; none is there yet.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Close a ledger for good, and write all of it into a file that another place takes."""
    from dpbeam.ledger import open_ledger
    from dpbeam.ledger.moving import export_from
    from dpbeam.ledger.stores import place_of
    from dpbeam.pipelines.cli import moved_files

    moved_files.check_free(file)
    made = export_from(open_ledger(ledger).store, here=place_of(ledger), to=place_of(to))
    moved_files.write(file, made)
    remark(f"Nothing is charged at {ledger} any more. Go on with: dpbeam budget import {file} --ledger URL")


@budget_app.command(
    "import",
    epilog=epilog(
        "dpbeam budget import ledger.export --ledger 'postgresql://me@db.example.org/dpbeam'", codes=(0, 2, 3)
    ),
)
def budget_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `dpbeam budget export` wrote.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Make a ledger of an export, once, at the place that it was written for, and go on there."""
    from dpbeam.ledger.moving import check_import, import_into
    from dpbeam.ledger.stores import open_store, place_of
    from dpbeam.pipelines.cli import moved_files

    made = moved_files.read(file)
    check_import(made, place_of(ledger))
    with working("Storing and verifying the journal"):
        count = import_into(open_store(ledger, create=True, reading=False, secret=made.secret), made)
    remark(f"The ledger goes on at {made.to}: {count} entries, verified. Remove {file}: it holds the ledger's secret.")
