"""What is in the files of a run, as digests: by these a run knows its input under whatever name, and however old.

Guarantee: rows aren't looked at before a run is charged but here, and what becomes of them here is a SHA-256 of each
file that stays in this process. What leaves is keyed with the ledger's secret (`Inputs.fingerprint`): into the ledger,
as a part of the idempotency key; and into a manifest only mixed with the release's own id, so that two releases don't
show whether their inputs are the same. What else shows is whether a new release is made (docs/known_limits.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dpbeam.errors import UsageError
from dpbeam.pipelines.lifecycle import stopping
from dpbeam.pipelines.lifecycle.listing import File, now
from dpbeam.queries.source import InputSpec
from dpbeam.reading import formats
from dpbeam.reading.formats.compression import codec_of
from dpbeam.reading.formats.path_columns import values_in
from dpbeam.transforms.wire.source_files import is_the_one, open_source

READERS = 8
"""Files read at a time."""
_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Content:
    """All of a file that its rows follow from: its bytes' SHA-256 in hex, and what its path says of them: how it is
    compressed, and the values of path columns, in order (None: null)."""

    sha256: str
    codec: str | None
    path_values: tuple[str | None, ...]

    def to_json(self) -> list[object]:
        return [self.sha256, self.codec, *self.path_values]


def contents_of(files: Sequence[File], spec: InputSpec) -> tuple[Content, ...]:
    """The content of each file, from one read of its bytes.

    Guarantee: of the file that was listed, or an error: told before and after it was read, by size, time of change and
    inode, as the run itself tells it again (`dpbeam.pipelines.lifecycle.inputs.check_unchanged`).

    Raises:
        UsageError: a file can't be read, or changes while it is read.
    """
    pool = ThreadPoolExecutor(READERS)
    try:
        return tuple(pool.map(lambda file: _content(file, spec), files))
    finally:
        pool.shutdown(cancel_futures=True)


def _content(file: File, spec: InputSpec) -> Content:
    seen, sha256 = formats.shown(file.path), hashlib.sha256()
    try:
        with open_source(file.path) as handle:
            same = is_the_one(handle, file.stamp)
            while same and (piece := handle.read(_READ_BYTES)):
                stopping.check()  # else the pool would wait for the whole file
                sha256.update(piece)
            same = same and is_the_one(handle, file.stamp) and now(file) == file
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"source {seen} can't be read: {reason}. Nothing was charged") from None
    if not same:
        raise UsageError(f"source {seen} changes while it is looked at; run again when it is settled")
    values = values_in(file.path, spec).values()
    return Content(
        sha256=sha256.hexdigest(),
        codec=codec_of(spec, file.path),
        path_values=tuple(None if value is None else value.hex() for value in values),
    )
