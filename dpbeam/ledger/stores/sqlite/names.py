"""One file, one name: that under which a ledger's file is used is held while a connection is open.

SQLite keeps its log and its index beside the *name* of a database. One file under two names (a hard link, or a file
that is mounted by itself into a container) has two logs and no common lock: what is charged under one name is lost to
the other.

Guarantee: on one host, of all processes, in whatever container, only those that share the folder of the file, and so
its log, have the ledger open at a time. A file with several links, or that is mounted by itself, isn't opened. Assumes
that the kernel tells links and mounts (Linux; elsewhere links, and file systems), and that nobody moves the file away
from the log that a killed process left beside it.

How: the lock is on the file itself, which is the same under all its names. Everybody shares a byte whose place says
which folder the file was found in, and looks whether any other byte is locked. These are locks of the open file, in a
range that SQLite doesn't use, so that they and SQLite's own, which are the process's, leave one another alone.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dpbeam.errors import LedgerError
from dpbeam.ledger import refusals
from dpbeam.ledger.stores.sqlite import drafts, file_locks
from dpbeam.ledger.waiting import Patience

_FOLDERS = file_locks.LOCKED + 1
_STILL = _FOLDERS + (1 << 60)
"""The byte of those who read a file as if nobody could change it, which is so while they hold this."""


@contextmanager
def held(path: Path, *, seconds: float, still: bool = False) -> Iterator[Path]:
    """Holds the file's one name, and gives it without links. `still`: to read, while nobody has it open to write.

    Raises:
        LedgerError: it is no file, has several names, or is in use under another name.
        Locked: it is in use, and `still`; or is read so; for longer than `seconds`.
        OSError: there is none, or it can't be opened.
    """
    opened = _open(path)
    try:
        _check_one_name(opened)
        _lock(opened, still=still, patience=Patience(seconds, "others to leave the ledger"))
        yield opened.path
    finally:
        _close(opened)


@dataclass(frozen=True, kw_only=True)
class _Opened:
    path: Path
    inode: tuple[int, int]
    handle: int


@dataclass
class _Handles:
    """This process's handles on one file. Closing any of them would drop the locks of SQLite on that file in all
    threads (POSIX has it so): none is closed while another thread is at work on the file."""

    at_work: int = 0
    idle: list[int] = field(default_factory=list)


_handles: dict[tuple[int, int], _Handles] = {}
_mutex = threading.Lock()


def _forked() -> None:
    """A child has none of its parent's locks, and no connection: it begins with nothing."""
    global _mutex
    _mutex = threading.Lock()
    for handles in _handles.values():
        for handle in handles.idle:
            with suppress(OSError):
                os.close(handle)
    _handles.clear()


os.register_at_fork(after_in_child=_forked)


def _open(path: Path) -> _Opened:
    while True:
        real = Path(os.path.realpath(path))
        status = os.stat(real)
        if not stat.S_ISREG(status.st_mode):
            raise LedgerError(f"the ledger {path} is not a file; name a file, such as {path / 'ledger.sqlite'}")
        inode = (status.st_dev, status.st_ino)
        with _mutex:
            handles = _handles.setdefault(inode, _Handles())
            handles.at_work += 1
            try:
                handle = handles.idle.pop() if handles.idle else os.open(real, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                _leave(inode)
                raise
        opened = _Opened(path=real, inode=inode, handle=handle)
        now = os.fstat(handle)
        if (now.st_dev, now.st_ino) == inode and now.st_nlink > 0:
            return opened
        _close(opened)  # another file was put in its place just now


def _close(opened: _Opened) -> None:
    with suppress(OSError, file_locks.Unsupported):
        file_locks.leave(opened.handle, _FOLDERS, _STILL + 1)
    with _mutex:
        _handles[opened.inode].idle.append(opened.handle)
        _leave(opened.inode)


def _leave(inode: tuple[int, int]) -> None:
    handles = _handles[inode]
    handles.at_work -= 1
    if handles.at_work == 0:
        del _handles[inode]
        for handle in handles.idle:
            os.close(handle)


def _check_one_name(opened: _Opened) -> None:
    if os.fstat(opened.handle).st_nlink > 1:
        drafts.sweep(opened.path)  # a new ledger has two names for a moment, and for long if that moment was killed
    links = os.fstat(opened.handle).st_nlink
    if links > 1:
        find = f"find / -xdev -samefile {shlex.quote(str(opened.path))}"
        raise LedgerError(
            f"the ledger {opened.path} has {links} names (hard links), and what is charged under one of them can be "
            f"lost to the others. Find them with `{find}`, remove all but the one that runs use, then "
            "`dpbeam budget verify`"
        )
    if _is_mounted(opened):
        raise LedgerError(
            f"the ledger {opened.path} is mounted by itself, so its log isn't kept with those who use it elsewhere, "
            "and what is charged can be lost. Mount the folder that it lies in"
        )


def _is_mounted(opened: _Opened) -> bool:
    folder = os.open(opened.path.parent, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    try:
        ids = [_mount(handle) for handle in (opened.handle, folder)]
        if None not in ids:
            return ids[0] != ids[1]
        return os.fstat(opened.handle).st_dev != os.fstat(folder).st_dev
    finally:
        os.close(folder)


def _mount(handle: int) -> str | None:
    """The number of the mount through which a file was opened; None where the system doesn't tell."""
    try:
        lines = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((line for line in lines if line.startswith("mnt_id:")), None)


def _lock(opened: _Opened, *, still: bool, patience: Patience) -> None:
    mine = _STILL if still else _place(opened.path.parent)
    while True:
        try:
            file_locks.share(opened.handle, mine)
            # Whoever comes later sees this lock, so of two that come at once at least one sees the other.
            other = file_locks.other(opened.handle, _FOLDERS, mine)
            other = file_locks.other(opened.handle, mine + 1, _STILL + 1) if other is None else other
            if other is None:
                return
            file_locks.leave(opened.handle, mine, mine + 1)
        except file_locks.Unsupported:  # links and mounts were looked at
            return
        if not still and other != _STILL:
            raise LedgerError(
                f"the ledger {opened.path} is in use under another name, from another folder or container, and what "
                "is charged under one name can be lost to the other. Let all runs use one name; in containers, mount "
                "the folder that it lies in"
            )
        if not patience.wait():
            raise refusals.Locked(str(opened.path), patience.seconds)


def _place(folder: Path) -> int:
    """The byte that stands for the folder: which of 2^60 by its device and inode."""
    status = os.stat(folder)
    key = hashlib.sha256(f"{status.st_dev}/{status.st_ino}".encode()).digest()
    return _FOLDERS + (int.from_bytes(key[:8], "big") >> 4)
