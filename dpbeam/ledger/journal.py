"""Journal entries come in; their hashes, and the budget and charges that follow from them, go out.

`replay` shares no code with the ledger's own bookkeeping, so that each checks the other. There is one hash chain
a dataset, not one a ledger: a run verifies and extends only its own dataset's history, and two datasets never wait
for one another in a store that locks by row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dpbeam.ledger.accounts import GENESIS, REASONS, Balance, Budget, Charge, JournalEntry, is_dataset
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import Protected, check_text


class BrokenJournal(Exception):
    """The entries can't be a ledger's history; `seq` is the first that breaks it."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"entry {seq} {reason}")
        self.seq = seq


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a dataset's journal amounts to."""

    budget: Budget
    charges: Mapping[str, Charge]


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, finite numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def entry_hash(entry: JournalEntry) -> str:
    """SHA-256, in hexadecimal, over every field of the entry but `hash` itself; `prev_hash` links the chain."""
    fields = [
        "dpbeam journal 1",
        entry.dataset,
        entry.seq,
        entry.time,
        entry.kind,
        entry.charge_id,
        entry.amount.epsilon,
        entry.amount.delta,
        entry.fence,
        entry.details,
        entry.prev_hash,
    ]
    return hashlib.sha256(canonical(fields).encode("ascii")).hexdigest()


def replay(dataset: str, entries: Iterable[JournalEntry], *, ledger_id: str) -> Replayed:
    """Derives a dataset's budget and charges from its journal alone.

    Guarantee: what it returns follows from an unbroken chain that starts with `budget_created` in this ledger, in
    which every charge fitted the cap when it was reserved and only RESERVED charges were ever given back.

    Raises:
        BrokenJournal: the first entry that doesn't follow from those before it.
    """
    book = _Book(dataset=dataset, ledger_id=ledger_id)
    for entry in entries:
        seq = book.seq + 1
        if entry.seq != seq:
            raise BrokenJournal(seq, f"is missing (the next one is numbered {entry.seq})")
        if entry.dataset != dataset:
            raise BrokenJournal(seq, "belongs to another dataset")
        if entry.prev_hash != book.hash:
            raise BrokenJournal(seq, "doesn't follow the entry before it (prev_hash)")
        if entry.hash != entry_hash(entry):
            raise BrokenJournal(seq, "doesn't match its own hash")
        try:
            _STEPS[entry.kind](book, entry)
        except (KeyError, TypeError, ValueError):
            raise BrokenJournal(seq, "can't follow from those before it") from None
        book.seq, book.hash = seq, entry.hash
    if book.cap is None:
        raise BrokenJournal(1, "is missing (a history starts with budget_created)")
    balance = Balance(meter="basic", cap=book.cap, spent=book.spent, held=book.held)
    budget = Budget(
        dataset=dataset,
        balance=balance,
        head_seq=book.seq,
        head_hash=book.hash,
        protected=book.protected,
        sources=book.sources,
    )
    return Replayed(budget=budget, charges=book.charges)


@dataclass(kw_only=True)
class _Book:
    """The replay's running state."""

    dataset: str
    ledger_id: str
    seq: int = 0
    hash: str = GENESIS
    cap: Amount | None = None
    spent: Amount = ZERO
    held: Amount = ZERO
    fence: int = 0
    protected: Protected | None = None
    sources: tuple[str, ...] = ()
    charges: dict[str, Charge] = field(default_factory=dict)

    def charge(self, entry: JournalEntry, *states: str) -> Charge:
        """The entry's charge, if it stands in one of `states` and the entry names its amount."""
        charge = self.charges[entry.charge_id]
        _need(charge.state in states and charge.amount == entry.amount)
        return charge

    def new_fence(self, entry: JournalEntry) -> int:
        _need(entry.fence > self.fence)
        self.fence = entry.fence
        return entry.fence


def _created(book: _Book, entry: JournalEntry) -> None:
    _need(book.cap is None and not entry.charge_id and entry.fence == 0)
    _need(entry.details["ledger"] == book.ledger_id and entry.details["meter"] == "basic")
    _need(entry.amount.epsilon > 0 and entry.amount.delta > 0)
    book.cap = entry.amount
    if entry.details.get("privacy_unit") is not None:  # version 0.1.0 didn't ask
        book.protected = _protected(entry)


def _protected(entry: JournalEntry) -> Protected:
    return Protected(unit=entry.details["privacy_unit"], neighbours=entry.details["neighbours"])


def _unit_bound(book: _Book, entry: JournalEntry) -> None:
    _need(book.cap is not None and book.protected is None)
    _need(not entry.charge_id and entry.fence == 0 and entry.amount == ZERO)
    book.protected = _protected(entry)


def _source_accepted(book: _Book, entry: JournalEntry) -> None:
    new = entry.details["sources"]
    _need(book.cap is not None and bool(new))
    _need(len({*new, *book.sources}) == len(new) + len(book.sources))
    _need(not entry.charge_id and entry.fence == 0 and entry.amount == ZERO)
    _need(entry.details["asked"] is True or not (book.sources or entry.details["also_of"]))
    _need(all(is_dataset(other) for other in entry.details["also_of"]))
    for source in new:
        check_text("source", source)
    book.sources = (*book.sources, *new)


def _reserved(book: _Book, entry: JournalEntry) -> None:
    _need(book.cap is not None and entry.charge_id not in book.charges)
    _need(entry.amount.epsilon > 0 and entry.amount.delta > 0)
    details = entry.details
    held = book.held + entry.amount
    _need(book.cap is not None and (book.spent + held).fits(book.cap))
    book.charges[entry.charge_id] = Charge(
        id=entry.charge_id,
        dataset=book.dataset,
        key=details["key"],
        amount=entry.amount,
        state="RESERVED",
        fence=book.new_fence(entry),
        attempt=1,
        max_attempts=details["max_attempts"],
        owner=Owner(**details["owner"]),
        release_id=details["release_id"],
        policy_digest=details["policy_digest"],
        path=details["path"],
    )
    book.held = held


def _started(book: _Book, entry: JournalEntry) -> None:
    charge = book.charge(entry, "RESERVED")
    _need(entry.fence == charge.fence)
    book.charges[charge.id] = replace(charge, state="STARTED")
    book.held, book.spent = book.held - charge.amount, book.spent + charge.amount


def _released(book: _Book, entry: JournalEntry) -> None:
    charge = book.charge(entry, "RESERVED")
    book.charges[charge.id] = replace(charge, state="RELEASED", fence=book.new_fence(entry))
    book.held = book.held - charge.amount


def _attempt_failed(book: _Book, entry: JournalEntry) -> None:
    charge = book.charge(entry, "STARTED")
    _need(entry.fence == charge.fence and entry.details["attempt"] == charge.attempt)
    _need(entry.details["reason"] in REASONS)
    book.charges[charge.id] = replace(charge, failed=True)


def _retried(book: _Book, entry: JournalEntry) -> None:
    charge = book.charge(entry, "STARTED")
    _need(entry.details["attempt"] == charge.attempt + 1)
    book.charges[charge.id] = replace(
        charge,
        attempt=charge.attempt + 1,
        failed=False,
        owner=Owner(**entry.details["owner"]),
        fence=book.new_fence(entry),
    )


def _published(book: _Book, entry: JournalEntry) -> None:
    charge = book.charge(entry, "STARTED")
    _need(entry.fence == charge.fence)
    book.charges[charge.id] = replace(
        charge,
        state="PUBLISHED",
        path=entry.details["path"],
        manifest_sha256=entry.details["manifest_sha256"],
    )


def _closed(book: _Book, entry: JournalEntry) -> None:
    charge = book.charge(entry, "STARTED")
    book.charges[charge.id] = replace(charge, state="SPENT_UNPUBLISHED", fence=book.new_fence(entry))


def _need(holds: bool) -> None:
    if not holds:
        raise ValueError


_STEPS: Mapping[str, Callable[[_Book, JournalEntry], None]] = {
    "budget_created": _created,
    "unit_bound": _unit_bound,
    "source_accepted": _source_accepted,
    "reserved": _reserved,
    "released": _released,
    "started": _started,
    "attempt_failed": _attempt_failed,
    "retried": _retried,
    "published": _published,
    "closed": _closed,
}
