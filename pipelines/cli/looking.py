"""The commands that read no rows: `init` and `plan` before a run, `certify` after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpbeam.errors import LedgerError, UsageError
from dpbeam.pipelines.cli.arguments import DEFAULT_LEDGER, AsJson, LedgerUrl, PolicyPath, Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, note, remark, say, say_json, working

INIT = epilog(
    "dpbeam init people.parquet --output policy.yaml",
    "dpbeam init visits.csv --sample --output policy.yaml",
    "dpbeam init exports/ > policy.yaml",
    codes=(0, 2, 4, 130),
)
PLAN = epilog("dpbeam plan policy.yaml", "dpbeam plan policy.yaml --json", codes=(0, 2, 3, 4, 130))
CERTIFY = epilog("dpbeam certify releases/visits/*/manifest.json", codes=(0, 2, 4, 130))


def init(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A CSV, JSON Lines, Parquet, Avro or Arrow file, or a folder.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; default: the screen.")] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", help="Look at the first rows: how text is written, never a value, gets into the policy."
        ),
    ] = False,
    delimiter: Annotated[
        str | None,
        typer.Option("--delimiter", help="A CSV file's delimiter, `tab` for one; default: by its first line."),
    ] = None,
    header: Annotated[
        bool, typer.Option("--header", help="A CSV file's first line has column names, though it doesn't look so.")
    ] = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Write a commented first policy from a file's column names and types. Reads no values, unless told to."""
    with working("Looking at the file"):
        from dpbeam.pipelines.cli.init import Look, starter
        from dpbeam.pipelines.cli.sampling import ROWS

        look = Look(delimiter=_delimiter(delimiter), is_header=header, sample=sample)
        text = starter(data, folder=None if output is None else output.parent, look=look)
    if sample:
        note(
            f"--sample looked at values, of up to {ROWS:,} rows: the types in this policy depend on them. "
            "Confirm each before the policy goes to anybody."
        )
    if "\nprivacy_unit: row\n" in text:
        note(
            "no column sounds like a person's id, so the policy protects each row by itself. Where people have several "
            "rows, name the column that tells whose they are, at privacy_unit."
        )
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
    remark(f"Wrote {output}: read every line of it, then `dpbeam plan {output}`.")


def _delimiter(stated: str | None) -> str | None:
    mark = {"tab": "\t", "\\t": "\t"}.get(stated or "", stated)
    if mark is not None and not (len(mark) == 1 and mark.isascii() and mark not in '"\r\n\0'):
        raise UsageError(f"--delimiter must be one ASCII character, or tab, got {stated!r}")
    return mark


def plan(
    policy_path: PolicyPath,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 3 if the budget isn't enough for this plan.")
    ] = False,
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Show what a run would do and cost, without reading data."""
    with working("Planning and certifying", silent=as_json):
        from dpbeam.policy.load import load_policy

        policy = load_policy(policy_path)
        from dpbeam.ledger import open_ledger  # only now, and so the rest: an error in the policy needs none of it
        from dpbeam.pipelines.cli import strictness, terminal
        from dpbeam.pipelines.library.plans import plan as plan_of
        from dpbeam.policy.compile import warning

        asked = plan_of(policy)
    made = asked.plan
    unused = warning(asked.query)
    if unused is not None and not as_json:
        note(unused)
    balance = None
    unknown: LedgerError | None = None
    try:
        balance = open_ledger(ledger, reading=True).balance(policy.dataset)
    except LedgerError as error:
        unknown = error
        if not as_json:
            note(*error.lines)
    # With --json one object is all that may be printed, so a refusal stands in the plan's place.
    refusal = strictness.refusal(policy, made, asked.outlook, balance, unknown) if strict else None
    if refusal is not None and as_json:
        raise refusal
    if as_json:
        say_json(asked.to_json() | {"ledger": None if balance is None else {"left": balance.left.to_json()}})
    else:
        console().print(terminal.plan(made, balance, asked.outlook))
    if refusal is not None:
        raise refusal


def certify(
    releases: Annotated[
        list[Path], typer.Argument(metavar="RELEASE…", help="Releases: their folders, or their manifest.json.")
    ],
    as_json: AsJson = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Recompute releases' certificates from their manifests alone, and check their files' digests."""
    if as_json and len(releases) > 1:
        raise UsageError(f"--json takes one release at a time, got {len(releases)}")
    for release in releases:
        with working(f"Certifying {release}", silent=as_json):
            from dpbeam.reporting.certify import certify as check

            epsilon = check(release).epsilon
        if as_json:
            say_json({"version": 1, "certified": True, "epsilon": epsilon, "manifest": str(release)})
        else:
            remark(f"{release}: certified; its mechanisms compose to ε {epsilon:.6g}, and its files are whole.")
