"""What a journal amounts to: the budget and the charges that follow from its entries, and from nothing else.

`replay` shares no code with the ledger's own bookkeeping, so that each checks the other. There is one hash chain
a dataset, not one a ledger: a run verifies and extends only its own dataset's history, and two datasets never wait
for one another in a store that locks by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dpbeam.ledger.accounts import OPEN, Balance, Budget, Charge, State
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.entries import (
    GENESIS,
    Arrived,
    AttemptFailed,
    BudgetCreated,
    ChargeFact,
    Closed,
    Fact,
    JournalEntry,
    Moved,
    Published,
    Refunded,
    Reserved,
    Retried,
    SourceAccepted,
    Started,
    UnitBound,
    entry_hash,
    no_fact,
)
from dpbeam.ledger.meters import Meter
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.terms import Terms


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
            _follow(book, entry.fact)
        except (KeyError, ValueError):
            raise BrokenJournal(seq, "can't follow from those before it") from None
        book.seq, book.hash = seq, entry.hash
    if book.cap is None or book.meter is None:
        raise BrokenJournal(1, "is missing (a history starts with budget_created)")
    balance = Balance(meter=book.meter, cap=book.cap, spent=book.spent, held=book.held)
    budget = Budget(
        dataset=dataset,
        balance=balance,
        head_seq=book.seq,
        head_hash=book.hash,
        protected=book.protected,
        sources=book.sources,
        terms=Terms(moved_to=book.moved_to),
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
    meter: Meter | None = None
    spent: Amount = ZERO
    held: Amount = ZERO
    fence: int = 0
    protected: Protected | None = None
    sources: tuple[str, ...] = ()
    moved_to: str | None = None
    charges: dict[str, Charge] = field(default_factory=dict)

    def charge(self, fact: ChargeFact, state: State) -> Charge:
        """The fact's charge, if it stands in `state` and the fact names its amount."""
        charge = self.charges[fact.charge_id]
        _need(charge.state == state and charge.amount == fact.amount)
        return charge

    def new_fence(self, fact: ChargeFact) -> int:
        _need(fact.fence > self.fence)
        self.fence = fact.fence
        return fact.fence


def _follow(book: _Book, fact: Fact) -> None:
    """What a fact does to the budget and the charges. Raises ValueError or KeyError where it can't follow."""
    _need(book.moved_to is None or isinstance(fact, Arrived))
    match fact:
        case BudgetCreated():
            _created(book, fact)
        case UnitBound(protected=protected):
            _need(book.cap is not None and book.protected is None)
            book.protected = protected
        case SourceAccepted():
            _accepted(book, fact)
        case Moved(to=to, datasets=datasets):
            _need(book.cap is not None and book.dataset in datasets)
            _need(not any(charge.state in OPEN for charge in book.charges.values()))
            book.moved_to = to
        case Arrived(at=at):
            _need(book.moved_to == at)
            book.moved_to = None
        case Reserved():
            _reserved(book, fact)
        case Started():
            charge = book.charge(fact, "RESERVED")
            _need(fact.fence == charge.fence)
            book.charges[charge.id] = replace(charge, state="STARTED")
            book.held, book.spent = book.held - charge.amount, book.spent + charge.amount
        case Refunded():
            charge = book.charge(fact, "RESERVED")
            book.charges[charge.id] = replace(charge, state="REFUNDED", fence=book.new_fence(fact))
            book.held = book.held - charge.amount
        case AttemptFailed(attempt=attempt):
            charge = book.charge(fact, "STARTED")
            _need(fact.fence == charge.fence and attempt == charge.attempt)
            book.charges[charge.id] = replace(charge, failed=True)
        case Retried(attempt=attempt, owner=owner):
            charge = book.charge(fact, "STARTED")
            _need(attempt == charge.attempt + 1)
            fence = book.new_fence(fact)
            book.charges[charge.id] = replace(charge, attempt=attempt, failed=False, owner=owner, fence=fence)
        case Published(path=path, manifest_sha256=manifest_sha256):
            charge = book.charge(fact, "STARTED")
            _need(fact.fence == charge.fence)
            book.charges[charge.id] = replace(charge, state="PUBLISHED", path=path, manifest_sha256=manifest_sha256)
        case Closed():
            charge = book.charge(fact, "STARTED")
            book.charges[charge.id] = replace(charge, state="SPENT_UNPUBLISHED", fence=book.new_fence(fact))
        case _:
            no_fact(fact)


def _created(book: _Book, fact: BudgetCreated) -> None:
    _need(book.cap is None and fact.ledger == book.ledger_id)
    book.cap, book.meter, book.protected = fact.cap, fact.meter, fact.protected


def _accepted(book: _Book, fact: SourceAccepted) -> None:
    _need(book.cap is not None and not set(fact.sources) & set(book.sources))
    _need(fact.asked or not (book.sources or fact.also_of))
    book.sources = (*book.sources, *fact.sources)


def _reserved(book: _Book, fact: Reserved) -> None:
    _need(book.cap is not None and fact.charge_id not in book.charges)
    held = book.held + fact.amount
    _need(book.cap is not None and (book.spent + held).fits(book.cap))
    book.charges[fact.charge_id] = Charge(
        id=fact.charge_id,
        dataset=book.dataset,
        key=fact.key,
        amount=fact.amount,
        state="RESERVED",
        fence=book.new_fence(fact),
        attempt=1,
        max_attempts=fact.max_attempts,
        owner=fact.owner,
        release_id=fact.release_id,
        policy_digest=fact.policy_digest,
        path=fact.path,
    )
    book.held = held


def _need(holds: bool) -> None:
    if not holds:
        raise ValueError
