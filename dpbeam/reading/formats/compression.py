"""Files that are compressed as a whole (gzip, bz2, zstd, xz), as their suffix says or as declared, never read beyond
damage.

Only text formats are compressed as a whole; the others compress their own parts.
"""

from __future__ import annotations

import bz2
import lzma
import re
from collections.abc import Callable
from typing import IO, Any, Literal

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.queries.source import FORMATS, InputSpec
from dpbeam.reading.formats.base import Lent

Codec = Literal["gzip", "bz2", "zstd", "xz"]

_SUFFIXES: dict[str, Codec] = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".bz2": "bz2",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".xz": "xz",
}
_MAGIC: dict[bytes, str] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    **{format.magic: name for name, format in FORMATS.items() if format.magic is not None},
}

_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""How a frame of Zstandard starts that holds no data (RFC 8878, 3.1.2), such as pzstd puts before each frame."""


def codec_of(spec: InputSpec, path: str) -> Codec | None:
    """How the file is compressed as a whole: as declared, else by its suffix; None if it isn't."""
    match spec.compression:
        case "none":
            return None
        case "gzip" | "bz2" | "zstd" | "xz":
            return spec.compression
        case "auto" if FORMATS[spec.format].packed_whole:
            return next((codec for suffix, codec in _SUFFIXES.items() if path.lower().endswith(suffix)), None)
        case "auto":
            return None
    raise ValueError(f"unknown compression {spec.compression!r}")


def told_by(head: bytes) -> str | None:
    """The compression or format that a file's first bytes tell, none of which is a value; None if they tell none."""
    if _SKIPPABLE.match(head):
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def check_magic(file: IO[bytes], spec: InputSpec, path: str) -> None:
    """Refuses a text file whose first bytes, of the format and no value, are those of something else.

    Raises:
        UsageError: it is compressed otherwise than said, or of another format.
    """
    file.seek(0)
    actual = told_by(file.read(8))
    codec = codec_of(spec, path)
    if codec is not None and actual != codec:
        raise UsageError(
            f"{path} is not a {codec} file, but its name or source.compression says so. Correct either; "
            "source.compression: none reads it as it is."
        )
    other = next((format for name, format in FORMATS.items() if name == actual), None)
    if other is not None and actual != spec.format:
        raise UsageError(
            f"{path} is {other.label} file, but source.format is {spec.format}. Set source.format: {actual}."
        )
    if codec is None and actual in _SUFFIXES.values():
        raise UsageError(f"{path} is compressed. Set source.compression: {actual}, or name the file so that it shows.")


class Plain:
    """The plain bytes of a file, to be read from the start as often as needed.

    Reading raises what the decompressor raises: damage, or an end too early, never ends as if the file were whole.
    """

    def __init__(self, file: IO[bytes], codec: Codec | None) -> None:
        self._file, self._codec = file, codec
        self._lent: Lent | None = None

    @property
    def seekable(self) -> bool:
        return self._codec is None

    def start(self, offset: int = 0) -> Any:
        """Something with `read(size)` that gives the plain bytes from `offset` on. It ends the one given before."""
        self.take_back()
        if self._codec is None:
            self._file.seek(offset)
            return self._file
        self._file.seek(0)
        self._lent = Lent(self._file)
        stream: Any
        if self._codec == "xz":
            stream = _Members(self._lent, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), padded=True)
        elif self._codec == "bz2":
            stream = _Members(self._lent, bz2.BZ2Decompressor, padded=False)
        else:
            stream = pa.CompressedInputStream(pa.PythonFile(self._lent, mode="r"), self._codec)
        while offset:
            passed = len(stream.read(min(offset, 1 << 20)))
            if not passed:
                raise EOFError("the file is shorter than it was")
            offset -= passed
        return stream

    def take_back(self) -> None:
        """Ends the reading, so that the file is its owner's again."""
        if self._lent is not None:
            self._lent.take_back()
            self._lent = None


class _Members:
    """The plain bytes of all members of a file, one after another, empty ones too; `padded` passes by NULs between.

    (`lzma.LZMAFile` and `bz2.BZ2File` pass by what they can't read after the first; Arrow's stream fails on an empty
    member of bz2 before another.)
    """

    def __init__(self, file: Lent, unpacker: Callable[[], Any], *, padded: bool) -> None:
        self._file, self._unpacker, self._padded = file, unpacker, padded
        self._unpacking = unpacker()
        self._packed = b""
        self._between = False

    def read(self, size: int) -> bytes:
        """At most `size` plain bytes, none at the end."""
        while True:
            if self._between and self._padded:
                self._packed = self._packed.lstrip(b"\0")
            if not self._packed and (self._between or self._unpacking.needs_input):
                self._packed = self._file.read(1 << 16)
                if not self._packed and self._between:
                    return b""
                if not self._packed:
                    raise EOFError("cut short")
                continue
            if self._between:
                self._unpacking, self._between = self._unpacker(), False
            plain: bytes = self._unpacking.decompress(self._packed, size)
            self._packed, self._between = self._unpacking.unused_data, self._unpacking.eof
            if plain:
                return plain
