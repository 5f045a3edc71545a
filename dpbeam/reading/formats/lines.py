"""Blocks of whole lines of a range of a text file, and lines picked out of a block.

Where a line break always ends a row, a file can be cut anywhere: of a range's lines, those count that begin in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.array_types import Mask
from dpbeam.errors import RunFailed
from dpbeam.reading.formats import base
from dpbeam.reading.formats.compression import Plain


class TooLong(Exception):
    """A line is longer than `base.MAX_BLOCK_BYTES`."""


def ranges(first: int, size: int) -> list[tuple[int, int | None]]:
    """[start, end) of each range of a file of `size` bytes whose lines begin at `first`; the last is open."""
    starts = list(range(0, max(first + 1, size), base.RANGE_BYTES))
    return list(zip(starts, [*starts[1:], None], strict=True))


def line_blocks(plain: Plain, first: int, start: int, end: int | None) -> Iterator[bytes]:
    """The lines that begin in bytes [max(first, start), end), in blocks of whole lines with their line breaks.

    Guarantee: the ranges [0, a), [a, b), … [z, None) give each line of the file once, whole, wherever they are cut.
    A line begins at `first` and after each line feed. A range that starts later reads the byte before it, too: if that
    is a line feed, a line begins right there.

    Raises:
        TooLong: a line beyond the limit, wherever it begins. What reading raises is passed on.
    """
    at = first if start <= first else start - 1
    skipping = start > first
    stream = plain.start(at)
    held = b""
    while end is None or at < end:
        data = stream.read(base.BLOCK_BYTES)
        if not data:
            if held and not skipping:
                yield held + b"\n"  # the last line may have gone without
            return
        if skipping:
            cut = data.find(b"\n") + 1
            at += cut or len(data)
            if not cut:
                continue
            data, skipping = data[cut:], False
            if end is not None and at >= end:
                return
        held += data
        if len(held) > base.MAX_BLOCK_BYTES and not 0 < held.find(b"\n") + 1 <= base.MAX_BLOCK_BYTES:
            raise TooLong
        if end is not None and at + len(held) >= end:
            last = held.find(b"\n", max(0, end - 1 - at)) + 1
            if last:
                yield held[:last]
                return
        cut = held.rfind(b"\n") + 1
        if cut:
            yield held[:cut]
            held, at = held[cut:], at + cut


def next_block(blocks: Iterator[bytes], path: str, format: str) -> bytes | None:
    """The next block of lines, None at the end.

    Raises:
        RunFailed: a line is too long, or reading failed.
    """
    try:
        return next(blocks, None)
    except TooLong:
        failure = base.too_long(path, format)
    except Exception as error:
        reason = type(error).__name__
        failure = RunFailed(f"{path} could not be read to its end ({reason}). Check the file and its storage.")
    raise failure


@dataclass(frozen=True)
class Lines:
    """Lines one after another in `data`: line i is `data[offsets[i]:offsets[i + 1]]`, its line break included."""

    data: pa.Buffer
    offsets: npt.NDArray[np.int32]

    @classmethod
    def of(cls, block: bytes) -> Lines:
        """The lines of a block that `line_blocks` gave: each ends with a line feed."""
        ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10) + 1
        return cls(pa.py_buffer(block), np.concatenate(([0], ends)).astype(np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def array(self) -> pa.Array:
        """The lines as Arrow binary values."""
        return pa.Array.from_buffers(pa.binary(), len(self), [None, pa.py_buffer(self.offsets), self.data])

    def text(self, start: int = 0, stop: int | None = None) -> pa.Buffer:
        """The bytes of lines [start, stop)."""
        begin, end = int(self.offsets[start]), int(self.offsets[len(self) if stop is None else stop])
        return self.data.slice(begin, end - begin)

    def parts(self, size: int) -> list[Lines]:
        """The lines in parts of `size` lines, the last perhaps shorter."""
        return [Lines(self.data, self.offsets[at : at + size + 1]) for at in range(0, len(self), size)]

    def where(self, mask: Mask) -> Lines:
        """The marked lines alone."""
        return self if mask.all() else self.from_array(self.array().filter(pa.array(mask)))

    @classmethod
    def from_array(cls, lines: pa.Array) -> Lines:
        """Lines given as Arrow binary values."""
        whole = pa.concat_arrays([lines])
        _, offsets, data = whole.buffers()
        first = np.frombuffer(offsets, dtype=np.int32)[whole.offset : whole.offset + len(whole) + 1]
        return cls(data if data is not None else pa.py_buffer(b""), first)
