"""What all formats share: the value that says which part of a file to read, its limits, and how errors are replaced.

Nothing that a parser says about a value leaves this package: parsers' errors quote the row they fail on, so each is
replaced by one that names the file and the rule, outside its `except` block, with no context attached.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from dpbeam.errors import RunFailed

BATCH_ROWS = 1 << 17
BATCH_BYTES = 64 << 20
BLOCK_BYTES = 8 << 20
"""How much of a text file is parsed at a time; the longest row may need `MAX_BLOCK_BYTES`."""
MAX_BLOCK_BYTES = 64 << 20
RANGE_BYTES = 64 << 20
"""How much of a big text file is one split, where it can be split."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What a local file looked like when it was listed: its size, its time of change in nanoseconds, and its inode on
    the file system that the machine `host` sees."""

    size: int
    changed: int
    inode: int
    host: str


@dataclass(frozen=True)
class Split:
    """A part of one file: all of it, one Parquet row group, or the lines that begin in bytes [`start`, `end`).

    `size` is about how many bytes it takes to read; it says nothing of what is in them. `stamp` tells the file that
    was listed from another that has its name meanwhile.
    """

    path: str
    row_group: int | None = None
    start: int = 0
    end: int | None = None
    size: int = field(default=0, compare=False)
    stamp: Stamp | None = field(default=None, compare=False)
    as_hex: tuple[bool | None, ...] = field(default=(), compare=False)
    """Of each column, whether its text is hex digits of bytes (`fields.as_hex`); empty of formats of text."""


def is_local(path: str) -> bool:
    """Whether a path is of this machine's file system, not of a store with a scheme."""
    return "://" not in path


def shown(path: str) -> str:
    """The path as errors show it: of a folder `name=value` the value is left out, for it is a value of rows."""
    return re.sub(r"([^/\\=]+)=[^/\\]*(?=[/\\])", r"\1=…", path)


def attempt(step: Callable[[], Any], *, passing: type[Exception] | tuple[()] = ()) -> Any:
    """What `step` returns, or None if it raises: the error, which may quote data, is dropped here. Errors of ours that
    are `passing` go on."""
    try:
        return step()
    except passing:
        raise
    except Exception:
        return None


def still(check: Callable[[], Any], path: str) -> Any:
    """What `check` returns; what it refuses now it accepted before the run, so the file is another."""
    result = attempt(check)
    if result is not None:
        return result
    raise changed(path)


def changed(path: str) -> RunFailed:
    """The error for a file that isn't the one that was listed and checked."""
    return RunFailed(
        f"{path} has changed since it was checked at the start of the run. Run again when it is settled; a file that "
        "was written anew is another input, and is charged anew."
    )


def damaged(path: str) -> RunFailed:
    """The error for a file that turns out damaged while it is read."""
    return RunFailed(f"{path} could not be read to its end: a part of it is damaged or missing. Write the file again.")


def too_long(path: str, format: str) -> RunFailed:
    """The error for a text file with a row beyond `MAX_BLOCK_BYTES`."""
    remedy = "Is a quote left open? Correct" if format == "csv" else "Leave what is so long out of"
    return RunFailed(
        f"{path} has a row longer than {MAX_BLOCK_BYTES >> 20} MiB, the most that a row of {format} may have. {remedy} "
        "the file, or write it as Parquet."
    )


class Lent(io.RawIOBase):
    """A file lent to pyarrow, which may close this one and not the one beneath.

    pyarrow reads ahead on a thread of its own, also after it has failed: `take_back` ends that before the file beneath
    is read again.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._beneath: IO[bytes] | None = file
        self._lock = threading.Lock()

    def read(self, size: int = -1, /) -> bytes:
        with self._lock:
            if self._beneath is None:
                return b""
            return self._beneath.read(size)

    def readable(self) -> bool:
        return True

    def take_back(self) -> None:
        with self._lock:
            self._beneath = None
