"""The releases of an output folder, as their manifests tell of them and a ledger confirms.

A listing is quick: it compares each manifest's digest with the ledger's, and reads no table. `dpbeam certify` checks a
release's files and its guarantee.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpbeam.errors import UsageError
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.reporting.digests import digest
from dpbeam.reporting.manifest import MANIFEST_NAME, Manifest, known_manifest, parse_manifest

Standing = Literal["verified", "changed", "unknown", "unchecked", "unreadable", "gone"]
"""What is known of a manifest: its digest is the ledger's; the ledger has another one; the ledger has published no such
release; there is no ledger to ask; it isn't whole; it isn't there, and the ledger says that it was published here."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A release in an output folder. `manifest` is None where it is unreadable or gone."""

    dataset: str
    release_id: str
    folder: Path
    standing: Standing
    manifest: Manifest | None

    def __post_init__(self) -> None:
        if (self.manifest is None) != (self.standing in ("unreadable", "gone")):
            raise ValueError(f"a release that is {self.standing} can't have the manifest {self.manifest}")

    def to_json(self) -> dict[str, Any]:
        """An entry of what `dpbeam releases --json` prints; see docs/formats.md."""
        plain = {} if self.manifest is None else self.manifest.to_json()
        told = ("release_name", "period", "created", "policy_digest", "guarantee", "charge")
        return {
            "dataset": self.dataset,
            "release_id": self.release_id,
            "path": str(self.folder),
            "standing": self.standing,
            **{name: plain.get(name) for name in told},
        }


def releases(output: Path, ledger: Ledger | None, dataset: str | None = None) -> list[Listed]:
    """The releases in an output folder, of one dataset or of all, by dataset and time.

    Raises:
        UsageError: there is no such folder, or it can't be listed.
        LedgerError: the ledger can't be read, or doesn't verify.
    """
    found = {folder for of in _folders(output) if dataset in (None, of.name) for folder in _folders(of)}
    published: dict[tuple[str, str], Charge] = {}
    if ledger is not None:
        known = set(ledger.datasets())
        wanted = sorted(known) if dataset is None else sorted({dataset} & known)
        for charge in (charge for name in wanted for charge in ledger.charges(name) if charge.state == "PUBLISHED"):
            published[charge.dataset, charge.release_id] = charge
    listed = [_listed(folder, published, asked=ledger is not None) for folder in found]
    there = {(each.dataset, each.release_id) for each in listed}
    listed += [
        Listed(dataset=of, release_id=name, folder=output / of / name, standing="gone", manifest=None)
        for (of, name), charge in published.items()
        if (of, name) not in there and Path(charge.path or "").parent == (output / of).absolute()
    ]
    return sorted(listed, key=lambda each: (each.dataset, each.release_id))


def releases_json(listed: Sequence[Listed]) -> dict[str, Any]:
    """What `dpbeam releases --json` prints."""
    known = (each.manifest for each in listed if each.manifest is not None)
    other = any(manifest.charge.meter != "basic" for manifest in known)
    return {"version": 2 if other else 1, "releases": [each.to_json() for each in listed]}


def _folders(of: Path) -> list[Path]:
    """The folders in one that aren't hidden: staging is, and no release."""
    try:
        return [Path(entry.path) for entry in os.scandir(of) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        reason = error.strerror
    except ValueError:
        reason = "no path has a NUL in it"
    raise UsageError(f"folder {of} can't be listed ({reason}); name the folder of releases with --output")


def _listed(folder: Path, published: Mapping[tuple[str, str], Charge], *, asked: bool) -> Listed:
    dataset, release_id = folder.parent.name, folder.name
    charge = published.get((dataset, release_id))
    try:
        data = (folder / MANIFEST_NAME).read_bytes()
        if charge is not None and digest(data) == charge.manifest_sha256:
            manifest = known_manifest(data)
            return Listed(dataset=dataset, release_id=release_id, folder=folder, standing="verified", manifest=manifest)
        manifest = parse_manifest(data.decode("utf-8"))
        if (manifest.dataset, manifest.release_id) != (dataset, release_id):
            raise ValueError("it is of another release")
    except FileNotFoundError:
        standing: Standing = "gone" if charge is not None else "unreadable"
        return Listed(dataset=dataset, release_id=release_id, folder=folder, standing=standing, manifest=None)
    except (OSError, ValueError):
        return Listed(dataset=dataset, release_id=release_id, folder=folder, standing="unreadable", manifest=None)
    standing = "unchecked" if not asked else "unknown" if charge is None else "changed"
    return Listed(dataset=dataset, release_id=release_id, folder=folder, standing=standing, manifest=manifest)
