"""The input of a run: files, their splits, and a keyed fingerprint of them.

Only names, sizes, times of change, headers and footers are read here, for nothing is charged yet; and the bytes, for
their digest alone, where the policy says `fingerprint: content`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from dpbeam.errors import RunFailed, UsageError
from dpbeam.pipelines.lifecycle.contents import Content, contents_of
from dpbeam.pipelines.lifecycle.listing import File, files_of, now
from dpbeam.queries.source import InputSpec
from dpbeam.reading import formats, memory
from dpbeam.reading.formats.path_columns import without_path_columns
from dpbeam.transforms.wire.source_files import is_the_one, open_source

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
class Inputs:
    """The files in order of name, the portions that one worker reads each, and, where they are what the fingerprint is
    of, the files' contents."""

    files: tuple[File, ...]
    splits: tuple[formats.Portion, ...]
    contents: tuple[Content, ...] | None = None

    def user_shards(self, workers: int) -> int:
        """How many shards the units are spread over, a power of two. Results don't depend on it; memory a worker, and
        how evenly `workers` are busy, do."""
        size = sum(file.size for file in self.files)
        wanted = max(min(CACHED_SHARDS, size // BYTES_A_SHARD), size // MAX_SHARD_BYTES, SHARDS_A_WORKER * workers)
        return min(MAX_SHARDS, max(MIN_SHARDS, 1 << max(0, wanted - 1).bit_length()))

    def fingerprint(self, secret: bytes) -> str:
        """Tells one input from another, for the idempotency key: an HMAC of the files' names, sizes and times, or of
        their contents, whatever their names and order.

        Guarantee: it is keyed with the ledger's secret, for an open digest of sizes or contents could be tried out
        against guesses of the rows. What is published is `published_fingerprint`.
        """
        if self.contents is not None:
            return _keyed(secret, ["contents", sorted(json.dumps(content.to_json()) for content in self.contents)])
        return _keyed(secret, [[file.path, file.size, file.changed] for file in self.files])

    def fingerprint_but_times(self, secret: bytes) -> str | None:
        """A fingerprint of the files' names and sizes; None where the fingerprint isn't of times. Never published."""
        if self.contents is not None or any(memory.is_held(file.path) for file in self.files):
            return None
        return _keyed(secret, ["names and sizes", [[file.path, file.size] for file in self.files]])

    def published_fingerprint(self, secret: bytes, release_id: str) -> str:
        """What a manifest says of the input.

        Guarantee: where the fingerprint follows from rows (their bytes, or what a program holds in memory), it is an
        HMAC of it and of the release's id, which no other release has. So to all who haven't the ledger's secret it is
        a random number, and two releases don't show whether one row differs between their inputs.
        """
        fingerprint = self.fingerprint(secret)
        of_rows = self.contents is not None or any(memory.is_held(file.path) for file in self.files)
        return _keyed(secret, ["input of a release", release_id, fingerprint]) if of_rows else fingerprint


@dataclass(frozen=True, kw_only=True)
class PipelineRows:
    """Rows that steps of somebody's own pipeline give: nobody knows what is in them before it has run, so they are told
    apart by what is said of them.

    `source` is how their source is called; None for that of the query. `ends` says where the results go: into a
    release alone, or on within the pipeline, too.
    """

    source: str | None
    ends: Literal["release", "pipeline"]

    def fingerprint(self, secret: bytes) -> str:
        """Tells rows of one source from those of another, and from files; see `Inputs.fingerprint`."""
        return _keyed(secret, ["rows of a pipeline", self.source, self.ends])

    def published_fingerprint(self, secret: bytes, release_id: str) -> str:
        """The fingerprint: nothing in it is of rows."""
        return self.fingerprint(secret)


def _keyed(secret: bytes, stated: list[object]) -> str:
    return "hmac-sha256:" + hmac.new(secret, json.dumps(stated).encode(), hashlib.sha256).hexdigest()


def resolve(spec: InputSpec) -> Inputs:
    """Lists the files of the spec's paths, folders and patterns and checks each one's header or footer.

    Raises:
        UsageError: a path without a file, a file that lacks a column or isn't of the stated format, a column that is of
            hex digits in one file and of text in another, a file that changes or can't be read.
    """
    files = [file for path in spec.paths for file in files_of(path)]
    files = sorted(set(files), key=lambda file: file.path)
    _check_distinct(files)
    with ThreadPoolExecutor(LOOKERS) as pool:
        # In order of name, so that of several files at fault it is always the same that is named.
        splits = [split for of_file in pool.map(lambda file: _inspect(file, spec), files) for split in of_file]
    _check_text(splits, spec)
    contents = contents_of(files, spec) if spec.fingerprint == "content" else None
    return Inputs(files=tuple(files), splits=formats.portions(splits), contents=contents)


def _inspect(file: File, spec: InputSpec) -> list[formats.Split]:
    seen = formats.shown(file.path)
    try:
        opened = open_source(file.path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"source {seen} can't be opened: {reason}") from None
    with opened as handle:
        if not is_the_one(handle, file.stamp):
            raise UsageError(f"source {seen} changes while it is looked at; run again when it is settled")
        return [replace(split, stamp=file.stamp) for split in formats.inspect_file(handle, spec, file.path)]


def _check_text(splits: Sequence[formats.Split], spec: InputSpec) -> None:
    """Refuses a column whose bytes one file has as text and another as hex digits: one value would be two, and one unit
    two units, each with all that a unit may contribute."""
    first: dict[tuple[str, bool], formats.Split] = {}
    for split in splits:
        for column, is_hex in zip(without_path_columns(spec).columns, split.as_hex, strict=False):
            if is_hex is None:
                continue
            before = first.setdefault((column.name, is_hex), split)
            other = first.get((column.name, not is_hex))
            if other is not None:
                hexed, text = (before, other) if is_hex else (other, before)
                raise UsageError(
                    f"column {column.name} has bytes of a fixed length in {formats.shown(hexed.path)}, which are read "
                    f"as hex digits, and text in {formats.shown(text.path)}: the same id would be two. Write both in "
                    "one way"
                )


def check_unchanged(inputs: Inputs) -> None:
    """Called when all rows were read: what was read is what was listed, fingerprinted and split.

    Guarantee: no part of a file was read of one version and the next part of another, where a row might be in both
    (for `privacy_unit: row` that would be a row counted twice): each part was read from the file that was listed
    (`dpbeam.transforms.steps.read.is_the_one`), and that one is as it was. Assumes that a change shows in size, time or
    inode.

    Raises:
        RunFailed: a file has changed.
    """
    for file in inputs.files:
        if now(file) != file:
            raise RunFailed(
                f"source {formats.shown(file.path)} has changed since it was checked at the start of the run, so "
                "nothing was published. Run again when it is settled; a file that was written anew is another input, "
                "and is charged anew"
            )


def _check_distinct(files: Sequence[File]) -> None:
    """Refuses one file under two names: its rows would count twice."""
    names: dict[tuple[int, int], str] = {}
    for file in files:
        if file.inode is not None and names.setdefault(file.inode, file.path) != file.path:
            raise UsageError(
                f"source {formats.shown(file.path)} is the same file as {formats.shown(names[file.inode])}, so its "
                "rows would count twice; name it once in source.path"
            )
