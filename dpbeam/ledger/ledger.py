"""The ledger's rules: what may be charged, and what becomes of a charge. Each method is one transaction of the store.

    RESERVED ──start──▶ STARTED ──publish──▶ PUBLISHED
        │                 │  ▲
      refund            close└─retry
        ▼                 ▼
    REFUNDED      SPENT_UNPUBLISHED

From STARTED on the amount is spent for good; RESERVED → REFUNDED is the only way back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from dpbeam.errors import LedgerError, UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Balance, Budget, Charge, State
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.bookkeeping import answering, chained, moved_balance, moved_to, of_charge
from dpbeam.ledger.entries import (
    REASONS,
    AttemptFailed,
    BudgetCreated,
    ChargeFact,
    Closed,
    JournalEntry,
    Published,
    Reason,
    Refunded,
    Reserved,
    Retried,
    SourceAccepted,
    Started,
    UnitBound,
)
from dpbeam.ledger.meters import BASIC, METERS, Meter
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.reserving import Claim, reservable
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.ledger.store import Store, Transaction, ledger_id
from dpbeam.ledger.verifying import Verifier, checked_name


@dataclass(frozen=True, kw_only=True, repr=False)
class Ledger:
    """The ledger's rules over a store. Open one with `dpbeam.ledger.open_ledger`.

    Guarantee: `spent` of a dataset is at least the sum of the amounts of all its runs that were started, at every
    moment and after any kill, and `spent` + `held` never exceeds the cap. Assumes that nothing leaves a run of what it
    reads before `start` has returned, but for the key by which it asks whether its release was made before; and that it
    publishes nothing after a call was refused.

    Each step on a charge (`start`, `refund`, `publish`, `close`, `retry`, `fail_attempt`) returns the charge as it is
    then, which is what the next step takes, and raises what is below. Every method raises LedgerError where the ledger
    can't be used; `Locked` where others kept it for too long.

    Raises:
        FenceLost: the run was given up or taken over meanwhile; it must stop.
        Refused: the charge isn't in the state that the step starts from, or has had all its attempts.
        UsageError: an argument that can't be recorded.
        LedgerError: there is no such charge, or its dataset's history doesn't verify.
    """

    store: Store

    def __repr__(self) -> str:
        return f"<dpbeam.Ledger {self.store.place}>"

    def secret(self) -> bytes:
        """32 random bytes made with the ledger; they key the input's fingerprint. Never shown."""
        return self.store.secret

    def create_budget(
        self,
        dataset: str,
        cap: Amount,
        meter: Meter = BASIC,
        *,
        actor: str = "",
        protected: Protected | None = None,
        exist_ok: bool = False,
    ) -> Balance:
        """Gives a dataset its budget: the one explicit act that makes a cap.

        `protected` is whom it protects; if None, whom its first charge protects. With `exist_ok` a dataset that has
        this very budget (cap, meter, and whom it protects, if that is said) keeps it, and its balance is returned.

        Raises:
            UsageError: a bad dataset name, cap, meter or actor.
            Refused: the dataset has a budget already: another, or, without `exist_ok`, the same; the ledger was moved.
        """
        if not isinstance(cap, Amount):
            raise UsageError(f"cap must be an Amount, such as Amount.cap(10, 1e-5), got {type(cap).__name__}")
        if meter not in METERS.values():
            raise UsageError(f"meter must be one of {', '.join(METERS)}, got {meter!r}")
        if not isinstance(actor, str) or len(actor) > 256:
            raise UsageError(f"actor must be text of at most 256 characters, got {actor!r}")
        with self.store.write() as tx:
            known = tx.budget(checked_name(dataset))
            if known is not None:
                same = (cap, meter) == (known.balance.cap, known.balance.meter)
                if exist_ok and same and protected in (None, known.protected):
                    return known.balance
                raise refusals.budget_exists(dataset, cap, known.balance)
            self._verifier.no_history(tx, dataset)
            if to := moved_to(tx):
                raise refusals.moved(dataset, to)
            balance = Balance(meter=meter, cap=cap, spent=ZERO, held=ZERO)
            try:
                fact = BudgetCreated(
                    cap=cap, meter=meter, actor=actor, ledger=ledger_id(self.store), protected=protected
                )
            except ValueError as error:
                raise UsageError(str(error)) from None
            entry = chained(dataset, None, fact)
            budget = Budget(
                dataset=dataset, balance=balance, head_seq=entry.seq, head_hash=entry.hash, protected=protected
            )
            tx.insert_budget(budget)
            tx.append(entry)
        return balance

    def datasets(self) -> list[str]:
        """The datasets that have a budget, sorted."""
        with self.store.read() as tx:
            return tx.datasets()

    def balance(self, dataset: str) -> Balance:
        """What the dataset may spend, has spent, holds and has left, after verifying its history."""
        return self.budget(dataset).balance

    def budget(self, dataset: str) -> Budget:
        """The dataset's balance, whom it protects and what it was spent on, after verifying its history."""
        with self.store.read() as tx:
            return self._verifier.verified(tx, dataset).budget

    def history(self, dataset: str) -> list[JournalEntry]:
        """The dataset's journal, oldest entry first, after verifying it."""
        with self.store.read() as tx:
            self._verifier.verified(tx, dataset)
            return tx.entries(dataset)

    def charge(self, charge_id: str) -> Charge | None:
        """The charge as it stands now."""
        with self.store.read() as tx:
            return tx.charge(charge_id)

    def find(self, dataset: str, key: str) -> Charge | None:
        """The charge that answers an idempotency key: the unfinished one, else the newest published, else the newest
        spent without publishing; None if there is none, or refunded ones only. The history is verified first: what is
        published again, or removed, is what a run wrote down."""
        with self.store.read() as tx:
            self._verifier.verified(tx, dataset)
            return answering(tx.charges(dataset, key=key))

    def verify(self, dataset: str | None = None) -> int:
        """Replays the journal of a dataset, or of all, and compares it with every balance and charge.

        Returns:
            The number of journal entries verified.
        Raises:
            LedgerError: the first entry, balance or charge that doesn't fit.
        """
        with self.store.read() as tx:
            if dataset is None:
                return sum(replayed.budget.head_seq for replayed in self._verifier.everything(tx))
            tx.check_integrity()
            return self._verifier.verified(tx, dataset).budget.head_seq

    def charges(self, dataset: str | None = None) -> list[Charge]:
        """The charges of a dataset, or of all, by increasing fence, after verifying what they are taken from: the
        dataset's history, or the whole ledger.

        Guarantee: each is what a run wrote down, as the journal tells it, not what an UPDATE of a table made of it.
        """
        with self.store.read() as tx:
            return self._verifier.charges(tx, dataset)

    def reserve(
        self,
        dataset: str,
        key: str,
        amount: Amount,
        *,
        owner: Owner,
        scope: Scope,
        policy_digest: str,
        release_id: str,
        path: str | None = None,
        max_attempts: int = 3,
        cap_stated: Amount | None = None,
        refresh: bool = False,
        accept_source: bool = False,
    ) -> Charge:
        """Holds `amount` of the dataset's budget for one run, after verifying the dataset's whole history.

        `key` is the idempotency key, `cap_stated` the policy's own statement of the cap, `path` where the release
        will lie. `refresh` asks for a new charge although a release of this key is published. `scope` is whom the run
        protects and what it reads; `accept_source` says that sources that are new to the dataset are meant.

        Raises:
            UsageError: an argument that can't be recorded.
            LedgerError: no budget, or the history doesn't verify.
            KeyTaken: a run of this key is unfinished, or published (and not `refresh`).
            Refused: the policy states another cap, protects another unit or reads other data; or too little is left.
        """
        claim = Claim(
            dataset=dataset,
            key=key,
            amount=amount,
            scope=scope,
            cap_stated=cap_stated,
            refresh=refresh,
            accept_source=accept_source,
        )
        with self.store.write() as tx:
            budget, binding = reservable(tx, self._verifier, claim)
            balance = budget.balance
            try:
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
                reserved = Reserved(
                    **of_charge(charge),
                    key=key,
                    owner=owner,
                    policy_digest=policy_digest,
                    release_id=release_id,
                    path=path,
                    max_attempts=max_attempts,
                )
            except ValueError as error:
                raise UsageError(str(error)) from None
            for fact in binding:
                budget = self._bind(tx, budget, fact)
            tx.insert_charge(charge)
            self._record(tx, budget, replace(balance, held=balance.held + amount), reserved)
        return charge

    def foresee(self, claim: Claim) -> Balance:
        """The balance that a `reserve` of this claim would leave. Raises its refusals, and writes nothing, so that
        another run may come first."""
        with self.store.read() as tx:
            balance = reservable(tx, self._verifier, claim)[0].balance
        return replace(balance, held=balance.held + claim.amount)

    def start(self, charge: Charge) -> Charge:
        """RESERVED → STARTED. When this returns, the amount is spent for good, and the run may read its data."""
        return self._advance(charge, "RESERVED", "STARTED", "started", lambda moved: Started(**of_charge(moved)))

    def refund(self, charge: Charge | str) -> Charge:
        """RESERVED → REFUNDED: gives back what was held, for nothing was read."""
        return self._advance(
            charge, "RESERVED", "REFUNDED", "refunded", lambda moved: Refunded(**of_charge(moved)), new_fence=True
        )

    def publish(self, charge: Charge, *, manifest_sha256: str, path: str | None = None) -> Charge:
        """STARTED → PUBLISHED; only for the run that holds the charge's fence. `path` defaults to the reserved one."""
        where = charge.path if path is None else path
        return self._advance(
            charge,
            "STARTED",
            "PUBLISHED",
            "published",
            lambda moved: Published(**of_charge(moved), manifest_sha256=manifest_sha256, path=moved.path or ""),
            manifest_sha256=manifest_sha256,
            path=where,
        )

    def close(self, charge: Charge | str) -> Charge:
        """STARTED → SPENT_UNPUBLISHED: gives the run up; its amount stays spent.

        A `Charge` is closed by its own run (its fence is checked), an id by whoever settles a broken run.
        """
        return self._advance(
            charge, "STARTED", "SPENT_UNPUBLISHED", "closed", lambda moved: Closed(**of_charge(moved)), new_fence=True
        )

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
            self._verifier.verified(tx, now.dataset)  # what it says of the earlier attempt is removed
            if now.attempt >= now.max_attempts:
                raise refusals.no_attempts(now)
            taken = replace(now, attempt=now.attempt + 1, fence=tx.last_fence() + 1, owner=owner, failed=False)
            tx.update_charge(taken)
            self._record(tx, budget, budget.balance, Retried(**of_charge(taken), attempt=taken.attempt, owner=owner))
        return taken

    def fail_attempt(self, charge: Charge, reason: Reason, told: tuple[str, ...] = ()) -> Charge:
        """Notes in the journal that the attempt failed; the charge stays STARTED, to be retried or closed. `told` is
        what it found with noise that the charge paid for, in words; nothing else of data may be in it."""
        if reason not in REASONS:
            raise UsageError(f"reason must be one of {', '.join(REASONS)}, got another word")
        return self._advance(
            charge,
            "STARTED",
            "STARTED",
            "marked as failed",
            lambda moved: AttemptFailed(**of_charge(moved), attempt=moved.attempt, reason=reason, told=told),
            failed=True,
        )

    def _advance(
        self,
        charge: Charge | str,
        before: State,
        after: State,
        step: str,
        fact: Callable[[Charge], ChargeFact],
        *,
        new_fence: bool = False,
        **changes: Any,
    ) -> Charge:
        """Takes a charge one state on, and its dataset's balance with it. `step` says for people what is done, `fact`
        for the journal what was done to the charge."""
        with self.store.write() as tx:
            now, budget = self._held_by(tx, charge, before, step)
            fence = tx.last_fence() + 1 if new_fence else now.fence
            try:
                moved = replace(now, state=after, fence=fence, **changes)
                stated = fact(moved)
            except ValueError as error:
                raise UsageError(str(error)) from None
            tx.update_charge(moved)
            self._record(tx, budget, moved_balance(budget.balance, now, moved), stated)
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
            raise refusals.FenceLost(charge, now)
        if now.state != state:
            raise refusals.wrong_state(now, state, step)
        if isinstance(charge, str):  # whoever settles a broken run knows it from the ledger alone
            return self._verifier.verified(tx, now.dataset).charges[now.id], self._verifier.budget(tx, now.dataset)
        return now, self._verifier.headed(tx, now.dataset)

    def _record(self, tx: Transaction, budget: Budget, balance: Balance, fact: ChargeFact) -> None:
        """Appends a fact to the dataset's chain, and moves its balance and head along."""
        entry = chained(budget.dataset, budget, fact)
        tx.append(entry)
        tx.update_budget(replace(budget, balance=balance, head_seq=entry.seq, head_hash=entry.hash))

    def _bind(self, tx: Transaction, budget: Budget, fact: UnitBound | SourceAccepted) -> Budget:
        """Appends what the budget is bound to from now on, and binds it."""
        entry = chained(budget.dataset, budget, fact)
        bound = replace(budget, head_seq=entry.seq, head_hash=entry.hash)
        match fact:
            case UnitBound(protected=protected):
                bound = replace(bound, protected=protected)
            case SourceAccepted(sources=sources):
                bound = replace(bound, sources=(*budget.sources, *sources))
        tx.append(entry)
        tx.update_budget(bound)
        return bound

    @property
    def _verifier(self) -> Verifier:
        return Verifier(store=self.store)
