"""Opening the files of a source, and telling whether one is what was listed. Knows Beam only where a store needs it."""

from __future__ import annotations

import os
import socket
from typing import IO

import pyarrow as pa

from dpbeam.reading import formats, memory
from dpbeam.reading.formats.base import is_local


def open_source(path: str) -> IO[bytes]:
    """A seekable binary file, as stored: Arrow's own reader for local files and for what this process holds
    in memory, Beam's for every other file system."""
    if memory.is_held(path):
        kept: IO[bytes] = memory.opened(path)
        return kept
    if is_local(path):
        here: IO[bytes] = pa.OSFile(path)
        return here
    from apache_beam.io.filesystem import CompressionTypes  # lazily: files of this machine need no Beam
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def is_the_one(file: IO[bytes], stamp: formats.Stamp | None) -> bool:
    """Whether a file that `open_source` opened is the one that was listed, whatever lies under its name by now.

    Guarantee: asked of the open file, so a file that is put in another's place and taken away again is told where it
    was read. Assumes that another version shows in size, time of change or, on the machine that listed it, inode. (On
    other machines a path may lead through another file system to the same file.)
    """
    if stamp is None:
        return True
    stats = os.fstat(file.fileno())
    is_here = stamp.host == socket.gethostname()
    return (stats.st_size, stats.st_mtime_ns) == (stamp.size, stamp.changed) and (
        not is_here or stats.st_ino == stamp.inode
    )
