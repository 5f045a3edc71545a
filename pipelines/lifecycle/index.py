"""Writes the page over a dataset's releases, `<output>/<dataset>/index.html`, once a release is shown.

It comes after the ledger's decision and the rename that shows the release, so neither waits for it, and no failure of
it is one of the release: the next release writes it anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from dpbeam.errors import DpbeamError
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import Charge
from dpbeam.pipelines.lifecycle import publish
from dpbeam.reporting.digests import digest
from dpbeam.reporting.index_page import GENERATOR, ListedRelease, render_index
from dpbeam.reporting.manifest import MANIFEST_NAME, Guarantee
from dpbeam.reporting.manifest import Charge as StatedCharge

INDEX_NAME = "index.html"
_HEAD_BYTES = 4096
_TRIES = 5


def refresh(ledger: Ledger, charge: Charge, draft: Path) -> str | None:
    """Writes the page of the dataset whose release `charge` paid for. Returns why it couldn't, if so. `draft` is where
    it is written before one rename shows it; nobody else may write there."""
    try:
        write_index(ledger, charge.dataset, publish.release_folder(charge).parent, draft)
    except OSError as error:
        return error.strerror or type(error).__name__
    except DpbeamError as error:
        return str(error)
    return None


def write_index(ledger: Ledger, dataset: str, folder: Path, draft: Path) -> None:
    """Writes `folder`/index.html over the releases of `dataset` that lie there, whole or not at all.

    Guarantee: it lists a release only if its manifest has the digest that the ledger holds for a published charge, and
    shows nothing but what these manifests say. Its time of change is the newest release's begin, for when a run ended
    depends on the data. Of several processes that publish at once, whoever writes last has seen all releases.

    Raises:
        FileExistsError: a page lies there that isn't ours.
        OSError: it can't be written.
        LedgerError: the ledger can't be read.
    """
    target = folder / INDEX_NAME
    if os.path.lexists(target) and not _is_ours(target):
        raise FileExistsError(None, "a page that dpbeam didn't make lies there, and stays")
    for _ in range(_TRIES):
        before = _shown(folder)
        releases = list(_releases(ledger, dataset, folder, before))
        if not releases:
            return
        with draft.open("wb") as file:
            file.write(render_index(dataset, releases).encode())
            file.flush()
            os.fsync(file.fileno())
        newest_s = max(publish.begun(each.release_id).timestamp() for each in releases)
        os.utime(draft, (newest_s, newest_s))
        os.replace(draft, target)
        if _shown(folder) == before:
            return


def _shown(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))


def _releases(ledger: Ledger, dataset: str, folder: Path, names: list[str]) -> Iterator[ListedRelease]:
    paid = {charge.release_id: charge for charge in ledger.charges(dataset) if charge.state == "PUBLISHED"}
    for name in names:
        charge = paid.get(name)
        try:
            data = (folder / name / MANIFEST_NAME).read_bytes()
        except OSError:
            continue
        if charge is None or digest(data) != charge.manifest_sha256:
            continue
        said = json.loads(data)  # as our own run wrote it, by its digest
        yield ListedRelease(
            release_id=name,
            release_name=said["release_name"],
            created=said["created"],
            guarantee=Guarantee(**said["guarantee"]),
            charge=StatedCharge(**said["charge"]),
        )


def _is_ours(page: Path) -> bool:
    with page.open("rb") as file:
        return GENERATOR.encode() in file.read(_HEAD_BYTES)
