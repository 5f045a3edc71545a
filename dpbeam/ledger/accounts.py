"""The ledger's values: budgets, balances, charges and journal entries; each is checked where it is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import Protected, check_text

Meter = Literal["basic"]
METERS: tuple[str, ...] = get_args(Meter)

State = Literal["RESERVED", "STARTED", "PUBLISHED", "SPENT_UNPUBLISHED", "RELEASED"]
STATES: tuple[str, ...] = get_args(State)
SPENT: frozenset[State] = frozenset({"STARTED", "PUBLISHED", "SPENT_UNPUBLISHED"})
OPEN: frozenset[State] = frozenset({"RESERVED", "STARTED"})

Kind = Literal[
    "budget_created", "unit_bound", "source_accepted", "reserved", "released", "started", "attempt_failed", "retried",
    "published", "closed",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)

# Why an attempt failed: a closed set of words, so that no exception's text (it may hold data) enters the journal.
Reason = Literal[
    "data_rule", "input", "pipeline", "control_totals", "staging", "publish", "no_space", "interrupted", "owner_lost",
    "other",
]  # fmt: skip
REASONS: tuple[str, ...] = get_args(Reason)

GENESIS = "0" * 64

_DATASET = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")


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
        if self.meter not in METERS:
            raise ValueError(f"meter must be one of {', '.join(METERS)}, got {self.meter!r}")
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

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        for source in self.sources:
            check_text("source", source)
        _whole("head_seq", self.head_seq, least=1)
        _text("head_hash", self.head_hash, most=64)


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

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        if self.state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {self.state!r}")
        _whole("fence", self.fence, least=1)
        _whole("max_attempts", self.max_attempts, least=1)
        _whole("attempt", self.attempt, least=1)
        if self.attempt > self.max_attempts:
            raise ValueError(f"attempt must be at most max_attempts {self.max_attempts}, got {self.attempt}")
        for name in ("id", "key", "release_id", "policy_digest"):
            _text(name, getattr(self, name), most=256)
        if self.path is not None:
            _text("path", self.path, most=4096)
        if self.manifest_sha256 is not None and not _SHA256.fullmatch(self.manifest_sha256):
            raise ValueError(f"manifest_sha256 must be 64 hexadecimal digits, got {self.manifest_sha256!r}")
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


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One fact of a dataset's history. `seq` counts from 1; `time` (ISO 8601, UTC) informs and decides nothing.

    `amount` is the cap for `budget_created`, nothing for `unit_bound` and `source_accepted`, else the charge's amount;
    these three have no charge, and `fence` 0.
    """

    dataset: str
    seq: int
    time: str
    kind: Kind
    charge_id: str
    amount: Amount
    fence: int
    details: Mapping[str, Any]
    prev_hash: str
    hash: str

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        _whole("seq", self.seq, least=1)
        _whole("fence", self.fence, least=0)
        for name in ("time", "kind", "charge_id", "prev_hash", "hash"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text")

    def to_json(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "dataset": self.dataset,
            "time": self.time,
            "kind": self.kind,
            "charge_id": self.charge_id or None,
            "amount": self.amount.to_json(),
            "fence": self.fence,
            "details": dict(self.details),
            "prev_hash": self.prev_hash,
            "hash": self.hash,
        }


def budget_json(budget: Budget) -> dict[str, Any]:
    """What `dpbeam budget show DATASET --json` prints; its JSON Schema is in dpbeam/reporting/schemas."""
    balance, protected = budget.balance, budget.protected
    return {
        "version": 2,
        "dataset": budget.dataset,
        "privacy_unit": None if protected is None else protected.unit,
        "neighbours": None if protected is None else protected.neighbours,
        "sources": list(budget.sources),
        "meter": balance.meter,
        "cap": balance.cap.to_json(),
        "spent": balance.spent.to_json(),
        "held": balance.held.to_json(),
        "left": balance.left.to_json(),
    }


def check_dataset(dataset: str) -> None:
    """Raises ValueError unless `dataset` is a name that a policy may give."""
    if not is_dataset(dataset):
        raise ValueError(
            f"dataset must be 1 to 64 of a-z, 0-9, _ and -, starting with a letter or digit, got {dataset!r}"
        )


def is_dataset(name: object) -> bool:
    """Whether `name` is one that a policy may give to a dataset."""
    return isinstance(name, str) and _DATASET.fullmatch(name) is not None


def _text(name: str, value: str, *, most: int) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= most or "\0" in value:
        raise ValueError(f"{name} must be text of 1 to {most} characters, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be valid Unicode, got {value!r}") from None


def _whole(name: str, value: int, *, least: int) -> None:
    if type(value) is not int or not least <= value < 2**63:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
