"""Whether what lies where a charge's run wrote is that run's own, to be removed or published.

A ledger is a file that somebody may have changed with all its hashes, and folders are moved and linked: what `recover`
removes is recognized by more than the ledger's word.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from dpbeam.errors import DpbeamError, RunFailed
from dpbeam.ledger.accounts import Charge
from dpbeam.pipelines.lifecycle import publish
from dpbeam.reporting.digests import digest
from dpbeam.reporting.manifest import MANIFEST_NAME, Manifest, parse_manifest
from dpbeam.transforms.wire.staging import Area, NotPrivate, check_private

_ID = re.compile(r"[0-9a-f]{32}")
_RELEASE = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_FILES = re.compile(r"[a-z][a-z0-9_]{0,63}\.(parquet|csv)|report\.html")


def check_own(charge: Charge, staged: list[Area]) -> None:
    """Looks whether the folders of an unpublished charge are its own.

    Guarantee: after this, `<output>/.staging/<charge>-<attempt>` and, if it is there, `<output>/<dataset>/<release>`
    are no links and lie behind none below the output folder; and the latter holds nothing but files that a run of
    version 0.1.0 wrote of this release. Assumes that nobody changes them meanwhile who may write there.

    Raises:
        RunFailed: they aren't; nothing of them may be removed.
    """
    check_named(charge, staged)
    folder = publish.release_folder(charge)
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or folder.parent.is_symlink() or not folder.is_dir():
        raise _foreign(folder, "is a link, or lies behind one, or is no folder")
    for entry in os.scandir(folder):
        own = _FILES.fullmatch(entry.name) or entry.name == publish.PENDING_NAME
        if not own or not entry.is_file(follow_symlinks=False):
            raise _foreign(folder, "holds other things than files of a release")
    manifest = _manifest(folder / publish.PENDING_NAME)
    if manifest is not None and not _is_of(manifest, charge):
        raise _foreign(folder, "holds another release")


def check_named(charge: Charge, staged: list[Area]) -> None:
    """Looks whether a charge and its release are named as runs name them, and `staged` lies behind no link below the
    output folder.

    Raises:
        RunFailed: it isn't so; nothing of the charge may be removed.
    """
    folder = publish.release_folder(charge)
    named = folder.is_absolute() and folder.name == charge.release_id and folder.parent.name == charge.dataset
    if not named or not _ID.fullmatch(charge.id) or not _RELEASE.fullmatch(charge.release_id):
        raise _foreign(folder, "isn't named as releases and charges are")
    for area in staged:
        if area.left() and Path(area.path).parent.is_symlink():
            raise _foreign(Path(area.path).parent, "is a link")


def pending(charge: Charge, area: Area) -> str | None:
    """The digest of the manifest of a release that is whole and waits in the charge's staging for the ledger's word;
    None if there is none.

    Guarantee: it is what the charge's last attempt was about to publish: its manifest was the last file written, names
    this charge, and every file is the one it lists. It lies in folders that only one user could write.
    """
    folder = Path(area.release)
    try:
        for private in (Path(area.path).parent, folder.parent):
            check_private(str(private), private.lstat().st_uid)
        manifest = _manifest(folder / MANIFEST_NAME)
        if manifest is None or folder.is_symlink() or not _is_of(manifest, charge):
            return None
        rows = {entry.path: entry.rows for entry in manifest.files if entry.rows is not None}
        others = [entry.path for entry in manifest.files if entry.rows is None]
        actual = publish.entries(folder, rows, *others, MANIFEST_NAME)
        listed = {entry.path: entry for entry in manifest.files}
        whole = all(listed.get(entry.path, entry) == entry for entry in actual)
        return digest((folder / MANIFEST_NAME).read_bytes()) if whole else None
    except (OSError, NotPrivate, RunFailed):
        return None


def _manifest(path: Path) -> Manifest | None:
    """The manifest; None if there is none that is whole."""
    try:
        return None if path.is_symlink() else parse_manifest(path.read_bytes().decode())
    except (OSError, UnicodeError, DpbeamError):
        return None


def _is_of(manifest: Manifest, charge: Charge) -> bool:
    stated = (manifest.charge.id, manifest.release_id, manifest.dataset, manifest.policy_digest)
    return stated == (charge.id, charge.release_id, charge.dataset, charge.policy_digest)


def _foreign(folder: Path, why: str) -> RunFailed:
    return RunFailed(
        f"{folder} {why}, so it isn't removed, though the ledger names it for a run that broke off. Look what it is; "
        "remove what that run left by hand"
    )
