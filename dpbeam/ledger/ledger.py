"""The ledger's rules: what may be charged, and what becomes of a charge. Each method is one transaction of the store.

    RESERVED ──start──▶ STARTED ──publish──▶ PUBLISHED
        │                 │  ▲
      refund            close└─retry
        ▼                 ▼
    REFUNDED      SPENT_UNPUBLISHED

From STARTED on the amount is spent for good; RESERVED → REFUNDED is the only way back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dpbeam.errors import UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Balance, Budget, Charge, State
from dpbeam.ledger.allocation import UNALLOCATED, Allocation
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.bookkeeping import answering, moved_balance, of_charge
from dpbeam.ledger.checkpoints import Checkpoint
from dpbeam.ledger.checks import REASONS, Reason
from dpbeam.ledger.creating import check_terms, created
from dpbeam.ledger.entries import (
    AttemptFailed,
    ChargeFact,
    Closed,
    JournalEntry,
    Published,
    Refunded,
    Retried,
    Started,
)
from dpbeam.ledger.governance.enforcing import UNSAID, Configuration
from dpbeam.ledger.guarding import NO_SAFEGUARDS, Guard, Safeguards
from dpbeam.ledger.journaling import anchor, bind, record
from dpbeam.ledger.meters import Meter
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.reserving import Claim, held, reservable
from dpbeam.ledger.scope import Protected, Scope
from dpbeam.ledger.store import Store, Transaction
from dpbeam.ledger.verifying import Verifier, checked_name
from dpbeam.ledger.witness import Kept


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
    safeguards: Safeguards = NO_SAFEGUARDS
    _verifier: Verifier = field(init=False, compare=False)
    _guard: Guard = field(init=False, compare=False)

    def __post_init__(self) -> None:
        verifier = Verifier(store=self.store, trusted=self.safeguards.trusted)
        object.__setattr__(self, "_verifier", verifier)
        object.__setattr__(self, "_guard", Guard(store=self.store, verifier=verifier, safeguards=self.safeguards))

    def __repr__(self) -> str:
        return f"<dpbeam.Ledger {self.store.place}>"

    def kept_open(self) -> AbstractContextManager[None]:
        """For a process that charges often: within the block each step costs one wait for the disk. Every step is as
        durable as without; but until the block ends, a SQLite ledger is its file and the log beside it."""
        return self.store.kept_open()

    def secret(self) -> bytes:
        """32 random bytes made with the ledger; they key the input's fingerprint. Never shown."""
        return self.store.secret

    def create_budget(
        self,
        dataset: str,
        cap: Amount,
        *,
        stated: Amount | None = None,
        actor: str = "",
        protected: Protected | None = None,
        exist_ok: bool = False,
    ) -> Balance:
        """Gives a dataset its budget: the one explicit act that makes a cap.

        The cap's meter is the budget's, for good. `stated` is the cap in ε and δ that one in ρ or μ² was made from
        (`dpbeam.accounting.metering`), which policies state. `protected` is whom it protects; if None, whom its first
        charge protects. With `exist_ok` a dataset that has this very budget (cap or stated cap, meter, and whom it
        protects, if that is said) keeps it, and its balance is returned.

        Raises:
            UsageError: a bad dataset name, cap, stated cap or actor.
            Refused: the dataset has a budget already: another, or, without `exist_ok`, the same; the ledger was moved.
        """
        check_terms(cap, actor)
        self._guard.begin()
        with self._guard.writing(checked_name(dataset), must=True) as tx:
            return created(
                tx,
                self._verifier,
                dataset,
                cap,
                stated=stated,
                actor=actor,
                protected=protected,
                exist_ok=exist_ok,
            )

    def meter(self, dataset: str) -> Meter:
        """The meter of the dataset's budget, unverified: `reserve` looks again. LedgerError where there is none."""
        with self.store.read() as tx:
            return self._verifier.budget(tx, dataset).balance.meter

    def datasets(self) -> list[str]:
        """The datasets that have a budget, sorted."""
        with self.store.read() as tx:
            return tx.datasets()

    def balance(self, dataset: str) -> Balance:
        """What the dataset may spend, has spent, holds and has left, after verifying where it stands."""
        return self.budget(dataset).balance

    def budget(self, dataset: str) -> Budget:
        """The dataset's balance, whom it protects and what it was spent on, after verifying where it stands."""
        with self.store.read() as tx:
            return self._verifier.current(tx, dataset).budget

    def history(self, dataset: str) -> list[JournalEntry]:
        """The dataset's journal, oldest entry first, after verifying it."""
        with self.store.read() as tx:
            self._verifier.verified(tx, dataset)
            return list(tx.entries(dataset))

    def charge(self, charge_id: str) -> Charge | None:
        """The charge as it stands now."""
        with self.store.read() as tx:
            return tx.charge(charge_id)

    def find(self, dataset: str, key: str) -> Charge | None:
        """The charge that answers an idempotency key: the unfinished one, else the newest published, else the newest
        spent without publishing; None if there is none, or refunded ones only. It is verified first: what is published
        again, or removed, is what a run wrote down."""
        with self.store.read() as tx:
            stands = self._verifier.current(tx, dataset)
            found = answering(tx.charges(dataset, key=key))
            return None if found is None else self._verifier.charge(tx, stands, found)

    def verify(self, dataset: str | None = None) -> int:
        """Replays the journal of a dataset, or of all, and compares it with every balance and charge, with what was
        signed of it, and with what the witness knows.

        Returns:
            The number of journal entries verified.
        Raises:
            LedgerError: the first entry, balance, charge, signature or witness's entry that doesn't fit.
        """
        with self.store.read() as tx:
            if dataset is None:
                count = sum(replayed.budget.head_seq for replayed in self._verifier.everything(tx))
            else:
                tx.check_integrity()
                count = self._verifier.verified(tx, dataset, signatures=True).budget.head_seq
            self._guard.check(tx, dataset)
        return count

    def checkpoint(self, dataset: str) -> Checkpoint:
        """Signs the dataset's newest entry, and with it all before. Publishing does so by itself where there is a key.

        Raises:
            UsageError: there is no key to sign with.
            LedgerError: the journal pins another key; or the dataset's history doesn't verify.
        """
        with self._guard.writing(checked_name(dataset), must=True) as tx:
            made = self._guard.checkpoint(tx, dataset)
        if made is None:
            raise UsageError("there is no key to sign with; name its file with --signing-key or DPBEAM_SIGNING_KEY")
        return made

    def watch(self) -> Kept:
        """Makes the witness, which there mustn't be yet, as the ledger stands now, after verifying all of it."""
        return self._guard.watch()

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
        events: str = "[]",
        max_attempts: int = 3,
        cap_stated: Amount | None = None,
        meter_stated: Meter | None = None,
        refresh: bool = False,
        accept_source: bool = False,
        configuration: Configuration = UNSAID,
        allocation: Allocation = UNALLOCATED,
    ) -> Charge:
        """Holds `amount` of the dataset's budget for one run, after verifying where the dataset stands (`standing`).

        `key` is the idempotency key, `cap_stated` the policy's own statement of the cap, in ε and δ, and `meter_stated`
        of the meter; `amount` is of the budget's meter, `events` what it pays for (see `Reserved`), `path` where the
        release will lie. `refresh` asks for a new charge although a release of this key is published. `scope` is whom
        the run protects and what it reads; `accept_source` says that sources that are new to the dataset are meant.
        `configuration` is what the run says of its plan, its code and the guardrails that it was checked against;
        `allocation` what the amount is taken from.

        Raises:
            UsageError: an argument that can't be recorded.
            LedgerError: no budget, or the history doesn't verify.
            KeyTaken: a run of this key is unfinished, or published (and not `refresh`).
            Refused: another cap, meter or unit is stated, other data is read, the policy isn't the one that the
                dataset's runs are of, or too little is left.
        """
        claim = Claim(
            dataset=dataset,
            key=key,
            amount=amount,
            scope=scope,
            policy_digest=policy_digest,
            configuration=configuration,
            allocation=allocation,
            cap_stated=cap_stated,
            meter_stated=meter_stated,
            refresh=refresh,
            accept_source=accept_source,
        )
        with self._guard.writing(checked_name(dataset), must=True) as tx:
            stands, binding = reservable(tx, self._verifier, claim)
            self._guard.check_key(stands)
            balance = stands.budget.balance
            charge, reserved = held(
                claim,
                fence=tx.last_fence() + 1,
                owner=owner,
                release_id=release_id,
                path=path,
                events=events,
                max_attempts=max_attempts,
            )
            budget = anchor(tx, stands)
            for fact in binding:
                budget = bind(tx, budget, fact)
            tx.insert_charge(charge)
            record(tx, budget, replace(balance, held=balance.held + amount), reserved)
        return charge

    def foresee(self, claim: Claim) -> Balance:
        """The balance that a `reserve` of this claim would leave. Raises its refusals, and writes nothing, so that
        another run may come first."""
        with self.store.read() as tx:
            balance = reservable(tx, self._verifier, claim)[0].budget.balance
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
        with self._guard.writing(self._dataset_of(charge), must=True) as tx:
            now, budget = self._held_by(tx, charge, "STARTED", "retried")
            self._verifier.current(tx, now.dataset)  # what it says of the earlier attempt is removed
            if now.attempt >= now.max_attempts:
                raise refusals.no_attempts(now)
            taken = replace(now, attempt=now.attempt + 1, fence=tx.last_fence() + 1, owner=owner, failed=False)
            tx.update_charge(taken)
            record(tx, budget, budget.balance, Retried(**of_charge(taken), attempt=taken.attempt, owner=owner))
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
        with self._guard.writing(self._dataset_of(charge), must=after == "STARTED") as tx:
            now, budget = self._held_by(tx, charge, before, step)
            fence = tx.last_fence() + 1 if new_fence else now.fence
            try:
                moved = replace(now, state=after, fence=fence, **changes)
                stated = fact(moved)
            except ValueError as error:
                raise UsageError(str(error)) from None
            tx.update_charge(moved)
            record(tx, budget, moved_balance(budget.balance, now, moved), stated)
            if after == "PUBLISHED":
                self._guard.checkpoint(tx, now.dataset)
        return moved

    def _dataset_of(self, charge: Charge | str) -> str:
        known = charge if isinstance(charge, Charge) else self.charge(charge)
        if known is None:
            raise refusals.no_charge(str(charge), self.store.place)
        return known.dataset

    def _held_by(self, tx: Transaction, charge: Charge | str, state: State, step: str) -> tuple[Charge, Budget]:
        """The charge as it stands, if the caller's fence is the latest and it is in `state`; and its budget."""
        charge_id = charge if isinstance(charge, str) else charge.id
        now = tx.charge(charge_id)
        if now is None:
            raise refusals.no_charge(charge_id, self.store.place)
        if isinstance(charge, Charge) and charge.fence != now.fence:
            raise refusals.FenceLost(charge, now)
        if now.state != state:
            raise refusals.wrong_state(now, state, step)
        if isinstance(charge, str):  # whoever settles a broken run knows it from the ledger alone
            stands = self._verifier.current(tx, now.dataset)
            return self._verifier.charge(tx, stands, now), stands.budget
        return now, self._verifier.headed(tx, now.dataset)
