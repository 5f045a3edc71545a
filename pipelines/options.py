"""Beam's options: the flags a user gave go in; pipeline options that are safe to run with, or a refusal, come out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from dpbeam.errors import UsageError

LOCAL_RUNNERS = {None, "DirectRunner", "SwitchingDirectRunner", "direct"}


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """The options that `flags` state, for the runner they name (a local one if none).

    Beam's `DirectRunner` first looks for another runner's binary and may download it; a local run here means Beam's
    in-process runner and nothing else.

    Raises:
        UsageError: a flag Beam doesn't know, or the running mode that was caught losing data.
    """
    unknown = [flag for flag in _unknown(flags) if flag.startswith("-")] or _unknown(flags)
    if unknown:
        raise UsageError(
            f"neither dpbeam nor Beam knows {', '.join(unknown)}; see `dpbeam run --help` and Beam's "
            "documentation of the runner"
        )
    options = PipelineOptions(list(flags))
    if options.view_as(DirectOptions).direct_running_mode == "multi_threading":
        raise UsageError(
            "--direct_running_mode=multi_threading is refused: Beam's local runner silently loses data in this mode. "
            "Use in_memory (the default) or multi_processing."
        )
    if options.view_as(StandardOptions).runner in LOCAL_RUNNERS:
        options.view_as(StandardOptions).runner = "FnApiRunner"
    return options


def _unknown(flags: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in _all_subclasses(PipelineOptions):
        options._add_argparse_args(parser)  # the hook by which Beam documents that options are declared
    try:
        return parser.parse_known_args(list(flags))[1]
    except SystemExit:
        raise UsageError("Beam can't read one of the flags; it says above which") from None


def _all_subclasses(parent: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    return [c for child in parent.__subclasses__() for c in (child, *_all_subclasses(child))]
