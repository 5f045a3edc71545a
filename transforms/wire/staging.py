"""The staging area of one attempt of one run: shard files and markers are written here, and read once at the end; then
the release is put together here, until one rename shows it.

It lies inside the trust zone: draws that are never published may be seen in it. Every file has a fixed name and is
replaced whole, so a bundle that a runner repeats rewrites its own file and no reader sees half of one.

Guarantee: whatever the umask, the mode of the folders around it and of the files in it, only the run's own user (and
root) can read what is staged: all of it lies in a folder of mode 0700 that is this user's and no link, which is
verified whenever an area is made and whenever a worker writes. Assumes that who may write into the output folder is
inside the trust zone, and that the file system keeps owners and modes (one that shows others is refused).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.errors import RunFailed


class NotPrivate(RunFailed):
    """A staging folder that others might look into."""


def make_private(path: str) -> None:
    """Makes the folder `path` for this user alone, whatever the umask; of one that exists already, takes from others
    what they may do there.

    Raises:
        NotPrivate: it is a link or no folder, it is another user's, or others can't be kept out of it.
    """
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o777 != 0o700:
                os.chmod(path, 0o700)
            return check_private(path, os.geteuid())
        except FileNotFoundError:  # another run ended just now and removed its empty folder
            continue


def check_private(path: str, owner: int) -> None:
    """Looks whether `path` is a folder that the user `owner` alone may enter.

    Raises:
        NotPrivate: it isn't.
        OSError: there is no such folder.
    """
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        link = stat.S_ISLNK(status.st_mode)
        fault = "is a link: results would be staged where it points" if link else "is no folder"
    elif status.st_uid != owner:
        fault = "belongs to another user, who might see results that are never published"
    elif status.st_mode & 0o077:
        fault = "is open to other users, and the file system doesn't let that be changed"
    else:
        return
    raise NotPrivate(f"staging folder {path} {fault}; remove it, or name another output folder with --output")


@dataclass(frozen=True, kw_only=True)
class Area:
    """The local or shared folder `path`; `attempt` is written into each file: one of another attempt is refused.

    `path` lies in a folder `.staging` of all runs. Both are the user's with the number `owner`, who made them, and
    nobody else's.
    """

    path: str
    attempt: str
    owner: int = field(default_factory=os.geteuid)

    @property
    def release(self) -> str:
        """The folder in which the release is put together: in one beside `path`, so that it outlives the shards, and
        deeper than releases lie, so that who looks for `*/*/manifest.json` doesn't find it."""
        return f"{self._outer}/files"

    def beside_release(self, name: str) -> str:
        """A file next to that folder: kept from others like it, and moved out as easily."""
        return f"{self._outer}/{name}"

    @property
    def _outer(self) -> str:
        return f"{self.path}.release"

    def create(self) -> None:
        """Makes the empty folder.

        Raises:
            RunFailed: it exists already: another attempt may still write there. Or others might look into it.
        """
        while True:
            make_private(os.path.dirname(self.path))
            try:
                os.mkdir(self.path, 0o700)
                break
            except FileNotFoundError:  # as above
                continue
            except FileExistsError:
                raise RunFailed(f"staging folder {self.path} exists already; `dpbeam recover` clears it") from None
        make_private(self.path)

    def create_release(self) -> Path:
        """Makes the folder in which the release is put together, with the mode that a published one has: till it is
        moved out, the folder around it keeps others away.

        Raises:
            RunFailed: the attempt was given up, or others might look into its staging.
        """
        self._check()
        make_private(self._outer)
        os.mkdir(self.release)
        return Path(self.release)

    def shard_path(self, stage: str, part: int, shards: int) -> str:
        return f"{self.path}/{stage}-{part:05d}-of-{shards:05d}.parquet"

    def write_shard(self, stage: str, part: int, shards: int, batch: pa.RecordBatch) -> None:
        """Writes one shard's released values under its fixed name, whole or not at all."""
        label = {b"dpbeam.shard": f"{self.attempt}/{stage}/{part}/{shards}".encode()}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(label), sink)
        self._write(self.shard_path(stage, part, shards), sink.getvalue())

    def read_stage(self, stage: str, shards: int) -> pa.Table:
        """All shards of a stage, each file read exactly once, in shard order.

        Of a stage that was frozen, what was frozen.

        Raises:
            RunFailed: a file is missing, damaged, or of another attempt.
        """
        if os.path.lexists(self._frozen_path(stage)):
            return self._labelled(self._frozen_path(stage), f"what was frozen of stage {stage}", f"{stage}/frozen")
        return self._read_shards(stage, shards)

    def freeze(self, stage: str, shards: int) -> pa.Table:
        """All shards of a stage as they are when this is first called; the same table ever after.

        Guarantee: all calls, in whatever processes and however often, return one table, if all processes see one file
        system whose hard links are made at once and never over another file. Shards that are written later change
        nothing, and `read_stage` gives this table too.

        Raises:
            RunFailed: a file is missing, damaged, or of another attempt.
        """
        if not os.path.lexists(self._frozen_path(stage)):
            label = {b"dpbeam.shard": f"{self.attempt}/{stage}/frozen".encode()}
            sink = pa.BufferOutputStream()
            pq.write_table(self._read_shards(stage, shards).replace_schema_metadata(label), sink)
            self._write_first(self._frozen_path(stage), sink.getvalue())
        return self.read_stage(stage, shards)

    def seal(self, name: str, content: bytes) -> None:
        """Keeps what `name` stood for when this was first called for it.

        Guarantee: no two calls for one `name` return unless their `content` is equal (see `freeze`).

        Raises:
            RunFailed: it stands for something else now.
        """
        path = f"{self.path}/{name}.sealed"
        if not os.path.lexists(path):
            self._write_first(path, content)
        if Path(path).read_bytes() != content:
            raise RunFailed(
                "a step that the runner executed again was given other rows than before, so its results can't be put "
                "together with those that went on already; nothing was published. Give every step of the pipeline "
                "before this one the same result each time (no clock, no random choice, a source that doesn't change), "
                "or write the rows to files and use `dpbeam run`"
            )

    def _read_shards(self, stage: str, shards: int) -> pa.Table:
        return pa.concat_tables(
            [
                self._labelled(
                    self.shard_path(stage, part, shards),
                    f"staged shard {part} of {shards} of stage {stage}",
                    f"{stage}/{part}/{shards}",
                )
                for part in range(shards)
            ]
        )

    def _labelled(self, path: str, what: str, label: str) -> pa.Table:
        """The table in a file of this attempt, read once."""
        try:
            # No thread of Arrow's may hold our bytes as Python ends: it would abort the program.
            table = pq.ParquetFile(pa.BufferReader(Path(path).read_bytes()), pre_buffer=False).read(use_threads=False)
        except Exception as error:
            raise RunFailed(f"{what} can't be read ({type(error).__name__}); nothing was published") from None
        if (table.schema.metadata or {}).get(b"dpbeam.shard") != f"{self.attempt}/{label}".encode():
            raise RunFailed(f"{what} is of another attempt; nothing was published")
        return table.replace_schema_metadata(None)

    def write_marker(self, name: str) -> None:
        """Notes that the control totals of shuffle `name` agreed."""
        self._write(self._marker_path(name), f"{self.attempt}/{name}".encode())

    def has_marker(self, name: str) -> bool:
        try:
            return Path(self._marker_path(name)).read_bytes() == f"{self.attempt}/{name}".encode()
        except OSError:
            return False

    def remove(self) -> None:
        """Removes all that is staged; nothing to do where nothing is.

        Guarantee: when this returns, no draw of this attempt is in any file, and its workers can't write one any more.

        Raises:
            RunFailed: something of it is left: draws that must not be seen beside those of another attempt.
        """
        self.remove_shards()
        _remove(self._outer)
        self.remove_empty()

    def remove_shards(self) -> None:
        """Removes what the workers staged; what is put together from it stays. Raises as `remove`."""
        _remove(self.path)

    def remove_empty(self) -> None:
        """What the release was put together in goes when it is moved out; `.staging` with the last that is in it."""
        with contextlib.suppress(OSError):
            os.rmdir(self._outer)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.path))

    def left(self) -> bool:
        """Whether anything of it is on disk."""
        return os.path.lexists(self.path) or os.path.lexists(self._outer)

    def _marker_path(self, name: str) -> str:
        return f"{self.path}/{name}.agreed"

    def _frozen_path(self, stage: str) -> str:
        return f"{self.path}/{stage}.frozen"

    def _write(self, path: str, data: bytes | pa.Buffer) -> None:
        os.replace(self._partial(path, data), path)

    def _write_first(self, path: str, data: bytes | pa.Buffer) -> None:
        """Writes the file whole, if there is none of the name."""
        partial = self._partial(path, data)
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
        os.unlink(partial)

    def _partial(self, path: str, data: bytes | pa.Buffer) -> str:
        self._check()
        partial = f"{path}.{secrets.token_hex(8)}.partial"
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return partial

    def _check(self) -> None:
        try:
            check_private(os.path.dirname(self.path), self.owner)
            check_private(self.path, self.owner)
        except OSError:  # given up and cleared meanwhile: a late worker must not bring it back
            raise RunFailed("the staging folder of this attempt is gone; nothing was published") from None


def _remove(path: str) -> None:
    for _ in range(3):  # a late worker may write a file while the folder is emptied
        if os.path.islink(path):  # nothing of ours: what it points to stays
            os.unlink(path)
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
    raise RunFailed(f"staging folder {path} can't be removed; make it writable for this user, then `dpbeam recover`")
