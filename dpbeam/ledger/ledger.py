"""Requests for budget come in; charges, balances and histories go out. Each method is one transaction of the store.

    RESERVED ──start──▶ STARTED ──publish──▶ PUBLISHED
        │                 │  ▲
     release            close└─retry
        ▼                 ▼
    RELEASED      SPENT_UNPUBLISHED

From STARTED on the amount is spent for good; RESERVED → RELEASED is the only refund.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal

from dpbeam.errors import LedgerError, UsageError
from dpbeam.ledger import outcomes
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.journal import BrokenJournal, entry_hash, replay
from dpbeam.ledger.model import (
    GENESIS,
    METERS,
    OPEN,
    REASONS,
    SPENT,
    Balance,
    Budget,
    Charge,
    JournalEntry,
    Kind,
    Meter,
    Reason,
    State,
    check_dataset,
)  # fmt: skip
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.sqlite_file import ledger_id
from dpbeam.ledger.store import Store, Transaction


def utc_now() -> datetime:
    """The time that journal entries carry; nothing is decided by it."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The ledger's rules over a store. Open one with `dpbeam.ledger.open_ledger`.

    Guarantee: `spent` of a dataset is at least the sum of the amounts of all its runs that were started, at every
    moment and after any kill, and `spent` + `held` never exceeds the cap. Assumes that a run reads no sensitive byte
    before `start` has returned, and publishes nothing after a call was refused.
    """

    store: Store

    def secret(self) -> bytes:
        """32 random bytes made with the ledger; they key the input's fingerprint. Never shown."""
        return self.store.secret

    def create_budget(self, dataset: str, cap: Amount, meter: Meter = "basic", *, actor: str = "") -> Balance:
        """Gives a dataset its budget: the one explicit act that makes a cap.

        Raises:
            UsageError: a bad dataset name, meter or actor.
            Refused: the dataset has a budget already, the same or another.
        """
        if meter not in METERS:
            raise UsageError(f"meter must be one of {', '.join(METERS)}, got {meter!r}")
        if not isinstance(actor, str) or len(actor) > 256:
            raise UsageError(f"actor must be text of at most 256 characters, got {actor!r}")
        with self.store.write() as tx:
            known = tx.budget(_dataset(dataset))
            if known is not None:
                raise outcomes.budget_exists(dataset, cap, known.balance)
            if tx.last_entry(dataset) is not None:
                raise outcomes.unverifiable(self.store.place, f"dataset {dataset} has a history but no budget")
            balance = Balance(meter=meter, cap=cap, spent=ZERO, held=ZERO)
            details = {"meter": meter, "actor": actor, "ledger": ledger_id(self.store.secret)}
            entry = _entry(dataset, None, "budget_created", cap, details)
            tx.insert_budget(Budget(dataset=dataset, balance=balance, head_seq=entry.seq, head_hash=entry.hash))
            tx.append(entry)
        return balance

    def datasets(self) -> list[str]:
        """The datasets that have a budget, sorted."""
        with self.store.read() as tx:
            return tx.datasets()

    def balance(self, dataset: str) -> Balance:
        """What the dataset may spend, has spent, holds and has left, after verifying its history."""
        with self.store.read() as tx:
            return self._verified(tx, dataset).balance

    def history(self, dataset: str) -> list[JournalEntry]:
        """The dataset's journal, oldest entry first."""
        with self.store.read() as tx:
            self._budget(tx, dataset)
            return tx.entries(dataset)

    def charge(self, charge_id: str) -> Charge | None:
        """The charge as it stands now."""
        with self.store.read() as tx:
            return tx.charge(charge_id)

    def find(self, dataset: str, key: str) -> Charge | None:
        """The charge that answers an idempotency key: the unfinished one, else the newest published, else the newest
        spent without publishing; None if there is none, or released ones only."""
        with self.store.read() as tx:
            return _answer(tx.charges(dataset, key=key))

    def open_charges(self, dataset: str | None = None) -> list[Charge]:
        """The RESERVED and STARTED charges of a dataset, or of all."""
        with self.store.read() as tx:
            return [charge for charge in tx.charges(dataset) if charge.state in OPEN]

    def published_charges(self, dataset: str | None = None) -> list[Charge]:
        """The PUBLISHED charges of a dataset, or of all: a kill may have left the last rename of one to be done."""
        with self.store.read() as tx:
            return [charge for charge in tx.charges(dataset) if charge.state == "PUBLISHED"]

    def closed_charges(self, dataset: str | None = None) -> list[Charge]:
        """The SPENT_UNPUBLISHED charges of a dataset, or of all: a kill may have left files of one to be removed."""
        with self.store.read() as tx:
            return [charge for charge in tx.charges(dataset) if charge.state == "SPENT_UNPUBLISHED"]

    def verify(self, dataset: str | None = None) -> int:
        """Replays the journal of a dataset, or of all, and compares it with every balance and charge.

        Returns:
            The number of journal entries verified.
        Raises:
            LedgerError: the first entry, balance or charge that doesn't fit.
        """
        with self.store.read() as tx:
            tx.check_integrity()
            if dataset is not None:
                return self._verified(tx, dataset).head_seq
            orphans = set(tx.journal_datasets()) | {c.dataset for c in tx.charges()}
            for orphan in sorted(orphans - set(tx.datasets())):
                raise outcomes.unverifiable(self.store.place, f"dataset {orphan} has a history but no budget")
            return sum(self._verified(tx, each).head_seq for each in tx.datasets())

    def reserve(
        self,
        dataset: str,
        key: str,
        amount: Amount,
        *,
        owner: Owner,
        policy_digest: str,
        release_id: str,
        path: str | None = None,
        max_attempts: int = 3,
        cap_stated: Amount | None = None,
        refresh: bool = False,
    ) -> Charge:
        """Holds `amount` of the dataset's budget for one run, after verifying the dataset's whole history.

        `key` is the idempotency key, `cap_stated` the policy's own statement of the cap, `path` where the release
        will lie. `refresh` asks for a new charge although a release of this key is published.

        Raises:
            UsageError: an argument that can't be recorded.
            LedgerError: no budget, or the history doesn't verify.
            KeyTaken: a run of this key is unfinished, or published (and not `refresh`).
            Refused: the policy states another cap, or too little is left.
        """
        with self.store.write() as tx:
            budget = self._verified(tx, dataset)
            balance = budget.balance
            if cap_stated is not None and cap_stated != balance.cap:
                raise outcomes.cap_differs(dataset, cap_stated, balance.cap)
            taken = _answer(tx.charges(dataset, key=key))
            if taken is not None and (taken.state in OPEN or (taken.state == "PUBLISHED" and not refresh)):
                raise outcomes.KeyTaken(taken)
            if not amount.fits(balance.left):
                raise outcomes.not_enough(dataset, amount, balance)
            try:
                if ZERO.epsilon in (amount.epsilon, amount.delta):
                    raise ValueError(f"amount must be above 0 in epsilon and delta, got {amount}")
                charge = Charge(
                    id=secrets.token_hex(16),
                    dataset=dataset,
                    key=key,
                    amount=amount,
                    state="RESERVED",
                    fence=tx.last_fence() + 1,
                    attempt=1,
                    max_attempts=max_attempts,
                    owner=owner,
                    release_id=release_id,
                    policy_digest=policy_digest,
                    path=path,
                )
            except ValueError as error:
                raise UsageError(str(error)) from None
            details = {
                "key": key,
                "owner": owner.to_json(),
                "policy_digest": policy_digest,
                "release_id": release_id,
                "path": path,
                "max_attempts": max_attempts,
            }
            tx.insert_charge(charge)
            self._record(tx, budget, replace(balance, held=balance.held + amount), charge, "reserved", details)
        return charge

    def start(self, charge: Charge) -> Charge:
        """RESERVED → STARTED. When this returns, the amount is spent for good, and the run may read its data."""
        return self._advance(charge, "RESERVED", "STARTED", "started", {})

    def release(self, charge: Charge | str) -> Charge:
        """RESERVED → RELEASED: gives back what was held, for nothing was read."""
        return self._advance(charge, "RESERVED", "RELEASED", "released", {}, new_fence=True)

    def publish(self, charge: Charge, *, manifest_sha256: str, path: str | None = None) -> Charge:
        """STARTED → PUBLISHED; only for the run that holds the charge's fence. `path` defaults to the reserved one."""
        path = charge.path if path is None else path
        details = {"manifest_sha256": manifest_sha256, "path": path}
        return self._advance(
            charge, "STARTED", "PUBLISHED", "published", details, manifest_sha256=manifest_sha256, path=path
        )

    def close(self, charge: Charge | str) -> Charge:
        """STARTED → SPENT_UNPUBLISHED: gives the run up; its amount stays spent.

        A `Charge` is closed by its own run (its fence is checked), an id by whoever settles a broken run.
        """
        return self._advance(charge, "STARTED", "SPENT_UNPUBLISHED", "closed", {}, new_fence=True)

    def retry(self, charge: Charge | str, owner: Owner, *, staging_gone: Literal[True]) -> Charge:
        """STARTED → STARTED under a new fence: one more attempt under the same charge.

        Guarantee: the earlier attempt can't publish any more. The caller vouches, by `staging_gone=True`, that
        nothing of it is left before the new attempt draws, so that only one draw of the noise is ever seen. (It is
        removed after this call, under the new fence: else it might be what another attempt is just writing.)
        """
        if staging_gone is not True:
            raise UsageError("staging_gone must be True: remove the staging of the earlier attempt before a new draw")
        with self.store.write() as tx:
            now, budget = self._held_by(tx, charge, "STARTED", "retried")
            if now.attempt >= now.max_attempts:
                raise outcomes.no_attempts(now)
            taken = replace(now, attempt=now.attempt + 1, fence=tx.last_fence() + 1, owner=owner, failed=False)
            tx.update_charge(taken)
            details = {"attempt": taken.attempt, "owner": owner.to_json()}
            self._record(tx, budget, budget.balance, taken, "retried", details)
        return taken

    def fail_attempt(self, charge: Charge, reason: Reason) -> Charge:
        """Notes in the journal that the attempt failed; the charge stays STARTED, to be retried or closed."""
        if reason not in REASONS:
            raise UsageError(f"reason must be one of {', '.join(REASONS)}, got another word")
        details = {"attempt": charge.attempt, "reason": reason}
        return self._advance(charge, "STARTED", "STARTED", "attempt_failed", details, failed=True)

    def _advance(
        self,
        charge: Charge | str,
        before: State,
        after: State,
        kind: Kind,
        details: Mapping[str, Any],
        *,
        new_fence: bool = False,
        **changes: Any,
    ) -> Charge:
        """Takes a charge one state on, and its dataset's balance with it."""
        with self.store.write() as tx:
            now, budget = self._held_by(tx, charge, before, kind)
            fence = tx.last_fence() + 1 if new_fence else now.fence
            try:
                moved = replace(now, state=after, fence=fence, **changes)
            except ValueError as error:
                raise UsageError(str(error)) from None
            tx.update_charge(moved)
            self._record(tx, budget, _moved(budget.balance, now, moved), moved, kind, details)
        return moved

    def _held_by(self, tx: Transaction, charge: Charge | str, state: State, step: str) -> tuple[Charge, Budget]:
        """The charge as it stands, if the caller's fence is the latest and it is in `state`; and its budget."""
        charge_id = charge if isinstance(charge, str) else charge.id
        now = tx.charge(charge_id)
        if now is None:
            raise LedgerError(
                f"the ledger {self.store.place} has no charge {charge_id}; name the ledger that the run was charged to"
            )
        if isinstance(charge, Charge) and charge.fence != now.fence:
            raise outcomes.FenceLost(charge, now)
        if now.state != state:
            raise outcomes.wrong_state(now, state, _DONE[step])
        return now, self._headed(tx, now.dataset)

    def _record(
        self, tx: Transaction, budget: Budget, balance: Balance, charge: Charge, kind: Kind, details: Mapping[str, Any]
    ) -> None:
        """Appends an entry to the dataset's chain, and moves its balance and head along."""
        entry = _entry(budget.dataset, budget, kind, charge.amount, details, charge=charge)
        tx.append(entry)
        tx.update_budget(Budget(dataset=budget.dataset, balance=balance, head_seq=entry.seq, head_hash=entry.hash))

    def _budget(self, tx: Transaction, dataset: str) -> Budget:
        budget = tx.budget(_dataset(dataset))
        if budget is None:
            raise outcomes.no_budget(dataset, self.store.place)
        return budget

    def _headed(self, tx: Transaction, dataset: str) -> Budget:
        """The dataset's budget, if it stands at the last entry of its journal."""
        budget, last = self._budget(tx, dataset), tx.last_entry(dataset)
        if (
            last is None
            or (last.seq, last.hash) != (budget.head_seq, budget.head_hash)
            or last.hash != entry_hash(last)
        ):
            raise outcomes.unverifiable(self.store.place, f"dataset {dataset} doesn't stand at the end of its journal")
        return budget

    def _verified(self, tx: Transaction, dataset: str) -> Budget:
        """The dataset's budget, if its balance and charges are what its whole journal amounts to."""
        budget = self._budget(tx, dataset)
        try:
            replayed = replay(dataset, tx.entries(dataset), ledger_id=ledger_id(self.store.secret))
        except BrokenJournal as error:
            raise outcomes.unverifiable(self.store.place, f"dataset {dataset}, {error}") from None
        if replayed.budget != budget:
            raise outcomes.unverifiable(
                self.store.place, f"the balance of dataset {dataset} isn't what its journal amounts to"
            )
        stored = {charge.id: charge for charge in tx.charges(dataset)}
        for charge_id in sorted(stored.keys() | replayed.charges.keys()):
            if stored.get(charge_id) != replayed.charges.get(charge_id):
                raise outcomes.unverifiable(
                    self.store.place, f"charge {charge_id} of dataset {dataset} isn't what the journal says"
                )
        return budget


_DONE: Mapping[str, str] = {
    "started": "started",
    "released": "released",
    "published": "published",
    "closed": "closed",
    "retried": "retried",
    "attempt_failed": "marked as failed",
}


def _dataset(dataset: str) -> str:
    try:
        check_dataset(dataset)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return dataset


def _answer(charges: list[Charge]) -> Charge | None:
    """The one of a key's charges (by increasing fence) that speaks for the key."""
    for states in (OPEN, {"PUBLISHED"}, {"SPENT_UNPUBLISHED"}):
        matching = [charge for charge in charges if charge.state in states]
        if matching:
            return matching[-1]
    return None


def _moved(balance: Balance, before: Charge, after: Charge) -> Balance:
    """The balance when a charge goes from one state to another."""
    spent = balance.spent + after.amount if after.state in SPENT and before.state not in SPENT else balance.spent
    held = balance.held - before.amount if before.state == "RESERVED" else balance.held
    return replace(balance, spent=spent, held=held)


def _entry(
    dataset: str,
    budget: Budget | None,
    kind: Kind,
    amount: Amount,
    details: Mapping[str, Any],
    *,
    charge: Charge | None = None,
) -> JournalEntry:
    entry = JournalEntry(
        dataset=dataset,
        seq=budget.head_seq + 1 if budget else 1,
        time=utc_now().isoformat(timespec="milliseconds"),
        kind=kind,
        charge_id=charge.id if charge else "",
        amount=amount,
        fence=charge.fence if charge else 0,
        details=details,
        prev_hash=budget.head_hash if budget else GENESIS,
        hash="",
    )
    return replace(entry, hash=entry_hash(entry))
