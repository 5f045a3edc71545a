"""`dpbeam check` on the command line, and what commands say of a policy's unused columns before they go on.

Guarantee: figures of the data go to a terminal, to a screen that `--show` names as one, or to a new file of mode 0600.
Nothing else is made of them: no log line, no JSON, no exit code but 0 and 2, whatever the figures are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpbeam.errors import DpbeamError, Interrupted, UsageError
from dpbeam.pipelines.cli.arguments import Quiet, Verbose
from dpbeam.pipelines.cli.commands import epilog
from dpbeam.pipelines.cli.printing import console, is_terminal, lost, note, say
from dpbeam.pipelines.lifecycle import stopping

if TYPE_CHECKING:
    from dpbeam.policy.schema.policy import Policy
    from dpbeam.queries.query import Query


CHECK = epilog("dpbeam check policy.yaml", "dpbeam check policy.yaml --output-file figures.txt", codes=(0, 2, 130))


def say_unused(query: Query, *, silent: bool) -> None:
    """Says which columns a policy declares and never uses, unless one JSON object is all that may be printed."""
    from dpbeam.policy.compile import warning

    said = warning(query)
    if said is not None and not silent:
        note(said)


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
    with _two_endings():
        from dpbeam.policy.load import load_policy

        policy = load_policy(policy_path, source=source)
        if output_file is None:
            _show(_examined(policy))
            return
        _refuse_inside(output_file, policy)
        with (
            _private(output_file) as number,
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


@contextmanager
def _two_endings() -> Iterator[None]:
    """What goes wrong ends with exit code 2: a code that depends on what is in the data would tell of it wherever exit
    codes go. A signal ends the command as it ends any other."""
    try:
        yield
    except (UsageError, Interrupted, stopping.Stopped):
        raise
    except DpbeamError as error:
        failed = UsageError(*error.lines)
    except Exception as error:
        failed = UsageError(f"the check broke off (internal error {type(error).__name__}); please report it")
    else:
        return
    raise failed


def _refuse_inside(path: Path, policy: Policy) -> None:
    """Raises UsageError where the file would travel with releases, or be read as data."""
    place = Path(os.path.realpath(path))
    for name, folder in (("output.path", policy.output.path), *(("source.path", each) for each in policy.source.path)):
        if "://" in folder:
            continue
        real = Path(os.path.realpath(folder))
        if real in place.parents or (name == "source.path" and fnmatch(str(place), str(real))):
            raise UsageError(f"--output-file {path} lies inside {name}: name one elsewhere, for its figures are raw")


@contextmanager
def _private(path: Path) -> Iterator[int]:
    """A new file that only its owner may read, open for writing; it is removed if what writes it fails.

    Raises:
        UsageError: it is there already, can't be made, or its file system lets others read it.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already; name another file with --output-file") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror})") from None
    try:
        made = os.fstat(number)
        if stat.S_IMODE(made.st_mode) & 0o077 or made.st_uid != os.geteuid():
            raise UsageError(f"{path} lies on a file system that doesn't keep owners and modes; name a file elsewhere")
        yield number
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
