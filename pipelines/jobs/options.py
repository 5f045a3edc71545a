"""Beam's options as the user's flags state them, made safe to run with, or refused."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import create_runner

from dpbeam.errors import UsageError
from dpbeam.pipelines.jobs import endpoints, runners
from dpbeam.policy.violations import closest

RUNNERS = ("FnApiRunner", "PortableRunner", "FlinkRunner", "SparkRunner", "PrismRunner", "DataflowRunner")
LOCAL_RUNNERS = {None, "directrunner", "switchingdirectrunner", "direct"}
"""In lower case: Beam takes a runner's name in any."""


def beam_options(flags: Sequence[str], own: Sequence[str] = ()) -> PipelineOptions:
    """The options that `flags` state, for the runner they name (a local one if none).

    Beam's `DirectRunner` first looks for another runner's binary and may download it; a local run here means Beam's
    in-process runner and nothing else. `own` are the command's own flags, one of which may have been meant.

    Raises:
        UsageError: a flag, a value or a runner that Beam doesn't know, or one that isn't set up, or is
            refused (`dpbeam.pipelines.jobs.runners`).
    """
    unknown, known = _unknown(flags)
    if unknown:
        unknown = [flag for flag in unknown if flag.startswith("-")] or unknown
        close = closest(unknown[0].partition("=")[0], [*own, *known])
        raise UsageError(
            f"neither dpbeam nor Beam knows {', '.join(unknown)}",
            remedy=f"see `dpbeam run --help` and Beam's documentation of the runner{close and f'.{close}'}",
        )
    options = PipelineOptions(list(flags))
    runner = options.view_as(StandardOptions).runner
    if (runner and runner.rsplit(".", maxsplit=1)[-1].lower()) in LOCAL_RUNNERS:
        options.view_as(StandardOptions).runner = "FnApiRunner"
    _check_runner(str(options.view_as(StandardOptions).runner))
    endpoints.check(options)
    runners.check(options, flags)
    return options


def settled(options: PipelineOptions | None) -> PipelineOptions:
    """The options; where none are stated, those of a run on this machine."""
    return beam_options(()) if options is None else options


def runs_here(options: PipelineOptions) -> bool:
    """Whether the runner's workers are this process."""
    return options.view_as(StandardOptions).runner in ("FnApiRunner", "BundleBasedDirectRunner")


def _check_runner(name: str) -> None:
    """Beam would look for the runner when the job starts, which is after the charge."""
    try:
        create_runner(name)
    except Exception as error:
        reason = f"{type(error).__name__}; is it the right name, and are its optional parts installed?"
        remedy = closest(name, RUNNERS).strip() or None
        raise UsageError(f"--runner={name}: Beam has no such runner here ({reason})", remedy=remedy) from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as every error of ours is said, without two pages of usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"Beam can't read a flag: {message}")


def _unknown(flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of the flags Beam doesn't know, and which it does."""
    parser = _Parser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    declared: Any = parser  # as Beam's own parser, which has a method more for options that a template fills in
    for options in _all_subclasses(PipelineOptions):
        options._add_argparse_args(declared)  # the hook by which Beam documents that options are declared
    known = [name for action in parser._actions for name in action.option_strings]
    return parser.parse_known_args(list(flags))[1], known


def _all_subclasses(parent: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    return [c for child in parent.__subclasses__() for c in (child, *_all_subclasses(child))]
