"""`dpbeam check` on the command line.

Guarantee: figures of the data go to a terminal, to a screen that `--show` names as one, or to a new file of mode 0600.
Nothing else is made of them: no log line, no JSON, no exit code but 0 and 2, whatever the figures are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpbeam.errors import UsageError
from dpbeam.pipelines.cli.arguments import Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, is_terminal, lost, say
from dpbeam.pipelines.cli.raw_figures import private_file, refuse_inside, two_endings

if TYPE_CHECKING:
    from dpbeam.policy.schema.policy import Policy


CHECK = epilog("dpbeam check policy.yaml", "dpbeam check policy.yaml --output-file figures.txt", codes=(0, 2, 130))


def check(
    policy_path: Annotated[Path, typer.Argument(metavar="POLICY", help="The policy file, YAML.")],
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Input file or pattern, in place of the policy's.")
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output-file", help="A new file for the figures, which only you may read.")
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print the figures though this is no terminal, for readers who may see the data."),
    ] = False,
    _verbose: Verbose = False,
    _quiet: Quiet = False,
) -> None:
    """Show what a release would lose: raw figures, for your eyes. Releases nothing, charges nothing."""
    if output_file is None and not show and not is_terminal():
        raise UsageError(
            "the figures of a check are raw, and this is no terminal but a pipe, a file or a log, which may travel: "
            "name a file for them with --output-file, or say --show if whoever reads this may see the data"
        )
    with two_endings("check"):
        from dpbeam.policy.load import load_policy

        policy = load_policy(policy_path, source=source)
        if output_file is None:
            _show(_examined(policy))
            return
        refuse_inside(output_file, policy)
        with (
            private_file(output_file) as number,
            os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write("\n".join(_examined(policy)) + "\n")
        say(f"Wrote {output_file}: raw figures, which only you may read. Delete it when you are done.")


def _examined(policy: Policy) -> Sequence[str]:
    from dpbeam.pipelines.checking.examine import examine
    from dpbeam.pipelines.cli.check_text import lines

    with console(stderr=True).status("Checking") as status:
        return lines(examine(policy, lambda done, of: status.update(f"Reading: {100 * done // of} % …")))


def _show(figures: Sequence[str]) -> None:
    say(*figures)
    trouble = lost()
    if trouble is not None:
        raise UsageError(f"the figures can't be shown here ({trouble}); name a file for them with --output-file")
