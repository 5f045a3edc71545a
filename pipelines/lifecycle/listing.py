"""The files that a path names: each a regular file, none left out in silence.

A path is a file, a folder (all that lies in it, at any depth, but what is by custom not data) or a pattern.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from dpbeam.errors import UsageError
from dpbeam.extras import require
from dpbeam.ledger.patterns import matcher
from dpbeam.reading import memory
from dpbeam.reading.formats.base import Stamp, is_local, shown

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_Inode = tuple[int, int]
_Above = tuple[_Inode, ...]
"""The folders that lead to one, with itself: a link back to any of them would lead round in circles."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A source file as its file system lists it: `changed` is the time of change in nanoseconds.

    `inode` tells a local file from every other on this machine, under whatever name it is found.
    """

    path: str
    size: int
    changed: int
    inode: _Inode | None = None

    @property
    def stamp(self) -> Stamp | None:
        """By what a worker tells that it opened this very file; None of a store, whose files are replaced whole and
        never get an old time of change back."""
        return (
            None
            if self.inode is None
            else Stamp(size=self.size, changed=self.changed, inode=self.inode[1], host=socket.gethostname())
        )


def files_of(path: str) -> Sequence[File]:
    """The files of one path, without looking into them.

    Raises:
        UsageError: no file; something else than a regular file or a link to one; a folder that can't be listed, or
            lies in itself by a link.
    """
    if memory.is_held(path):
        return [_in_memory(path)]
    if not is_local(path):
        return _in_store(path)
    path = os.path.abspath(path)
    if "\0" in path:
        raise _unusable(path, "no path has a NUL in it")
    if not os.path.lexists(path):
        return _matching(path)
    stats = _looked_at(path)  # a plain name, even one with [ or * in it
    return files_in(path) if stat.S_ISDIR(stats.st_mode) else [_file(path, stats)]


def files_in(folder: str) -> list[File]:
    """The data files in a local folder, at any depth.

    Raises:
        UsageError: see `files_of`.
    """
    files: list[File] = []
    inside: list[tuple[str, _Above]] = [(folder, (_inode(_looked_at(folder)),))]
    while inside:
        at, above = inside.pop()
        for entry in filter(lambda entry: not _hidden(entry), _entries(at)):
            path = os.path.join(at, entry)
            stats = _looked_at(path)
            if stat.S_ISDIR(stats.st_mode):
                inside.append((path, _below(path, stats, above)))
            else:
                files.append(_file(path, stats))
    if not files:
        raise UsageError(f"source {folder}: no file lies in this folder; correct source.path")
    return files


def now(file: File) -> File | None:
    """The file as it is listed now; None if it isn't there any more."""
    try:
        if memory.is_held(file.path):
            return _in_memory(file.path)
        if is_local(file.path):
            stats = os.stat(file.path)
            return _file(file.path, stats) if stat.S_ISREG(stats.st_mode) else None
        # In brackets, so that a name with [ or * in it stands for itself in a store as well.
        (only,) = _listed(re.sub(r"([\[\]*?])", r"[\1]", file.path))
    except (UsageError, OSError, ValueError):
        return None
    return only


def _in_memory(path: str) -> File:
    """What this process holds: in place of a time of change a number that follows from all of its rows."""
    held = memory.held(path)
    return File(path=path, size=held.content.size, changed=held.digest)


def _matching(pattern: str) -> list[File]:
    """The files that a pattern names, as Beam reads patterns: `*` stays within a name, `**` goes through folders.

    Only folders that may lead to a file of the pattern are looked into, links to folders too.
    """
    steps = PurePath(pattern).parts
    fixed = next((i for i, part in enumerate(steps) if re.search(r"[*?\[]", part)), len(steps))
    if fixed == len(steps) or not os.path.isdir(os.path.join(*steps[:fixed])):
        raise _none(pattern)
    wanted = matcher(pattern)
    start = os.path.join(*steps[:fixed])
    files: list[File] = []
    # A folder, what the pattern says of the names in it and below, and the folders that lead to it with itself.
    inside: list[tuple[str, tuple[str, ...], _Above]] = [(start, steps[fixed:], (_inode(_looked_at(start)),))]
    while inside:
        at, rest, above = inside.pop()
        is_deep, name = "**" in rest[0], matcher(rest[0])
        for entry in _entries(at):
            path = os.path.join(at, entry)
            is_wanted = wanted(path)
            leads_on = is_deep or (len(rest) > 1 and name(entry))
            # What only leads on may be anything but a link to nothing, which might have been a folder.
            is_lost = not os.path.exists(path) and not _hidden(entry)
            if not is_wanted and not (leads_on and (os.path.isdir(path) or is_lost)):
                continue
            stats = _looked_at(path)
            if not stat.S_ISDIR(stats.st_mode):
                files.append(_file(path, stats))
                continue
            if is_wanted and not wanted(os.path.join(path, "\0")) and not _hidden(entry):
                raise UsageError(
                    f"source {shown(pattern)}: the pattern matches the folder {shown(path)}, and would leave out what "
                    "lies in it; name the folder itself, or files alone, as in data/*.csv"
                )
            if leads_on:
                inside.append((path, rest if is_deep else rest[1:], _below(path, stats, above)))
    if not files:
        raise _none(pattern)
    return files


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise _unusable(folder, f"this folder can't be listed ({reason})")


def _looked_at(path: str) -> os.stat_result:
    """What lies at a path that is there, links followed: a regular file or a folder."""
    reason = ""
    try:
        stats = os.stat(path)
    except FileNotFoundError:
        reason = "is a link to nothing" if os.path.islink(path) else "is gone"
    except OSError as error:
        is_circle = error.errno == errno.ELOOP
        reason = "is a link that leads back to itself" if is_circle else f"can't be looked at ({error.strerror})"
    if reason:
        raise _unusable(path, f"it {reason}")
    if not (stat.S_ISREG(stats.st_mode) or stat.S_ISDIR(stats.st_mode)):
        kind = next((name for test, name in _KINDS if test(stats.st_mode)), "something else")
        raise _unusable(path, f"it is {kind} and no regular file")
    return stats


def _below(path: str, stats: os.stat_result, above: _Above) -> _Above:
    if _inode(stats) in above:
        raise _unusable(path, "it is a link to a folder that it lies in")
    return (*above, _inode(stats))


def _unusable(path: str, reason: str) -> UsageError:
    return UsageError(f"source {shown(path)}: {reason}. Take it away, or correct source.path")


def _none(pattern: str) -> UsageError:
    return UsageError(f"source {pattern}: no file has this name or matches this pattern; correct source.path")


def _in_store(pattern: str) -> list[File]:
    files = _listed(pattern)
    if not files:
        folder = pattern.rstrip("/") + "/"
        files = [file for file in _listed(folder + "**") if not _hidden(file.path.removeprefix(folder))]
    if not files:
        raise _none(pattern)
    return files


def _listed(pattern: str) -> list[File]:
    require("beam")
    from apache_beam.io.filesystems import FileSystems  # lazily: files of this machine need no Beam

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of Beam's own reading of sets such as [[]
            metadata = FileSystems.match([pattern])[0].metadata_list
    except Exception as error:
        raise UsageError(f"source {pattern} can't be listed ({type(error).__name__}); is the path right?") from None
    return [
        File(path=m.path, size=m.size_in_bytes, changed=int((m.last_updated_in_seconds or 0) * 1e9)) for m in metadata
    ]


def _hidden(path: str) -> bool:
    """Whether a part of a path is by custom not data: `_SUCCESS`, `_delta_log/…`, `.part.crc`."""
    return any(part.startswith((".", "_")) and "=" not in part for part in path.replace(os.sep, "/").split("/"))


def _file(path: str, stats: os.stat_result) -> File:
    return File(path=path, size=stats.st_size, changed=stats.st_mtime_ns, inode=_inode(stats))


def _inode(stats: os.stat_result) -> _Inode:
    return stats.st_dev, stats.st_ino
