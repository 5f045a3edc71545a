"""Publishing: a folder of files with a manifest, whole or not at all.

All files of a release, the manifest too, are written and synced inside staging, where nobody else can read them; then
the ledger decides; then one rename of the whole folder shows the release. A rename that a kill cut off is finished by
whoever comes next (`complete`), since the ledger already holds the manifest's digest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from dpbeam.errors import RunFailed, UsageError
from dpbeam.ledger.accounts import Charge
from dpbeam.reporting.coverage import of_stage
from dpbeam.reporting.digests import digest, file_digest
from dpbeam.reporting.manifest import MANIFEST_NAME, ChosenBound, Coverage, FileEntry, Manifest, parse_manifest
from dpbeam.reporting.tables import MetricColumn, write_csv, write_parquet
from dpbeam.transforms.wire.staging import NotPrivate, make_private

PENDING_NAME = "manifest.json.pending"
"""What runs of version 0.1.0 called a manifest, among files in the open, until the ledger had decided."""


_BEGUN = "%Y%m%dT%H%M%SZ"


def new_release_id(begun: datetime) -> str:
    """A release's name, which no other has: it begins with the time (UTC) at which its run began."""
    return f"{begun.strftime(_BEGUN)}-{secrets.token_hex(4)}"


def begun(release_id: str) -> datetime:
    """When the run of a release began. When it ended is told nowhere in the release: how long a run takes depends on
    the data, on rows beyond all bounds too, and no noise covers it."""
    return datetime.strptime(release_id.partition("-")[0], _BEGUN).replace(tzinfo=timezone.utc)


def release_folder(charge: Charge) -> Path:
    """Where the charge's release lies, or will.

    Raises:
        ValueError: the charge names no place: no run of ours made it.
    """
    if charge.path is None:
        raise ValueError(f"charge {charge.id} names no folder for its release")
    return Path(charge.path)


def manifest_digest(charge: Charge) -> str:
    """The digest of a published charge's manifest.

    Raises:
        ValueError: the charge isn't published.
    """
    if charge.manifest_sha256 is None:
        raise ValueError(f"charge {charge.id} isn't published, so it has no manifest")
    return charge.manifest_sha256


def write_tables(
    folder: Path,
    tables: Mapping[str, pa.Table],
    metrics: Mapping[str, Sequence[MetricColumn]],
    chosen: Mapping[str, Sequence[ChosenBound]],
    period: str | None = None,
    coverage: Sequence[Coverage] = (),
) -> None:
    """Writes `<stage>.parquet` and `<stage>.csv` of each stage; what `metrics`, `chosen`, `period` and `coverage` say
    goes into the Parquet file."""
    for stage, table in tables.items():
        path = folder / f"{stage}.parquet"
        write_parquet(table, path, metrics[stage], chosen.get(stage, ()), period, of_stage(coverage, stage))
        write_csv(table, folder / f"{stage}.csv")


def entries(folder: Path, rows: Mapping[str, int], *also: str) -> tuple[FileEntry, ...]:
    """What the manifest says of each file in the folder, by name: the tables, whose rows `rows` holds, and `also`.

    Raises:
        RunFailed: the folder holds other files than these: somebody else writes there.
    """
    if {path.name for path in folder.iterdir()} != {*rows, *also}:
        raise RunFailed(f"{folder} doesn't hold the files that were just written, so nothing was published. Run again")
    return tuple(
        FileEntry(path=path.name, sha256=file_digest(path), rows=rows.get(path.name))
        for path in sorted(folder.iterdir())
    )


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Writes the manifest and syncs every file of the release. Returns the manifest's digest.

    Guarantee: the times of change of the files, which copies keep, are that of the run's begin.
    """
    data = manifest.to_bytes()
    (folder / MANIFEST_NAME).write_bytes(data)
    begin_s = begun(manifest.release_id).timestamp()
    for written in (*folder.iterdir(), folder):
        os.utime(written, (begin_s, begin_s))
        _sync(written)
    _sync(folder.parent)
    return digest(data)


def complete(staged: Path, final: Path, manifest_sha256: str) -> bool:
    """Makes a release visible that the ledger holds as published: moves the folder `staged` to `final`, at once. Safe
    to call again, and by several at a time.

    Returns whether it was still to be done.

    Guarantee: a manifest is made visible only beside all files that it lists, each with its digest.

    Raises:
        RunFailed: there is no manifest with this digest, or one of its files is gone or has another digest: somebody
            removed or changed the release. Or the folder can't be moved.
    """
    shown, pending = final / MANIFEST_NAME, final / PENDING_NAME
    if _is_whole(shown, manifest_sha256, final):
        return False
    try:
        if _is_whole(staged / MANIFEST_NAME, manifest_sha256, final):
            _move(staged, final)
            return True
    except RunFailed:
        if _is_whole(shown, manifest_sha256, final):  # another process moved it at the same time
            return False
        raise
    if _is_whole(pending, manifest_sha256, final):
        os.replace(pending, shown)
        _sync(final)
        return True
    if _is_whole(shown, manifest_sha256, final):
        return False
    raise _broken(final, "its manifest")


def check_whole(staged: Path, final: Path, manifest_sha256: str) -> None:
    """Whether `complete` would succeed with a release that the ledger holds as published. Writes nothing.

    Raises:
        RunFailed: as `complete`.
    """
    manifests = (final / MANIFEST_NAME, staged / MANIFEST_NAME, final / PENDING_NAME)
    if not any(_is_whole(manifest, manifest_sha256, final) for manifest in manifests):
        raise _broken(final, "its manifest")


def _is_whole(manifest: Path, manifest_sha256: str, final: Path) -> bool:
    """Whether the manifest is there. Raises RunFailed if a file that it lists isn't as it says."""
    try:
        data = manifest.read_bytes()
    except OSError:
        return False
    if digest(data) != manifest_sha256:
        return False
    for entry in parse_manifest(data.decode()).files:
        try:
            actual = file_digest(manifest.parent / entry.path)
        except OSError:
            actual = ""
        if actual != entry.sha256:
            raise _broken(final, f"its file {entry.path}")
    return True


def _move(staged: Path, final: Path) -> None:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(staged, final)
        _sync(final.parent)
        _sync(staged.parent)
    except OSError as error:
        raise RunFailed(
            f"release {final.name} is made and paid for, but can't be moved to {final} ({error.strerror}); see to it "
            "that it can, then `dpbeam recover` shows it, at no further cost"
        ) from None


def check_output(output: Path, dataset: str, staging: Path) -> None:
    """Sees to it that a release can be staged and shown: the dataset's folder can be written, `staging` is made or is
    there for this user alone, and a folder can be moved from the one to the other.

    Raises:
        UsageError: it can't. (Nothing was charged.)
    """
    folder = output / dataset
    try:
        output.mkdir(mode=0o775, parents=True, exist_ok=True)  # and less by the umask
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # has no name, so a kill leaves none behind
            pass
        if output.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise UsageError(
                f"output folder {output} may be written by every user, who could put a folder of their own in the "
                "place of staging; `chmod o-w` it, or name another with --output. Nothing was charged"
            )
        make_private(str(staging))
        _check_same_system(staging, folder)
        with contextlib.suppress(OSError):  # other runs may be at work there
            staging.rmdir()
    except NotPrivate as error:
        raise UsageError(f"{error}. Nothing was charged") from None
    except OSError as error:
        inside = ": its staging can't be made" if str(staging) in str(error.filename) else ""
        raise UsageError(
            f"output folder {folder} can't be written ({error.strerror}{inside}); name another with --output. "
            "Nothing was charged"
        ) from None


def _check_same_system(staging: Path, folder: Path) -> None:
    """A rename between two mounts fails, even of one file system; and the kernel says so before it looks whether there
    is anything to rename, so that this leaves nothing behind."""
    nothing = f"nothing-{secrets.token_hex(8)}"
    try:
        os.rename(staging / nothing, folder / nothing)
    except OSError as error:
        if error.errno == errno.EXDEV or staging.parent.stat().st_dev != folder.stat().st_dev:
            raise UsageError(
                f"{folder} lies on another file system than {staging}, so a release can't be shown by one rename; name "
                "an output folder that is on one file system with --output. Nothing was charged"
            ) from None
        if error.errno != errno.ENOENT:
            raise


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
