"""What the ledger keeps account of: balances, budgets and charges; each is checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.checks import check_dataset, check_sha256, check_text, check_whole
from dpbeam.ledger.meters import BASIC, Meter
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import MAX_TEXT, Protected
from dpbeam.ledger.terms import NO_DETAILS, NO_TERMS, ChargeDetails, Terms

State = Literal["RESERVED", "STARTED", "PUBLISHED", "SPENT_UNPUBLISHED", "REFUNDED"]
STATES: tuple[str, ...] = get_args(State)
SPENT: frozenset[State] = frozenset({"STARTED", "PUBLISHED", "SPENT_UNPUBLISHED"})
OPEN: frozenset[State] = frozenset({"RESERVED", "STARTED"})


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What a dataset may spend, has spent, holds for unfinished runs, and has left."""

    meter: Meter
    cap: Amount
    spent: Amount
    held: Amount

    @property
    def left(self) -> Amount:
        """`cap` − `spent` − `held`; never negative, since a balance beyond its cap can't be built."""
        return self.cap - self.spent - self.held

    def __post_init__(self) -> None:
        if self.cap.meter != self.meter:
            raise ValueError(f"cap must be of the meter {self.meter}, got {self.cap}")
        if not (self.spent + self.held).fits(self.cap):
            raise ValueError(f"spent and held must be within the cap {self.cap}, got {self.spent + self.held}")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A dataset's balance, and the journal entry it stands at (`head_seq` counts from 1).

    `protected` is whom the budget protects, None until its first charge says so; `sources` are those that were read, or
    accepted, under the dataset's name, in order.
    """

    dataset: str
    balance: Balance
    head_seq: int
    head_hash: str
    protected: Protected | None = None
    sources: tuple[str, ...] = ()
    terms: Terms = NO_TERMS

    @property
    def stated(self) -> Amount | None:
        """The cap in (ε, δ), as it was stated; None of a cap that somebody gave in ρ or μ²."""
        return self.balance.cap if self.balance.meter == BASIC else self.terms.stated

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        for source in self.sources:
            check_text("source", source, most=MAX_TEXT, show=False)
        check_whole("head_seq", self.head_seq, least=1)
        check_text("head_hash", self.head_hash, most=64)


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One run's claim on a dataset's budget, and how far the run has come.

    `key` is the idempotency key; `fence` the token the run must show to go on; `path` where the release lies (or
    will lie); `manifest_sha256` is known from publishing on. `failed`: its run said that the attempt is over, so it may
    be retried although the run's process lives on.
    """

    id: str
    dataset: str
    key: str
    amount: Amount
    state: State
    fence: int
    attempt: int
    max_attempts: int
    owner: Owner
    release_id: str
    policy_digest: str
    path: str | None = None
    manifest_sha256: str | None = None
    failed: bool = False
    details: ChargeDetails = NO_DETAILS

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        if self.details.meter != self.amount.meter:
            raise ValueError(f"details must name the amount's meter {self.amount.meter}, got {self.details.meter}")
        if self.state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {self.state!r}")
        check_whole("fence", self.fence, least=1)
        check_whole("max_attempts", self.max_attempts, least=1)
        check_whole("attempt", self.attempt, least=1)
        if self.attempt > self.max_attempts:
            raise ValueError(f"attempt must be at most max_attempts {self.max_attempts}, got {self.attempt}")
        for name in ("id", "key", "release_id", "policy_digest"):
            check_text(name, getattr(self, name), most=256)
        if self.path is not None:
            check_text("path", self.path, most=MAX_TEXT)
        if self.manifest_sha256 is not None:
            check_sha256("manifest_sha256", self.manifest_sha256)
        if self.state == "PUBLISHED" and (self.path is None or self.manifest_sha256 is None):
            raise ValueError("a published charge needs a path and a manifest_sha256; pass both to publish")

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "dataset": self.dataset,
            "key": self.key,
            "amount": self.amount.to_json(),
            "state": self.state,
            "fence": self.fence,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "owner": self.owner.to_json(),
            "release_id": self.release_id,
            "policy_digest": self.policy_digest,
            "path": self.path,
            "manifest_sha256": self.manifest_sha256,
            "failed": self.failed,
        }


def budget_json(budget: Budget) -> dict[str, Any]:
    """What `dpbeam budget show DATASET --json` prints; its JSON Schema is in dpbeam/reporting/schemas."""
    balance, protected = budget.balance, budget.protected
    stated = {} if budget.terms.stated is None else {"stated": budget.terms.stated.to_json()}
    return {
        "version": 2 if balance.meter == BASIC else 3,
        "dataset": budget.dataset,
        "privacy_unit": None if protected is None else protected.unit,
        "neighbours": None if protected is None else protected.neighbours,
        "sources": list(budget.sources),
        "meter": balance.meter.name,
        "cap": balance.cap.to_json(),
        "spent": balance.spent.to_json(),
        "held": balance.held.to_json(),
        "left": balance.left.to_json(),
    } | stated
