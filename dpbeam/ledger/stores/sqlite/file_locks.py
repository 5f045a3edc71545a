"""Locks of an open file on ranges of it (Linux: F_OFD_SETLK), which know no process: closing another handle of the same
file doesn't drop them, and SQLite's own locks, which are the process's, don't meet them elsewhere in the file."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

LOCKED = 1 << 61
"""From here on bytes are ours to lock: SQLite locks 512 bytes at 2^30."""

_FLOCK = "hhqqi4x"
"""The kernel's struct flock with 64-bit places."""
_SET = getattr(fcntl, "F_OFD_SETLK", None)
_GET = getattr(fcntl, "F_OFD_GETLK", None)


class Unsupported(Exception):
    """The system has no such locks."""


def share(handle: int, place: int) -> None:
    """Locks one byte with others that share it. Raises Unsupported; OSError if somebody has it alone."""
    _ask(_SET, handle, fcntl.F_RDLCK, place, 1)


def take(handle: int, place: int) -> bool:
    """Locks one byte alone; whether that was to be had. Raises Unsupported."""
    try:
        _ask(_SET, handle, fcntl.F_WRLCK, place, 1)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def leave(handle: int, start: int, end: int) -> None:
    """Gives up what this open file has locked from `start` to before `end`. Raises Unsupported."""
    _ask(_SET, handle, fcntl.F_UNLCK, start, end - start)


def other(handle: int, start: int, end: int) -> int | None:
    """Where another open file has locked a byte from `start` to before `end`; None if none has. Raises Unsupported."""
    if start == end:
        return None
    kind, place = _ask(_GET, handle, fcntl.F_WRLCK, start, end - start)
    return None if kind == fcntl.F_UNLCK else max(place, start)


def _ask(command: int | None, handle: int, kind: int, start: int, size: int) -> tuple[int, int]:
    if command is None:
        raise Unsupported
    try:
        answer = fcntl.fcntl(handle, command, struct.pack(_FLOCK, kind, os.SEEK_SET, start, size, 0))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Unsupported from None
        raise
    lock = struct.unpack(_FLOCK, answer)
    return lock[0], lock[2]
