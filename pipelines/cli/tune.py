"""`dpbeam tune` on the command line.

Guarantee: makes no release and charges nothing. Its figures go where those of a check may go, and nowhere else: to a
terminal, to a screen that `--show` names as one, or to a new file of mode 0600. So is the policy's file, which holds
values that follow the data, and no figure of them. The policy's own source is refused as data: a choice made on what is
to be released would be a release that nobody paid for. (A copy of it under another name can't be told.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.arguments import DEFAULT_LEDGER, DryRun, LedgerUrl, PolicyPath, Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, say
from dpbeam.pipelines.cli.raw_figures import private_file, refuse_inside, refuse_unseen, show_raw, two_endings
from dpbeam.pipelines.cli.tuned_policy import check_beside, write_policy

if TYPE_CHECKING:
    from dpbeam.pipelines.tuning.search import Tuned

TUNE = epilog(
    "dpbeam tune policy.yaml --data last_year.parquet",
    "dpbeam tune policy.yaml --data last_year.parquet --write tuned.yaml",
    "dpbeam tune policy.yaml --private --epsilon 0.1 --write tuned.yaml",
)


def tune(
    policy_path: PolicyPath,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="File or pattern of public, made-up or older data, with the source's columns."),
    ] = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Tune on the policy's own data, by noisy figures that its budget pays for."),
    ] = False,
    epsilon: Annotated[float | None, typer.Option("--epsilon", help="What --private spends; never a default.")] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="What --private spends beside it; default: the policy's run.delta.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    release: Annotated[
        str | None, typer.Option("--release", help="The name of the release that --private makes; default: tuning.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="Where that release goes, in place of the policy's output.path.")
    ] = None,
    dry_run: DryRun = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="A new file beside POLICY for the policy that is recommended.")
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output-file", help="A new file for the figures, which only you may read; .html for a page."),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print the figures though this is no terminal, for readers who may see the data."),
    ] = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Find bounds, strategy, noise and weights with less error, on other data: raw figures, for your eyes."""
    if private:
        if data or output_file is not None or show:
            raise UsageError(
                "--private reads the policy's own source and shows nothing raw, so it takes none of --data, "
                "--output-file and --show"
            )
        if epsilon is None:
            raise UsageError("--private spends budget: say how much with --epsilon, such as a tenth of a run's")
        from dpbeam.pipelines.cli.tune_private import Asked, tune_privately

        asked = Asked(policy_path=policy_path, epsilon=epsilon, delta=delta, ledger=ledger, output=output, write=write)
        tune_privately(asked, release="tuning" if release is None else release, dry_run=dry_run)
        return
    if epsilon is not None or delta is not None or release is not None or output is not None or dry_run:
        raise UsageError("--epsilon, --delta, --release, --output and --dry-run are for tuning with --private")
    if not data:
        raise UsageError(
            "name public, made-up or older data with --data; or tune --private on the policy's own, which costs budget"
        )
    refuse_unseen("tuning", output_file, show=show)
    with two_endings("tuning"):
        from dpbeam.pipelines.cli.tune_text import lines, page
        from dpbeam.policy.load import load_policy

        policy = load_policy(policy_path, source=data)
        _refuse_own(policy_path, data)
        for path, flag in ((write, "--write"), (output_file, "--output-file")):
            if path is not None:
                refuse_inside(path, policy, flag=flag)
        if write is not None:
            check_beside(write, policy_path)
        found = _tuned(policy_path, data)
        if output_file is None:
            show_raw(lines(found))
        else:
            is_page = output_file.suffix in (".html", ".htm")
            with private_file(output_file) as number, os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(page(found) if is_page else "\n".join(lines(found)) + "\n")
            say(f"Wrote {output_file}: raw figures, which only you may read. Delete it when you are done.")
        if write is not None:
            _write(found, policy_path, write, data)
            say(f"Wrote {write}: it follows the data. Read what changed, then `dpbeam plan {write}`.")


def _tuned(policy_path: Path, data: Sequence[str]) -> Tuned:
    from dpbeam.pipelines.tuning.expected_error import Judge
    from dpbeam.pipelines.tuning.knobs import check_stated, check_tunable, clips, knobs
    from dpbeam.pipelines.tuning.search import tune as search
    from dpbeam.pipelines.tuning.search import untuned
    from dpbeam.pipelines.tuning.summaries import summarise
    from dpbeam.policy.compile import query as compile_query
    from dpbeam.policy.load import load_policy

    policy = load_policy(policy_path, source=data)
    check_tunable(policy)
    query = compile_query(policy)
    check_stated(query)
    with console(stderr=True).status("Tuning") as status:
        summaries = summarise(query, clips(query), lambda done, of: status.update(f"Reading: {100 * done // of} % …"))
        status.update("Trying candidates …")
        whole = [summary for summary in summaries if summary is not None]
        if len(whole) < len(summaries):
            # No error: an exit code that depends on what is in the data would tell of it.
            missing = [stage.name for stage, each in zip(query.stages, summaries, strict=True) if each is None]
            return untuned(query, missing)
        return search(query, knobs(query, whole), Judge(summaries=whole))


def _refuse_own(policy_path: Path, data: Sequence[str]) -> None:
    """Refuses to tune on what the policy would release.

    Raises:
        UsageError: a file of the data is one of the policy's source.
    """
    from dpbeam.pipelines.lifecycle.listing import files_of
    from dpbeam.policy.load import load_policy

    own = set()
    for path in load_policy(policy_path).source.path:
        with suppress(UsageError):  # a source that isn't there yet
            own |= {_same(file.path) for file in files_of(path)}
    for path in data:
        for file in files_of(path):
            if _same(file.path) in own:
                raise UsageError(
                    f"--data {path} is what the policy would release: bounds that follow it would tell of it, and no "
                    "budget counts that. Tune on public, made-up or older data; or let the run find its bounds, which "
                    "it pays for (bounds: {l0: {auto: …}}, docs/policy.md)"
                )


def _same(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def _write(found: Tuned, policy_path: Path, write: Path, data: Sequence[str]) -> None:
    from dpbeam.pipelines.tuning.reasons import changes
    from dpbeam.pipelines.tuning.rewriting import HEAD

    asked = [change for sweep in found.changes for change in changes(found.stated, sweep)]
    write_policy(policy_path, write, asked, found.chosen, source=data, head=HEAD)
