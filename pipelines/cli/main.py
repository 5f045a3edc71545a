"""The command line: words come in; each command does its work and ends with a documented exit code.

Exit codes: 0 done · 2 the command, policy or input can't be used · 3 the budget, the ledger or a guard refuses ·
4 the run failed, or a release doesn't verify · 129, 130, 143 stopped by SIGHUP, SIGINT (Ctrl-C) or SIGTERM.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dpbeam._version import __version__
from dpbeam.errors import DpbeamError
from dpbeam.ledger import waiting
from dpbeam.pipelines.cli import looking, running, streams
from dpbeam.pipelines.cli.budgets import budget_app
from dpbeam.pipelines.cli.ending import Ending
from dpbeam.pipelines.cli.printing import complain, say
from dpbeam.pipelines.lifecycle import stopping

app = typer.Typer(
    name="dpbeam",
    help="Differentially private releases from Apache Beam, under a privacy budget that holds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(running.run)
app.command()(looking.plan)
app.command()(looking.init)
app.command()(looking.certify)
app.command()(running.recover)
app.add_typer(budget_app, name="budget")


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
    ending = Ending()
    streams.settle()
    sys.exit(ending.by(invoke(sys.argv[1:])))
