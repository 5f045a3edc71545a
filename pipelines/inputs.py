"""Finds the input: a policy's paths go in; the files, their splits and a keyed fingerprint come out.

Only names, sizes, times of change, headers and footers are read here: nothing is charged yet.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from apache_beam.io.filesystems import FileSystems

from dpbeam.errors import UsageError
from dpbeam.mechanisms import sources
from dpbeam.mechanisms.spec import InputSpec
from transforms.read import is_local, open_source

BYTES_A_SHARD = 2 << 20
"""Of the files: what is fastest, as a shard's columns then fit a core's cache. Up to `CACHED_SHARDS` shards."""
CACHED_SHARDS = 1024
MAX_SHARD_BYTES = 64 << 20
"""Of the files: from there on shards grow to this, since each block sends a message to each shard."""
SHARDS_A_WORKER = 4
MIN_SHARDS, MAX_SHARDS = 8, 8192


@dataclass(frozen=True, kw_only=True)
class File:
    """A source file as its file system lists it: `changed` is the time of change in nanoseconds."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files in order of name, and what of them is read in one piece each."""

    files: tuple[File, ...]
    splits: tuple[sources.Split, ...]

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
    """Lists the files of the spec's paths and patterns and checks each one's header or footer.

    Raises:
        UsageError: a path without a file, a file that lacks a column or isn't of the stated format.
    """
    files = [file for path in spec.paths for file in _match(path)]
    files = sorted(set(files), key=lambda file: file.path)
    splits: list[sources.Split] = []
    for file in files:
        try:
            opened = open_source(file.path)
        except OSError as error:
            raise UsageError(f"source {file.path} can't be opened: {error.strerror or type(error).__name__}") from None
        with opened as handle:
            count = sources.inspect_file(handle, spec, file.path)
        splits += sources.splits(spec, file.path, count)
    return Inputs(files=tuple(files), splits=tuple(splits))


def _match(pattern: str) -> Sequence[File]:
    if is_local(pattern):
        pattern = os.path.abspath(pattern)
        if os.path.isfile(pattern):  # a plain name, even one with [ or * in it
            return [_local(pattern)]
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except Exception as error:
        raise UsageError(f"source {pattern} can't be listed ({type(error).__name__}); is the path right?") from None
    if not found:
        raise UsageError(f"source {pattern}: no file has this name or matches this pattern; correct source.path")
    if is_local(pattern):
        return [_local(metadata.path) for metadata in found if os.path.isfile(metadata.path)]
    return [File(path=m.path, size=m.size_in_bytes, changed=int((m.last_updated_in_seconds or 0) * 1e9)) for m in found]


def _local(path: str) -> File:
    stat = os.stat(path)
    return File(path=path, size=stat.st_size, changed=stat.st_mtime_ns)
