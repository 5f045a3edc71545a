"""Settles what kills left behind: each charge without a living run ends published whole, or closed as spent.

The whole ledger is verified first, and charges are taken from its journal. A reserved charge is given back (nothing was
read). A started one whose release is whole, and waits for the ledger's word alone, is published. Any other is closed
first, so that its run can't publish any more, then its files are removed; a closed one that still has files loses them.
A published one whose last rename is missing gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpbeam.errors import DpbeamError, RunFailed, UsageError
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import OPEN, Charge
from dpbeam.ledger.owner import alive
from dpbeam.pipelines.lifecycle import index, publish
from dpbeam.pipelines.lifecycle.attempts import clear, left_behind, staging_area
from dpbeam.pipelines.lifecycle.ownership import check_named, pending


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What became of a charge: `outcome` is refunded, closed, cleared (it was closed before, and had files left),
    published, running or unknown (another host)."""

    charge: Charge
    outcome: str


def recover(ledger: Ledger, *, charge_id: str | None = None, force: bool = False) -> list[Settled]:
    """Settles the open charges whose process is gone, and finishes published releases. Safe to run at any time.

    `force` settles `charge_id` though its process lives or can't be asked; a run that is alive after all then finds
    its fence lost and publishes nothing.

    Raises:
        UsageError: `force` without a charge, or a charge that the ledger doesn't know.
        LedgerError: the ledger doesn't verify; nothing was settled.
        RunFailed: files of a charge can't be removed or aren't its own, or can't be moved to where they are seen; all
            else was settled.
    """
    if force and charge_id is None:
        raise UsageError("--force must name one charge with --charge; `dpbeam budget history` lists them")
    charges = ledger.charges()
    if charge_id is not None and charge_id not in {charge.id for charge in charges}:
        raise UsageError(
            f"--charge must be the whole id of a charge of this ledger, got {charge_id!r}; "
            "`dpbeam budget history DATASET --json` lists them, --ledger names another ledger"
        )
    settled: list[Settled] = []
    left: list[RunFailed] = []
    charges = [charge for charge in charges if charge_id in (None, charge.id)]
    for charge in charges:
        if charge.state == "PUBLISHED" and _finish(ledger, charge, left):
            settled.append(Settled(charge=charge, outcome="published"))
    for charge in charges:
        if charge.state == "SPENT_UNPUBLISHED" and charge.path is not None and left_behind(charge):
            settled.append(Settled(charge=charge, outcome="cleared"))
            _clear(charge, left)
    for charge in charges:
        if charge.state in OPEN:
            settled.append(_settle(ledger, charge, left, force=force))
    if left:
        raise left[0]
    return settled


def _finish(ledger: Ledger, charge: Charge, left: list[RunFailed]) -> bool:
    area = staging_area(charge)
    folder = publish.release_folder(charge)
    if not area.left() and not (folder / publish.PENDING_NAME).is_file():
        return False
    try:
        check_named(charge, [area])
        shown = publish.complete(Path(area.release), folder, publish.manifest_digest(charge))
        index.refresh(ledger, charge, Path(area.beside_release(index.INDEX_NAME)))
        area.remove_shards()
    except DpbeamError as error:
        # Removed or changed by its owner after it was published: nothing to finish, unless it was never shown.
        if isinstance(error, RunFailed) and Path(area.release).exists():
            left.append(error)
        return False
    area.remove_empty()
    return shown


def _clear(charge: Charge, left: list[RunFailed]) -> None:
    try:
        if charge.path is not None:
            clear(charge)
    except RunFailed as error:
        left.append(error)


def _settle(ledger: Ledger, charge: Charge, left: list[RunFailed], *, force: bool) -> Settled:
    living = alive(charge.owner) and not charge.failed if not force else False
    if living is None:
        return Settled(charge=charge, outcome="unknown")
    if living:
        return Settled(charge=charge, outcome="running")
    if charge.state == "RESERVED":
        return Settled(charge=ledger.refund(charge), outcome="refunded")
    if charge.path is not None and not charge.failed and (digest := pending(charge, staging_area(charge))) is not None:
        published = ledger.publish(charge, manifest_sha256=digest)
        _finish(ledger, published, left)
        return Settled(charge=published, outcome="published")
    closed = ledger.close(charge)
    _clear(closed, left)
    return Settled(charge=closed, outcome="closed")
