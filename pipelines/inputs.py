"""Finds the input: a policy's paths go in; the files, their splits and a keyed fingerprint come out.

Only names, sizes, times of change, headers and footers are read here: nothing is charged yet.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from apache_beam.io.filesystems import FileSystems

from dpbeam.errors import RunFailed, UsageError
from dpbeam.mechanisms import sources
from dpbeam.mechanisms.spec import InputSpec
from transforms.read import is_local, open_source

LOOKERS = 16
"""Files looked at at a time: most of the time goes by waiting for the storage."""
BYTES_A_SHARD = 2 << 20
"""Of the files: what is fastest, as a shard's columns then fit a core's cache. Up to `CACHED_SHARDS` shards."""
CACHED_SHARDS = 1024
MAX_SHARD_BYTES = 64 << 20
"""Of the files: from there on shards grow to this, since each block sends a message to each shard."""
SHARDS_A_WORKER = 4
MIN_SHARDS, MAX_SHARDS = 8, 8192


@dataclass(frozen=True, kw_only=True)
class File:
    """A source file as its file system lists it: `changed` is the time of change in nanoseconds.

    `inode` tells a local file from every other on this machine, under whatever name it is found.
    """

    path: str
    size: int
    changed: int
    inode: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files in order of name, and the portions that one worker reads each."""

    files: tuple[File, ...]
    splits: tuple[sources.Portion, ...]

    def user_shards(self, workers: int) -> int:
        """How many shards the units are spread over, a power of two. Results don't depend on it; memory a worker, and
        how evenly `workers` are busy, do."""
        size = sum(file.size for file in self.files)
        wanted = max(min(CACHED_SHARDS, size // BYTES_A_SHARD), size // MAX_SHARD_BYTES, SHARDS_A_WORKER * workers)
        return min(MAX_SHARDS, max(MIN_SHARDS, 1 << max(0, wanted - 1).bit_length()))

    def fingerprint(self, secret: bytes) -> str:
        """Tells one input from another, for the idempotency key: an HMAC of the files' names, sizes and times.

        Guarantee: it is published, so it is keyed with the ledger's secret. An open digest of sizes or contents could
        be tried out against guesses of the rows.
        """
        listing = json.dumps([[file.path, file.size, file.changed] for file in self.files])
        return "hmac-sha256:" + hmac.new(secret, listing.encode(), hashlib.sha256).hexdigest()


def resolve(spec: InputSpec) -> Inputs:
    """Lists the files of the spec's paths, folders and patterns and checks each one's header or footer.

    Raises:
        UsageError: a path without a file, a file that lacks a column or isn't of the stated format.
    """
    files = [file for path in spec.paths for file in _match(path)]
    files = sorted(set(files), key=lambda file: file.path)
    _check_distinct(files)
    with ThreadPoolExecutor(LOOKERS) as pool:
        # In order of name, so that of several files at fault it is always the same that is named.
        splits = [split for found in pool.map(lambda file: _inspect(file.path, spec), files) for split in found]
    return Inputs(files=tuple(files), splits=sources.portions(splits))


def _inspect(path: str, spec: InputSpec) -> list[sources.Split]:
    try:
        opened = open_source(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"source {sources.shown(path)} can't be opened: {reason}") from None
    with opened as handle:
        return sources.inspect_file(handle, spec, path)


def check_unchanged(found: Inputs) -> None:
    """Called when all rows were read: what was read is what was listed, fingerprinted and split.

    Guarantee: no part of a file was read of one version and the next part of another, where a row might be in both
    (for `privacy_unit: row` that would be a row counted twice). Assumes that a change shows in size, time or inode.

    Raises:
        RunFailed: a file has changed.
    """
    for file in found.files:
        try:
            # In brackets, so that a name with [ or * in it stands for itself in a store as well.
            now = list(_match(file.path if is_local(file.path) else re.sub(r"([\[\]*?])", r"[\1]", file.path)))
        except (UsageError, OSError):
            now = []
        if now != [file]:
            raise RunFailed(
                f"source {sources.shown(file.path)} has changed since it was checked at the start of the run, so "
                "nothing was published. Run again when it is settled"
            )


def _check_distinct(files: Sequence[File]) -> None:
    """Refuses one file under two names: its rows would count twice."""
    names: dict[tuple[int, int], str] = {}
    for file in files:
        if file.inode is not None and names.setdefault(file.inode, file.path) != file.path:
            raise UsageError(
                f"source {sources.shown(file.path)} is the same file as {sources.shown(names[file.inode])}, so its "
                "rows would count twice; name it once in source.path"
            )


def _match(pattern: str) -> Sequence[File]:
    """The files of one path: a file, a folder (all that lies in it, at any depth), or a pattern."""
    if is_local(pattern):
        pattern = os.path.abspath(pattern)
        if os.path.isfile(pattern):  # a plain name, even one with [ or * in it
            return [_local(pattern)]
        if os.path.isdir(pattern):
            return [_local(path) for path in files_in(pattern)]
    found = _listed(pattern)
    if not found and not is_local(pattern):
        folder = pattern.rstrip("/") + "/"
        found = [file for file in _listed(folder + "**") if not _hidden(file.path.removeprefix(folder))]
    if not found:
        raise UsageError(f"source {pattern}: no file has this name or matches this pattern; correct source.path")
    if is_local(pattern):
        return [_local(file.path) for file in found if os.path.isfile(file.path)]
    return found


def _listed(pattern: str) -> list[File]:
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except Exception as error:
        raise UsageError(f"source {pattern} can't be listed ({type(error).__name__}); is the path right?") from None
    return [File(path=m.path, size=m.size_in_bytes, changed=int((m.last_updated_in_seconds or 0) * 1e9)) for m in found]


def files_in(folder: str) -> list[str]:
    """The paths of the data files in a local folder, at any depth.

    Raises:
        UsageError: there is none.
    """
    found = [
        os.path.join(at, name)
        for at, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not _hidden(os.path.relpath(os.path.join(at, name), folder))
    ]
    if not found:
        raise UsageError(f"source {folder}: no file lies in this folder; correct source.path")
    return found


def _hidden(path: str) -> bool:
    """Whether a part of a path is by custom not data: `_SUCCESS`, `_delta_log/…`, `.part.crc`."""
    return any(part.startswith((".", "_")) and "=" not in part for part in path.replace(os.sep, "/").split("/"))


def _local(path: str) -> File:
    stat = os.stat(path)
    return File(path=path, size=stat.st_size, changed=stat.st_mtime_ns, inode=(stat.st_dev, stat.st_ino))
