"""The command line: each command does its work and ends with a documented exit code.

Exit codes: 0 done · 2 the command, policy or input can't be used · 3 the budget, the ledger or a guard refuses ·
4 the run failed, or a release doesn't verify · 129, 130, 143 stopped by SIGHUP, SIGINT (Ctrl-C) or SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from dpbeam._version import __version__
from dpbeam.errors import DpbeamError, InternalError, Interrupted, UsageError
from dpbeam.ledger import waiting
from dpbeam.pipelines.cli import check, choose, looking, rehearse, releases, running, streams, tune
from dpbeam.pipelines.cli.budgets import budget_app
from dpbeam.pipelines.cli.commands import AFTER, BEFORE, RUN, SETTINGS, Group, epilog
from dpbeam.pipelines.cli.ending import Ending
from dpbeam.pipelines.cli.printing import complain, say, say_json, speak
from dpbeam.pipelines.lifecycle import stopping

app = typer.Typer(
    name="dpbeam",
    cls=Group,
    help="Differentially private releases from Apache Beam, under a privacy budget that holds.",
    epilog=epilog(
        "dpbeam init people.parquet --output policy.yaml",
        "dpbeam plan policy.yaml",
        "dpbeam budget create policy.yaml",
        "dpbeam run policy.yaml",
    ),
    context_settings=SETTINGS,
    no_args_is_help=True,
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


_beams = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(rich_help_panel=BEFORE, epilog=looking.INIT)(looking.init)
app.command(rich_help_panel=BEFORE, epilog=choose.CHOOSE)(choose.choose)
app.command(rich_help_panel=BEFORE, epilog=looking.PLAN)(looking.plan)
app.command(rich_help_panel=BEFORE, epilog=check.CHECK)(check.check)
app.command(rich_help_panel=BEFORE, epilog=rehearse.REHEARSE)(rehearse.rehearse)
app.command(rich_help_panel=BEFORE, epilog=tune.TUNE)(tune.tune)
app.add_typer(budget_app, name="budget", rich_help_panel=BEFORE)
app.command(rich_help_panel=RUN, epilog=running.RUN, context_settings=_beams)(running.run)
app.command(rich_help_panel=RUN, epilog=running.RECOVER)(running.recover)
app.command(rich_help_panel=AFTER, epilog=looking.CERTIFY)(looking.certify)
app.command(rich_help_panel=AFTER, epilog=releases.RELEASES)(releases.releases)


def invoke(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code. Errors are said on stderr, without any text of a library's; with --json
    they are an object on stdout."""
    speak("normal")
    with streams.unfailing() as terminal, stopping.listening(), waiting.listening(complain):
        error = _invoke(arguments)
        if error is not None and "--json" in arguments:
            say_json({"version": 1, "error": error.to_json()})
        elif error is not None:
            complain(*error.lines)
            return error.exit_code
        terminal.flush()
        if terminal.lost is None or (arguments[:1] == ["run"] and error is None):  # which has said so
            return 0 if error is None else error.exit_code
        complain(f"standard output can't be written ({terminal.lost})")
        if error is not None:
            complain(*error.lines)
            return error.exit_code
        return 4 if streams.only_shows(arguments) else 0


def _invoke(arguments: Sequence[str]) -> DpbeamError | None:
    """Runs one command; returns what it failed with."""
    try:
        streams.refuse_empty(arguments)
        typer.main.get_command(app)(args=list(arguments), prog_name="dpbeam", standalone_mode=False)
        return None
    except DpbeamError as error:
        return error
    except typer.Exit as ending:
        return None if ending.exit_code == 0 else Interrupted("stopped", ending.exit_code)
    except stopping.Stopped as stopped:
        return Interrupted(f"{stopped}; `dpbeam recover` settles what was begun", stopped.exit_code)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # what isn't an Exception has a text too
        if hasattr(error, "format_message"):  # a usage error of the command line itself
            return UsageError(*streams.usage_lines(error))
        return InternalError.of(error)


def main() -> NoReturn:
    """The `dpbeam` command."""
    ending = Ending()
    streams.settle()
    sys.exit(ending.by(invoke(sys.argv[1:])))
