"""Bytes in, the same as text that is always valid UTF-8 out, and back: for a parser that reads every row it can't use.

pyarrow shows a CSV row of the wrong width to a handler as text. Where the row isn't UTF-8 it can't: the handler is
never asked, and the interpreter prints a byte of the row. So such input is read as Latin-1: each byte is a character,
an ASCII one itself, another two bytes long. Delimiters, quotes and line ends are ASCII.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.mechanisms.sources.base import Lent

BOM = b"\xef\xbb\xbf"


class OnWrongWidth:
    """Is called with each row of the wrong width, and answers `skip` or `error`; notes that there was one."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.called = False

    def __call__(self, _row: object) -> str:
        self.called = True
        return self._answer


def widen(data: bytes) -> bytes:
    """The bytes as Latin-1 text, in UTF-8."""
    return data if data.isascii() else data.decode("latin-1").encode("utf-8")


def widened_name(name: str) -> str:
    """What the name of a column in UTF-8 becomes."""
    return name.encode("utf-8").decode("latin-1")


def narrowed(column: pa.Array) -> pa.Array:
    """A binary column as its values were before `widen`."""
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    data = column.buffers()[2]
    if not len(column) or data is None:
        return column
    first, last = int(offsets[0]), int(offsets[-1])
    wide = data.slice(first, last - first).to_pybytes()
    if wide.isascii():
        return column
    leads = (np.frombuffer(wide, dtype=np.uint8) & 0xFE) == 0xC2  # of characters of two bytes
    before = np.concatenate(([0], np.cumsum(leads)))
    at = (offsets - first) - before[offsets - first]
    narrow = pa.py_buffer(wide.decode("utf-8").encode("latin-1"))
    values = pa.Array.from_buffers(pa.binary(), len(column), [None, pa.py_buffer(at.astype(np.int32)), narrow])
    return pc.if_else(column.is_valid(), values, pa.scalar(None, pa.binary()))


class WidenedLent(Lent):
    """A file lent to pyarrow, widened. A byte order mark at its start is left out, since it would be text then."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, end_line=True)
        self._held = b""
        self._begun = False

    def read(self, size: int = -1, /) -> bytes:
        if not self._held:
            data = super().read(size)
            while not self._begun and data and len(data) < len(BOM):
                more = super().read(size)
                data += more
                self._begun = not more
            self._held = widen(data if self._begun else data.removeprefix(BOM))
            self._begun = True
        given, self._held = (self._held, b"") if size < 0 else (self._held[:size], self._held[size:])
        return given


def _hook(before: Callable[[Any], object], found: Any) -> None:
    """Keeps to itself what fails before a handler of ours is called; all else is passed on."""
    if not isinstance(found.object, OnWrongWidth):
        before(found)


def contain() -> None:
    """Makes this process print nothing of a row that pyarrow can't show to an `OnWrongWidth`. Safe to call again.

    Guarantee: the interpreter reports an error that nobody can catch to `sys.unraisablehook`, with its text, in which
    a byte of the row stands; of our handlers' it goes no further.
    """
    before = sys.unraisablehook
    if getattr(before, "contains_rows", False):
        return

    def hook(found: Any, /) -> None:
        _hook(before, found)

    hook.contains_rows = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook
