"""`dpbeam releases`: what was released, as a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpbeam.errors import LedgerError
from dpbeam.pipelines.cli.arguments import DEFAULT_LEDGER, AsJson, LedgerUrl, Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, line, note, remark, say_json

if TYPE_CHECKING:
    from rich.table import Table

    from dpbeam.pipelines.library.catalogue import Listed

RELEASES = epilog("dpbeam releases", "dpbeam releases visits --output releases --json")


def releases(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; default: all.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Where the releases lie.")] = Path("releases"),
    ledger: LedgerUrl = DEFAULT_LEDGER,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """List releases, with what the ledger says of their manifests."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.library import catalogue

    try:
        known = open_ledger(ledger, reading=True)
    except LedgerError as error:
        known = None
        note(*error.lines, "The manifests below are unchecked.")
    listed = catalogue.releases(output, known, dataset)
    if as_json:
        say_json(catalogue.releases_json(listed))
    elif listed:
        console().print(_table(listed))
    else:
        remark(f"No releases{'' if dataset is None else f' of {dataset}'} in {output}.")


def _table(listed: list[Listed]) -> Table:
    from rich.table import Table

    table = Table(title="Releases", title_justify="left")
    for heading in ("dataset", "release", "name", "period", "ε", "δ", "manifest"):
        table.add_column(heading, overflow="fold")
    for each in listed:
        told = each.manifest
        cells = ["–"] * 4
        if told is not None:
            cells = [told.release_name, told.period or "–", f"{told.guarantee.epsilon:g}", f"{told.guarantee.delta:g}"]
        table.add_row(*map(line, (each.dataset, each.release_id, *cells, each.standing)))
    return table
