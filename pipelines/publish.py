"""Publishes a release: its tables and facts go in; a folder of files with a manifest comes out, whole or not at all.

A reader that sees no manifest.json sees no release. All other files are written and synced first; then the manifest
under a name of no meaning; then the ledger decides; then one rename makes the release visible. A rename that a kill
cut off is finished by whoever comes next (`complete`), since the ledger already holds the manifest's digest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from dpbeam.errors import RunFailed
from dpbeam.reporting.manifest import MANIFEST_NAME, ChosenBound, FileEntry, Manifest, parse_manifest
from dpbeam.reporting.tables import MetricColumn, write_csv, write_parquet

PENDING_NAME = "manifest.json.pending"


def write_tables(
    folder: Path,
    tables: Mapping[str, pa.Table],
    metrics: Mapping[str, Sequence[MetricColumn]],
    chosen: Mapping[str, Sequence[ChosenBound]],
) -> None:
    """Writes `<stage>.parquet` and `<stage>.csv` of each stage; what `metrics` and `chosen` say goes into the Parquet
    file."""
    for stage, table in tables.items():
        write_parquet(table, folder / f"{stage}.parquet", metrics[stage], chosen.get(stage, ()))
        write_csv(table, folder / f"{stage}.csv")


def entries(folder: Path, rows: Mapping[str, int], *also: str) -> tuple[FileEntry, ...]:
    """What the manifest says of each file in the folder, by name: the tables, whose rows `rows` holds, and `also`.

    Raises:
        RunFailed: the folder holds other files than these: somebody else writes there.
    """
    if {path.name for path in folder.iterdir()} != {*rows, *also}:
        raise RunFailed(f"{folder} doesn't hold the files that were just written, so nothing was published. Run again")
    return tuple(
        FileEntry(path=path.name, sha256=_file_digest(path), rows=rows.get(path.name))
        for path in sorted(folder.iterdir())
    )


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _file_digest(path: Path) -> str:
    """As `digest`, a piece at a time: a result of millions of partitions need not fit in memory again."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def write_pending(folder: Path, manifest: Manifest) -> str:
    """Writes the manifest under its pending name, after syncing every other file. Returns the manifest's digest."""
    data = manifest.to_bytes()
    path = folder / PENDING_NAME
    path.write_bytes(data)
    for written in folder.iterdir():
        _sync(written)
    _sync(folder)
    _sync(folder.parent)
    return digest(data)


def complete(folder: Path, manifest_sha256: str) -> bool:
    """Makes a release visible that the ledger holds as published. Safe to call again.

    Returns whether it was still pending.

    Guarantee: a manifest is made visible only beside all files that it lists, each with its digest.

    Raises:
        RunFailed: the folder holds no manifest with this digest, or one of its files is gone or has another digest:
            somebody removed or changed the release.
    """
    final, pending = folder / MANIFEST_NAME, folder / PENDING_NAME
    for manifest in (final, pending):
        if not manifest.is_file() or digest(data := manifest.read_bytes()) != manifest_sha256:
            continue
        for entry in parse_manifest(data.decode()).files:
            path = folder / entry.path
            if not path.is_file() or digest(path.read_bytes()) != entry.sha256:
                raise _broken(folder, f"its file {entry.path}")
        if manifest == pending:
            os.replace(pending, final)
            _sync(folder)
        return manifest == pending
    raise _broken(folder, "its manifest")


def _broken(folder: Path, what: str) -> RunFailed:
    return RunFailed(
        f"release {folder} was published, but {what} is gone or was changed; what it cost stays spent. "
        "Restore the folder from a backup, or make a new release with --refresh"
    )


def discard(folder: Path) -> None:
    """Removes an unpublished release's folder.

    Raises:
        RunFailed: it holds a manifest: it may have been seen. Or something of it is left.
    """
    if (folder / MANIFEST_NAME).exists():
        raise RunFailed(f"{folder} holds a manifest, so it isn't removed")
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        raise RunFailed(f"{folder} can't be removed; make it writable for this user, then `dpbeam recover`")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
