"""Streams that can't fail a command, and command lines without empty words.

What a command did is done before its screen: a full disk, a closed pipe or a dead terminal must not make a release that
is out look failed, and a step's progress must not end a run that is paid for.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from dpbeam.errors import UsageError


class Unfailing(io.TextIOBase):
    """Writes to `stream` as long as that takes it; from the first failure on, to nowhere. `lost` says why."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost: str | None = None

    @contextlib.contextmanager
    def elsewhere(self, number: int, copy: int) -> Iterator[None]:
        """Where this writes to the file `number`, it writes to its `copy` while this lasts."""
        stream = self._stream
        if stream is None or self._number() != number:
            yield
            return
        self.flush()
        lent = open(copy, "w", encoding=self.encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
        self._stream = lent
        try:
            yield
        finally:
            self.flush()
            self._stream = stream

    def _number(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return self.fileno()
        return None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._stream is None:
            self.lost = "it is closed"
        elif self.lost is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.lost is None and self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        self.lost = getattr(error, "strerror", None) or "it is closed"
        # What its buffer still holds goes nowhere: else the interpreter would fail over it when it ends.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self.fileno())


_current: list[tuple[Unfailing, Unfailing]] = []


def current() -> tuple[Unfailing, Unfailing] | None:
    """The two streams of the command that is run; None where none is."""
    return _current[-1] if _current else None


@contextlib.contextmanager
def unfailing() -> Iterator[Unfailing]:
    """Makes `sys.stdout` and `sys.stderr` such streams while it lasts; gives the first."""
    before, own = (sys.stdout, sys.stderr), (Unfailing(sys.stdout), Unfailing(sys.stderr))
    _current.append(own)
    sys.stdout, sys.stderr = own
    try:
        yield own[0]
    finally:
        own[0].flush()
        own[1].flush()
        _current.remove(own)
        sys.stdout, sys.stderr = before


def only_shows(arguments: Sequence[str]) -> bool:
    """Whether a command has done nothing if its output is lost; the others have done their work before."""
    command = [*arguments, "", ""][: 2 if arguments[:1] == ["budget"] else 1][-1]
    written = any(argument.startswith(("--output", "-o")) for argument in arguments)
    return command in ("choose", "plan", "certify", "show", "history", "verify", "releases") or (
        command == "init" and not written
    )


def refuse_empty(arguments: Sequence[str]) -> None:
    """An empty word is a script's unset variable: it must not stand for the current folder, or for a default."""
    before = ""
    for argument in arguments:
        name, joined, value = argument.partition("=")
        if argument.strip() == "" or (name.startswith("--") and joined and value.strip() == ""):
            of = name if joined else before.partition("=")[0] if before.startswith("-") and "=" not in before else ""
            raise UsageError(f"{of or 'an argument'} must not be empty; give it a value, or leave it out")
        before = argument


def usage_lines(error: Any) -> list[str]:
    """What typer's error says: where no command was named a whole help text; else one line, for a line break in it was
    typed by somebody."""
    if type(error).__name__ == "NoSuchOption":
        close = f" Did you mean {error.possibilities[0]!r}?" if error.possibilities else ""
        return [f"No such option {error.option_name!r}.{close}"]
    said = str(error.format_message())
    match type(error).__name__:
        case "NoArgsIsHelpError":
            return ["a command is missing", "", *said.split("\n")]
        case "MissingParameter":
            return [f"{said} `{error.ctx.command_path} --help` says what it takes."]
    return [said]


def settle() -> None:
    """Prepares the streams of a program of its own."""
    _open_standard_files()
    # Beam notes optional parts that aren't installed, and its workers log; a command says what it has to say itself.
    logging.basicConfig(level=logging.CRITICAL)
    # A release is out before its table is shown: a terminal that lacks a character must not make it look failed.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_standard_files() -> None:
    """Opens those of the three standard files that are closed on nowhere: the next file opened, the ledger say, would
    else get the number of one, and what somebody writes to that number."""
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
