"""A charge's attempts: where each stages its results, what becomes of one that breaks off, what is left of it.

Guarantee: of one charge, whoever is not the run's own user sees one draw of each value at most. All draws of an attempt
lie in its staging, which nobody else can read (`dpbeam.transforms.wire.staging`), until the ledger has decided that
this attempt is the release; then one rename shows them, and no other attempt begins any more. It begins under a new
fence, which stops all earlier ones from publishing, and draws only after everything that they staged was removed, and
looked for again. So a kill between any two of these steps leaves at most what `recover` or the next attempt finds and
removes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

from dpbeam.errors import (
    DataError,
    DpbeamError,
    InternalError,
    LedgerError,
    Refused,
    RunFailed,
    Spent,
    Undecided,
    UsageError,
)
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import OPEN, Charge
from dpbeam.ledger.entries import AttemptFailed, Reason
from dpbeam.ledger.refusals import FenceLost, Unavailable
from dpbeam.pipelines.lifecycle import ownership, publish, stopping
from dpbeam.transforms.wire.confidants import confide
from dpbeam.transforms.wire.staging import Area

STAGING_NAME = ".staging"
COVERAGE: Reason = "coverage"
TELLING_TRIES = 10
"""How often a finished run asks a ledger that others keep locked: a minute each time."""


def staging_area(charge: Charge) -> Area:
    """Where an attempt stages its results: beside the dataset's releases, under a name no other attempt has."""
    parent = publish.release_folder(charge).parent.parent / STAGING_NAME
    attempt = f"{charge.id}-{charge.attempt}"
    return Area(path=str(parent / attempt), attempt=attempt)


class journalled:
    """Journals why an attempt failed, clears what it left, and lets its error go on, with what stays spent. None is a
    refusal: the run was charged.

    `drawn` marks steps that work on what was drawn. That such a step fails, and where, may follow from the draws, and
    is seen; so the charge is closed then, unless it is the machine, the ledger or the staged files that failed it.

    Guarantee: after a failure that may tell of draws no other attempt of the charge draws again.
    """

    def __init__(self, ledger: Ledger, charge: Charge, reason: Reason, *, drawn: bool = False) -> None:
        self._ledger, self._charge, self._reason, self._drawn = ledger, charge, reason, drawn

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, stopping.ENDS):  # of a signal `settle_stopped` takes care, for all steps
            return
        if isinstance(error, Undecided):
            raise error.knowing(spent=close(self._ledger, self._charge)) from None
        spent: Spent | None
        if self._drawn and not isinstance(error, OSError | LedgerError | RunFailed):
            spent = close(self._ledger, self._charge)
        else:
            spent = fail(self._ledger, self._charge, "data_rule" if isinstance(error, DataError) else self._reason)
        if isinstance(error, OSError):
            text = os.strerror(error.errno) if error.errno else type(error).__name__
            confide("writing the release", error)
            failed = RunFailed(f"the release's files can't be written ({text}); nothing was published")
            raise failed.knowing(spent=spent) from None
        if isinstance(error, UsageError | Refused):  # of a plan that the run made anew: by then it was charged
            raise RunFailed(*error.message, remedy=error.remedy).knowing(spent=spent) from None
        if isinstance(error, RunFailed | LedgerError):
            raise error.knowing(spent=spent) from None
        if not isinstance(error, DpbeamError):
            confide("the run", error)
            raise InternalError.of(error).knowing(spent=spent) from None


def fail(ledger: Ledger, charge: Charge, reason: Reason) -> Spent | None:
    """Clears what a failed attempt left, and journals it. Returns what stays spent; None if another attempt has taken
    over.

    Raises:
        FenceLost: another attempt has taken over, or the run was given up; see `Ledger`.
    """
    with stopping.held():
        spent: Spent | None = what_is_spent(charge)
        with suppress(RunFailed):  # what can't be removed now is found by the next attempt, or by `recover`
            now = ledger.charge(charge.id)
            if now is not None and now.fence != charge.fence:
                spent = None
                give_way(charge)
            else:
                clear(charge)
        ledger.fail_attempt(charge, reason)
    return spent


def close(ledger: Ledger, charge: Charge) -> Spent:
    """Gives a charge up whose draws have told something by themselves, and clears what its attempts left.

    Guarantee: when it returns, no attempt of this charge begins any more, so that nothing is drawn a second time.

    Raises:
        FenceLost: another attempt has taken over, or the run was given up; see `Ledger`.
    """
    with stopping.held():
        ledger.close(charge)
        with suppress(RunFailed):  # what can't be removed now is found by `recover`
            clear(charge)
    return replace(what_is_spent(charge), closed=True)


def record_published(ledger: Ledger, charge: Charge, manifest_sha256: str) -> Charge:
    """Tells the ledger that the charge's release is out. A run that has come so far is patient.

    Raises:
        FenceLost: the run was given up; what it left is removed.
        LedgerError: the ledger can't be told; what is to be published stays, for `recover` or the next attempt.
    """
    try:
        for _ in range(TELLING_TRIES - 1):
            with suppress(Unavailable):
                return ledger.publish(charge, manifest_sha256=manifest_sha256)
            if stopping.asked():
                break
        return ledger.publish(charge, manifest_sha256=manifest_sha256)
    except FenceLost:
        give_way(charge)
        raise
    except LedgerError as error:
        # Whatever stops the ledger's answer, its state decides what happened: nothing is cleared here.
        raise LedgerError(
            f"{error}. The release is made and paid for: once that is mended, `dpbeam recover`, or the same command, "
            "shows it at no further cost"
        ) from None


def settle_stopped(ledger: Ledger, charge: Charge | None) -> tuple[str, Spent | None]:
    """What is to be done for a run that a signal stopped: gives back what was only held, removes what was staged and
    journals the attempt. Returns what became of its charge, in words, and what stays spent, if the charge is open.

    Raises:
        LedgerError: the ledger can't be asked.
        RunFailed: something staged can't be removed; the attempt isn't journalled then, so that `recover` finds it.
    """
    now = None if charge is None else ledger.charge(charge.id)
    if charge is None or now is None:
        return "nothing was charged", None
    if now.fence != charge.fence or now.state not in OPEN:
        if now.state != "PUBLISHED":
            give_way(charge)
        return f"charge {charge.id} is {now.state} now; `dpbeam budget history {charge.dataset}` says how", None
    if now.state == "RESERVED":
        ledger.refund(now)
        return "nothing was charged", None
    clear(charge)
    ledger.fail_attempt(charge, "interrupted")
    what = "nothing was published, and what was staged is removed. `dpbeam recover` closes the charge"
    return what, what_is_spent(charge)


def what_is_spent(charge: Charge) -> Spent:
    """What an attempt that broke off has cost, and what another one will."""
    amount = charge.amount.to_json()
    return Spent(
        charge=charge.id,
        dataset=charge.dataset,
        amount=str(charge.amount),
        epsilon=amount["epsilon"],
        delta=amount["delta"],
        attempt=charge.attempt,
        max_attempts=charge.max_attempts,
    )


def clear(charge: Charge) -> None:
    """Removes what all attempts of an unpublished charge left: staging, and the folder without a manifest that a run of
    version 0.1.0 may have left in the open.

    Only for who holds the charge's fence, or where the charge is closed.

    Raises:
        RunFailed: something can't be removed, isn't this charge's own, or the folder holds a manifest.
    """
    areas = [staging_area(replace(charge, attempt=attempt)) for attempt in range(1, charge.attempt + 1)]
    ownership.check_own(charge, areas)
    for area in areas:
        area.remove()
    publish.discard(publish.release_folder(charge))


def left_behind(charge: Charge) -> bool:
    """Whether an unpublished charge's attempts left anything that `clear` removes."""
    areas = [staging_area(replace(charge, attempt=attempt)) for attempt in range(1, charge.attempt + 1)]
    return any(area.left() for area in areas) or os.path.lexists(publish.release_folder(charge))


def refuse_coverage(ledger: Ledger, charge: Charge, told: tuple[str, ...]) -> Spent:
    """Closes a charge whose run found less coverage than the policy's floor: no attempt under it draws again, so that
    of the figures that were refused there is one draw. The journal keeps what was `told` of them. Returns what stays
    spent.

    It is journalled before it is closed: a run that is killed in between is closed by who comes next
    (`coverage_refusal`).

    Raises:
        LedgerError: the ledger can't be told; nobody has seen the figures.
    """
    with stopping.held():
        ledger.fail_attempt(charge, COVERAGE, told)
        return close(ledger, charge)


def coverage_refusal(ledger: Ledger, charge: Charge) -> AttemptFailed | None:
    """What the journal says of an attempt of the charge that found less coverage than the policy's floor, if one
    did."""
    facts = (entry.fact for entry in ledger.history(charge.dataset))
    failed = (fact for fact in facts if isinstance(fact, AttemptFailed) and fact.charge_id == charge.id)
    return next((fact for fact in failed if fact.reason == COVERAGE), None)


def give_way(charge: Charge) -> None:
    """Removes what this attempt left, after it was given up: its own alone, for another may be at work."""
    staging_area(charge).remove()
