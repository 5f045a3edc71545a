"""Writes the page over a dataset's releases, `<output>/<dataset>/index.html`, once a release is shown.

It comes after the ledger's decision and the rename that shows the release, so neither waits for it, and no failure of
it is one of the release: the next release writes it anew.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path

from dpbeam.errors import DpbeamError
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import SPENT, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.pipelines.lifecycle import catalogue, publish
from dpbeam.reporting.index_page import GENERATOR, Cost, ListedRelease, render_index
from dpbeam.reporting.manifest import MANIFEST_NAME, Manifest

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


def write_index(ledger: Ledger, dataset: str, folder: Path, draft: Path) -> bool:
    """Writes `folder`/index.html over the releases of `dataset` that lie there, whole or not at all. Returns whether
    there are any.

    Guarantee: it lists a release only if its manifest has the digest that the ledger holds for a published charge, and
    shows nothing but what these manifests say, the budget's cap, and what was spent when each of them began, as their
    reports do: of a run that published nothing it shows no more than these. Its time of change is the newest release's
    begin, for when a run ended depends on the data. Of several processes that publish at once, whoever writes last has
    seen all releases.

    Raises:
        FileExistsError: a page lies there that isn't ours.
        OSError: it can't be written.
        UsageError: the folder can't be listed.
        LedgerError: the ledger can't be read.
    """
    target = folder / INDEX_NAME
    if os.path.lexists(target) and not _is_ours(target):
        raise FileExistsError(None, "a page that dpbeam didn't make lies there, and stays")
    for _ in range(_TRIES):
        before = _shown(folder)
        listed = catalogue.releases(folder.parent, ledger, dataset)
        manifests = [each.manifest for each in listed if each.standing == "verified" and each.manifest is not None]
        if not manifests:
            return False
        cap = ledger.balance(dataset).cap
        with draft.open("wb") as file:
            page = render_index(dataset, _spending(ledger.charges(dataset), manifests), _cost(cap))
            file.write(page.encode())
            file.flush()
            os.fsync(file.fileno())
        newest_s = max(publish.begun(each.release_id).timestamp() for each in manifests)
        os.utime(draft, (newest_s, newest_s))
        os.replace(draft, target)
        if _shown(folder) == before:
            break
    return True


def _shown(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))


def _spending(charges: Sequence[Charge], manifests: Sequence[Manifest]) -> list[ListedRelease]:
    """The releases, each with what all charges had cost that began no later than it did, also those that published
    nothing."""
    spent = sorted((each for each in charges if each.state in SPENT), key=_place)
    sums = list(accumulate((each.amount for each in spent), operator.add))
    by_release = {each.release_id: _cost(sum_) for each, sum_ in zip(spent, sums, strict=True)}
    return [ListedRelease.of(each, by_release[each.release_id]) for each in manifests]


def _place(charge: Charge) -> tuple[datetime, int]:
    """Where a charge stands in time: by its run's begin, which has whole seconds, then by its fence."""
    return publish.begun(charge.release_id), charge.fence


def _cost(amount: Amount) -> Cost:
    plain = amount.to_json()
    return Cost(epsilon=plain[amount.meter.field], delta=plain["delta"], symbol=amount.meter.symbol)


def _is_ours(page: Path) -> bool:
    with page.open("rb") as file:
        return GENERATOR.encode() in file.read(_HEAD_BYTES)
