"""The staging area of one attempt of one run: shard files and markers are written here, and read once at the end.

It lies inside the trust zone: draws that are never published may be seen in it. Every file has a fixed name and is
replaced whole, so a bundle that a runner repeats rewrites its own file and no reader sees half of one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpbeam.errors import RunFailed


@dataclass(frozen=True, kw_only=True)
class Area:
    """The local or shared folder `path`; `attempt` is written into each file: one of another attempt is refused."""

    path: str
    attempt: str

    def create(self) -> None:
        """Makes the empty folder.

        Raises:
            RunFailed: it exists already: another attempt may still write there.
        """
        try:
            os.makedirs(self.path, mode=0o700)
        except FileExistsError:
            raise RunFailed(f"staging folder {self.path} exists already; `dpbeam recover` clears it") from None

    def shard_path(self, stage: str, part: int, parts: int) -> str:
        return f"{self.path}/{stage}-{part:05d}-of-{parts:05d}.parquet"

    def write_shard(self, stage: str, part: int, parts: int, batch: pa.RecordBatch) -> None:
        """Writes one shard's released values under its fixed name, whole or not at all."""
        label = {b"dpbeam.shard": f"{self.attempt}/{stage}/{part}/{parts}".encode()}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(label), sink)
        self._write(self.shard_path(stage, part, parts), sink.getvalue())

    def read_stage(self, stage: str, parts: int) -> pa.Table:
        """All shards of a stage, each file read exactly once, in shard order.

        Raises:
            RunFailed: a file is missing, damaged, or of another attempt.
        """
        tables = []
        for part in range(parts):
            path = self.shard_path(stage, part, parts)
            try:
                table = pq.read_table(pa.BufferReader(Path(path).read_bytes()))
            except Exception as error:
                raise RunFailed(
                    f"staged shard {part} of {parts} of stage {stage} can't be read ({type(error).__name__}); "
                    "nothing was published"
                ) from None
            expected = f"{self.attempt}/{stage}/{part}/{parts}".encode()
            if (table.schema.metadata or {}).get(b"dpbeam.shard") != expected:
                raise RunFailed(f"staged shard {part} of stage {stage} is of another attempt; nothing was published")
            tables.append(table.replace_schema_metadata(None))
        return pa.concat_tables(tables)

    def write_marker(self, name: str) -> None:
        """Notes that the control totals of shuffle `name` agreed."""
        self._write(self._marker_path(name), f"{self.attempt}/{name}".encode())

    def has_marker(self, name: str) -> bool:
        try:
            return Path(self._marker_path(name)).read_bytes() == f"{self.attempt}/{name}".encode()
        except OSError:
            return False

    def remove(self) -> None:
        """Removes the folder and all in it; nothing to do where there is none.

        Raises:
            RunFailed: something of it is left: draws that must not be seen beside those of another attempt.
        """
        for _ in range(3):  # a late worker may write a file while the folder is emptied
            shutil.rmtree(self.path, ignore_errors=True)
            if not os.path.lexists(self.path):
                break
        else:
            raise RunFailed(
                f"staging folder {self.path} can't be removed; make it writable for this user, then `dpbeam recover`"
            )
        with contextlib.suppress(OSError):  # the parent `.staging` goes with its last attempt
            os.rmdir(os.path.dirname(self.path))

    def _marker_path(self, name: str) -> str:
        return f"{self.path}/{name}.agreed"

    def _write(self, path: str, data: bytes | pa.Buffer) -> None:
        if not os.path.isdir(self.path):  # given up and cleared meanwhile: a late worker must not bring it back
            raise RunFailed("the staging folder of this attempt is gone; nothing was published")
        partial = f"{path}.{secrets.token_hex(8)}.partial"
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
