"""Where raw figures may go: a terminal, a screen that is named as one, or a new file of mode 0600.

Guarantee: what ends a command that shows them is exit code 0 or 2, whatever the figures are; and what libraries say
meanwhile, in Python or below it, reaches no stream.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from dpbeam.errors import DpbeamError, Interrupted, UsageError
from dpbeam.pipelines.cli.capture import silenced
from dpbeam.pipelines.cli.printing import is_terminal, lost, say
from dpbeam.pipelines.lifecycle import stopping

if TYPE_CHECKING:
    from dpbeam.policy.schema.policy import Policy


@contextmanager
def two_endings(what: str) -> Iterator[None]:
    """What goes wrong ends with exit code 2: a code that depends on what is in the data would tell of it wherever exit
    codes go. A signal ends the command as it ends any other. What others write to the streams goes nowhere."""
    try:
        with silenced():
            yield
    except (UsageError, Interrupted, *stopping.ENDS):
        raise
    except DpbeamError as error:
        failed = UsageError(*error.lines)
    except BaseException as error:  # a panic of a library in Rust is no Exception
        failed = UsageError(f"the {what} broke off (internal error {type(error).__name__}); please report it")
    else:
        return
    raise failed


def refuse_unseen(of: str, output_file: Path | None, *, show: bool) -> None:
    """Raises UsageError where figures `of` something would go to neither a file, nor a terminal, nor a screen that is
    named as one."""
    if output_file is None and not show and not is_terminal():
        raise UsageError(
            f"the figures of {of} are raw, and this is no terminal but a pipe, a file or a log, which may travel: "
            "name a file for them with --output-file, or say --show if whoever reads this may see the data"
        )


def show_raw(figures: Sequence[str]) -> None:
    """Prints figures. Raises UsageError where they couldn't all be written."""
    say(*figures)
    trouble = lost()
    if trouble is not None:
        raise UsageError(f"the figures can't be shown here ({trouble}); name a file for them with --output-file")


def refuse_inside(path: Path, policy: Policy, *, flag: str = "--output-file") -> None:
    """Raises UsageError where the file would travel with releases, or be read as data."""
    place = Path(os.path.realpath(path))
    for name, folder in (("output.path", policy.output.path), *(("source.path", each) for each in policy.source.path)):
        if "://" in folder:
            continue
        real = Path(os.path.realpath(folder))
        if real in place.parents or (name == "source.path" and fnmatch(str(place), str(real))):
            raise UsageError(f"{flag} {path} lies inside {name}: name one elsewhere, for its figures are raw")


@contextmanager
def private_file(path: Path, *, flag: str = "--output-file") -> Iterator[int]:
    """A new file that only its owner may read, open for writing; it is removed if what writes it fails.

    Raises:
        UsageError: it is there already, can't be made, or its file system lets others read it.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already; name another file with {flag}") from None
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
