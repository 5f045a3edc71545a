"""Any bytes as text that pyarrow's CSV parser takes row by row, and back.

Three things make that parser let one row change another. Each is kept from it here, whichever of its versions it is:

- A row of the wrong width is shown to a handler as text. Where it isn't UTF-8 it can't be: the handler is never asked,
  and the interpreter prints a byte of the row.
- A NUL byte hides the delimiters, quotes and line ends among the eight bytes around it (apache/arrow #50481, mended by
  #50483 after 25.0), so that later rows become a part of its field.
- A line feed at the start of a piece is left out if the piece before ended on a carriage return, also within quotes
  (apache/arrow #51368, open).

Against the first two the input is *widened*: read as Latin-1, so that each byte is a character, an ASCII one itself,
another two bytes long, NUL the first character beyond Latin-1. Delimiters, quotes and line ends are ASCII and stay.
Against the third no piece ends on a carriage return.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.reading.formats.base import Lent

BOM = b"\xef\xbb\xbf"
_NUL = "\u0100".encode()
"""What a NUL is widened to."""


class HoldsNul(Exception):
    """A text that isn't widened holds a NUL byte."""


class OnWrongWidth:
    """Is called with each row of the wrong width, and answers `skip` or `error`; notes that there was one."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.called = False

    def __call__(self, _row: object) -> str:
        self.called = True
        return self._answer


def widen(data: bytes) -> bytes:
    """The bytes as Latin-1 text, in UTF-8, without NUL.

    Guarantee: different bytes become different texts, and `narrowed` gives them back.
    """
    if data.isascii():
        return data.replace(b"\0", _NUL)
    return data.decode("latin-1").encode("utf-8").replace(b"\0", _NUL)


def widened_name(name: str) -> str:
    """What the name of a column in UTF-8 becomes."""
    return widen(name.encode("utf-8")).decode("utf-8")


def narrowed_name(name: str) -> str:
    """The name of a column as it was before `widened_name`.

    Raises:
        UnicodeDecodeError: it isn't UTF-8.
    """
    return _narrow(name.encode("utf-8")).decode("utf-8")


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
    octets = np.frombuffer(wide, dtype=np.uint8)
    leads = ((octets & 0xFE) == 0xC2) | (octets == _NUL[0])  # of characters of two bytes
    before = np.concatenate(([0], np.cumsum(leads)))
    at = (offsets - first) - before[offsets - first]
    narrow = pa.py_buffer(_narrow(wide))
    values = pa.Array.from_buffers(pa.binary(), len(column), [None, pa.py_buffer(at.astype(np.int32)), narrow])
    return pc.if_else(column.is_valid(), values, pa.scalar(None, pa.binary()))


def _narrow(wide: bytes) -> bytes:
    return wide.replace(_NUL, b"\0").decode("utf-8").encode("latin-1")


class LentText(Lent):
    """A CSV text lent to pyarrow's parser, `wide` or as it is; a last line without a line break gets one, for pyarrow
    reads an empty field at the very end of a text as if it had the quotes of the field before.

    Guarantee: where the stream beneath gives short reads, as at a member of a compressed file, can't be told from what
    is given: each piece but the last has the size asked for, or one byte less and then the next starts with a carriage
    return. So no line feed starts a piece after a carriage return that ended one.

    Raises:
        HoldsNul: on reading, if it isn't `wide`.
    """

    def __init__(self, file: IO[bytes], *, wide: bool) -> None:
        super().__init__(file)
        self._wide = wide
        self._held = b""
        self._begun = self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        pieces, have = [self._held] if self._held else [], len(self._held)
        while (size < 0 or have < size) and (part := self._next(-1 if size < 0 else size - have)):
            pieces.append(part)
            have += len(part)
        data = b"".join(pieces) if len(pieces) != 1 else pieces[0]
        end = len(data) if size < 0 else size
        if have >= end > 1 and data[end - 1] == 13:
            end -= 1
        given, self._held = data[:end], data[end:]
        return given

    def _next(self, size: int) -> bytes:
        """Some more of the text; none at its end."""
        data = super().read(size)
        while data and not self._begun and len(data) <= len(BOM) and (more := super().read(size)):
            data += more
        if not data and not self._ended:
            self._ended = True
            return b"\n"
        if self._wide:
            # It would be text then; pyarrow itself takes it off of a text that isn't widened.
            data = widen(data if self._begun else data.removeprefix(BOM))
        elif b"\0" in data:
            raise HoldsNul
        self._begun = True
        return data


def _hook(before: Callable[[Any], object], unraisable: Any) -> None:
    """Keeps to itself what fails before a handler of ours is called; all else is passed on."""
    if not isinstance(unraisable.object, OnWrongWidth):
        before(unraisable)


def contain() -> None:
    """Makes this process print nothing of a row that pyarrow can't show to an `OnWrongWidth`. Safe to call again.

    Guarantee: the interpreter reports an error that nobody can catch to `sys.unraisablehook`, with its text, in which
    a byte of the row stands; of our handlers' it goes no further.
    """
    before = sys.unraisablehook
    if getattr(before, "contains_rows", False):
        return

    def hook(unraisable: Any, /) -> None:
        _hook(before, unraisable)

    hook.contains_rows = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook
