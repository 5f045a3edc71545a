"""The arguments and flags that several commands take, as typer's annotations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.printing import speak

DEFAULT_LEDGER = "sqlite:///dpbeam-ledger.sqlite"
LEDGER_VARIABLE = "DPBEAM_LEDGER"

PolicyPath = Annotated[Path, typer.Argument(metavar="POLICY", help="The policy file, YAML.")]


def _ledger_named(value: str) -> str:
    if value == DEFAULT_LEDGER and os.environ.get(LEDGER_VARIABLE, value).strip() == "":
        raise UsageError(
            f"{LEDGER_VARIABLE} must not be empty; name the ledger (sqlite:///PATH or postgresql://…), or unset it"
        )
    return value


LedgerUrl = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar=LEDGER_VARIABLE,
        callback=_ledger_named,
        help="The ledger: sqlite:///PATH or postgresql://USER@HOST/DATABASE.",
        show_default=True,
    ),
]


def _speak_verbosely(value: bool) -> None:
    if value:
        speak("verbose")


def _speak_quietly(value: bool) -> None:
    if value:
        speak("quiet")


Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", callback=_speak_verbosely, help="Say more, on stderr."),
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", callback=_speak_quietly, help="Say nothing but what was asked for, and errors."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, as policies give it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be charged, or what is cached; charge and write nothing.")
]
Period = Annotated[
    str | None,
    typer.Option("--period", help="What the release is about, such as 2026-W48; stands in --release NAME-{period}."),
]
