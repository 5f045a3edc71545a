"""A charge's attempts: where each stages its results, what becomes of one that breaks off, what is left of it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dpbeam.errors import DataError, RunFailed
from dpbeam.ledger import Ledger
from dpbeam.ledger.model import Charge, Reason
from pipelines import publish
from transforms.staging import Area


def staging_area(charge: Charge) -> Area:
    """Where an attempt stages its results: beside the dataset's releases, under a name no other attempt has."""
    parent = Path(charge.path).parent.parent / ".staging"
    attempt = f"{charge.id}-{charge.attempt}"
    return Area(path=str(parent / attempt), attempt=attempt)


class journalled:
    """Journals why an attempt failed, clears what it left, and lets its error go on."""

    def __init__(self, ledger: Ledger, charge: Charge, reason: Reason) -> None:
        self._ledger, self._charge, self._reason = ledger, charge, reason

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        with suppress(RunFailed):  # what can't be removed now is found by the next attempt, or by `recover`
            now = self._ledger.charge(self._charge.id)
            if now is not None and now.fence != self._charge.fence:
                give_way(self._charge, now)
            else:
                clear(self._charge)
        reason: Reason = "data_rule" if isinstance(error, DataError) else self._reason
        if isinstance(error, KeyboardInterrupt):
            reason = "interrupted"
        self._ledger.fail_attempt(self._charge, reason)
        if isinstance(error, OSError):
            text = os.strerror(error.errno) if error.errno else type(error).__name__
            raise RunFailed(f"the release's files can't be written ({text}); nothing was published") from None


def clear(charge: Charge) -> None:
    """Removes what all attempts of an unpublished charge left: staging, and the folder without a manifest.

    Only for who holds the charge's fence, or where the charge is closed.

    Raises:
        RunFailed: something can't be removed, or the folder holds a manifest.
    """
    for attempt in range(1, charge.attempt + 1):
        staging_area(replace(charge, attempt=attempt)).remove()
    publish.discard(Path(charge.path))


def left_behind(charge: Charge) -> bool:
    """Whether an unpublished charge's attempts left anything that `clear` removes."""
    areas = [staging_area(replace(charge, attempt=attempt)).path for attempt in range(1, charge.attempt + 1)]
    return any(os.path.lexists(path) for path in (*areas, charge.path))


def give_way(charge: Charge, now: Charge) -> None:
    """Removes what this attempt left, after it was given up: the folder only if no other attempt may write there."""
    if now.state == "SPENT_UNPUBLISHED":
        clear(charge)
    else:
        staging_area(charge).remove()
