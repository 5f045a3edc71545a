"""`dpbeam releases`: what was released, as a table or JSON."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpbeam.errors import LedgerError, UsageError
from dpbeam.pipelines.cli.arguments import DEFAULT_LEDGER, AsJson, LedgerUrl, Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, line, note, remark, say_json

if TYPE_CHECKING:
    from rich.table import Table

    from dpbeam.ledger import Ledger
    from dpbeam.pipelines.lifecycle.catalogue import Listed

RELEASES = epilog("dpbeam releases", "dpbeam releases visits --html", "dpbeam releases visits --output releases --json")


def releases(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset; default: all.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Where the releases lie.")] = Path("releases"),
    ledger: LedgerUrl = DEFAULT_LEDGER,
    html: Annotated[
        bool, typer.Option("--html", help="Also write <output>/<dataset>/index.html anew, as each run does.")
    ] = False,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """List releases, and whether the ledger knows them. --html also writes a page, with the budget over time."""
    from dpbeam.ledger import open_ledger
    from dpbeam.pipelines.lifecycle import catalogue

    try:
        known = open_ledger(ledger, reading=True)
    except LedgerError as error:
        if html:  # a page lists nothing that no ledger confirms
            raise
        known = None
        note(*error.lines, "The manifests below are unchecked.")
    listed, pages = catalogue.releases(output, known, dataset), list[Path]()
    if html and known is not None:
        pages = _write_pages(known, output, sorted({each.dataset for each in listed}))
    if as_json:
        say_json(catalogue.releases_json(listed))
    elif listed:
        console().print(_table(listed))
        for page in pages:
            remark(f"Page: {page}")
    else:
        remark(f"No releases{'' if dataset is None else ' of this dataset'} in {output}.")


def _write_pages(known: Ledger, output: Path, datasets: Sequence[str]) -> list[Path]:
    """Writes the page of each dataset that has a release which the ledger confirms. Returns where they are.

    Raises:
        UsageError: a page that isn't ours lies there, or it can't be written.
    """
    from dpbeam.pipelines.lifecycle import index

    written = []
    for dataset in datasets:
        page, draft = (output / dataset / name for name in (index.INDEX_NAME, f".index-{secrets.token_hex(8)}"))
        try:
            is_written = index.write_index(known, dataset, page.parent, draft)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UsageError(f"the page over all releases, {page}, can't be written: {reason}") from None
        finally:
            draft.unlink(missing_ok=True)
        if is_written:
            written.append(page)
    return written


def _table(listed: list[Listed]) -> Table:
    from rich.table import Table

    table = Table(title="Releases", title_justify="left")
    for heading in ("dataset", "release", "name", "period", "ε", "δ", "manifest"):
        # On one line, so that an id can be copied; a name may be long.
        table.add_column(heading, overflow="fold", no_wrap=heading != "name")
    for each in listed:
        told = each.manifest
        cells = ["–"] * 4
        if told is not None:
            cells = [told.release_name, told.period or "–", f"{told.guarantee.epsilon:g}", f"{told.guarantee.delta:g}"]
        table.add_row(*map(line, (each.dataset, each.release_id, *cells, each.standing)))
    return table
