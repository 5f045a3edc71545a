"""What a journal amounts to: the budget and the charges that follow from its entries, and from nothing else.

`replay` shares no code with the ledger's own bookkeeping, so that each checks the other. There is one hash chain
a dataset, not one a ledger: a run verifies and extends only its own dataset's history, and two datasets never wait
for one another in a store that locks by row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from dpbeam.ledger.accounts import OPEN, Balance, Budget, Charge, State
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.budget_facts import BudgetCreated, SourceAccepted, UnitBound
from dpbeam.ledger.checkpoints import state_digest
from dpbeam.ledger.entries import (
    GENESIS,
    AttemptFailed,
    ChargeFact,
    Closed,
    Fact,
    JournalEntry,
    Published,
    Refunded,
    Reserved,
    Retried,
    Started,
    entry_hash,
    no_fact,
)
from dpbeam.ledger.governance import facts as policies
from dpbeam.ledger.governance.replayed import Unfounded, followed
from dpbeam.ledger.governance.state import UNGOVERNED, Governance
from dpbeam.ledger.marks import Anchored, Arrived, KeyPinned, Moved
from dpbeam.ledger.meters import Meter
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.standing import Standing
from dpbeam.ledger.terms import NO_TERMS, ChargeDetails, Terms


class BrokenJournal(Exception):
    """The entries can't be a ledger's history; `seq` is the first that breaks it."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"entry {seq} {reason}")
        self.seq = seq


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a dataset's journal amounts to. `charges` are all of it; of a replay that began later, those that were
    unfinished there, and all since. `fence` is the highest, `key` the public key that signs its checkpoints ("": none),
    `anchored` the last entry that states where it stands (0: none), `pins` the keys that the entries pinned, `states`
    the hash and the digest of where it stood after each entry that was asked for."""

    budget: Budget
    charges: Mapping[str, Charge]
    fence: int
    key: str
    anchored: int
    pins: tuple[KeyPinned, ...] = ()
    states: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def standing(self) -> Standing:
        """Where the dataset stands, with its charges that aren't finished."""
        return Standing(
            balance=self.budget.balance,
            fence=self.fence,
            protected=self.budget.protected,
            sources=self.budget.sources,
            terms=self.budget.terms,
            key=self.key,
            open=tuple(sorted(self.unfinished.values(), key=lambda charge: charge.fence)),
        )

    @property
    def unfinished(self) -> dict[str, Charge]:
        """The charges that aren't finished, by their ids."""
        return {charge.id: charge for charge in self.charges.values() if charge.state in OPEN}


def replay(
    dataset: str,
    entries: Iterable[JournalEntry],
    *,
    ledger_id: str,
    after: Replayed | None = None,
    states_at: Collection[int] = (),
) -> Replayed:
    """Derives a dataset's budget and charges from its journal alone; with `after`, from what was verified before, and
    the entries since.

    Guarantee: what it returns follows from an unbroken chain that starts with `budget_created` in this ledger, or goes
    on from `after`, in which every charge fitted the cap when it was reserved and only RESERVED charges were ever given
    back.

    Raises:
        BrokenJournal: the first entry that doesn't follow from those before it.
    """
    book = _Book(dataset=dataset, ledger_id=ledger_id) if after is None else _book(after, ledger_id)
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
            if isinstance(entry.fact, Anchored):
                _need(entry.fact.standing == _replayed(book).standing)
                book.anchored = seq
            else:
                _follow(book, entry.fact)
        except Unfounded as error:
            raise BrokenJournal(seq, f"can't follow from those before it: {error}") from None
        except (KeyError, ValueError):
            raise BrokenJournal(seq, "can't follow from those before it") from None
        book.seq, book.hash = seq, entry.hash
        if seq in states_at:
            book.states[seq] = (entry.hash, state_digest(_replayed(book).standing))
    return _replayed(book)


def anchored(entry: JournalEntry) -> Replayed:
    """What the entry, which states where its dataset stands, says that the journal amounts to up to it.

    Raises:
        BrokenJournal: it doesn't match its own hash, or states no such thing.
    """
    if entry.hash != entry_hash(entry):
        raise BrokenJournal(entry.seq, "doesn't match its own hash")
    if not isinstance(entry.fact, Anchored):
        raise BrokenJournal(entry.seq, "states no balance")
    standing = entry.fact.standing
    budget = Budget(
        dataset=entry.dataset,
        balance=standing.balance,
        head_seq=entry.seq,
        head_hash=entry.hash,
        protected=standing.protected,
        sources=standing.sources,
        terms=standing.terms,
    )
    charges = {charge.id: charge for charge in standing.open}
    return Replayed(budget=budget, charges=charges, fence=standing.fence, key=standing.key, anchored=entry.seq)


def charge_alone(dataset: str, entries: Iterable[JournalEntry], budget: Budget) -> Charge | None:
    """The charge that its own entries amount to; None where there are none. That they are of one chain isn't looked at.

    Raises:
        BrokenJournal: the first entry that isn't whole, or doesn't follow from those before it.
    """
    book = _Book(dataset=dataset, ledger_id="", cap=budget.balance.cap, meter=budget.balance.meter)
    for entry in entries:
        if entry.dataset != dataset or entry.hash != entry_hash(entry):
            raise BrokenJournal(entry.seq, "doesn't match its own hash")
        try:
            _need(entry.seq > book.seq)
            _follow(book, entry.fact)
        except (KeyError, ValueError):
            raise BrokenJournal(entry.seq, "can't follow from those before it") from None
        book.seq = entry.seq
    return next(iter(book.charges.values()), None)


def _book(after: Replayed, ledger_id: str) -> _Book:
    """A book that goes on from there, with what is still to come of: the charges that aren't finished."""
    budget = after.budget
    return _Book(
        dataset=budget.dataset,
        ledger_id=ledger_id,
        seq=budget.head_seq,
        hash=budget.head_hash,
        cap=budget.balance.cap,
        meter=budget.balance.meter,
        spent=budget.balance.spent,
        held=budget.balance.held,
        fence=after.fence,
        protected=budget.protected,
        sources=budget.sources,
        terms=budget.terms,
        governance=budget.terms.governance,
        moved_to=budget.terms.moved_to,
        charges=after.unfinished,
        key=after.key,
        anchored=after.anchored,
    )


def _replayed(book: _Book) -> Replayed:
    if book.cap is None or book.meter is None:
        raise BrokenJournal(1, "is missing (a history starts with budget_created)")
    balance = Balance(meter=book.meter, cap=book.cap, spent=book.spent, held=book.held)
    budget = Budget(
        dataset=book.dataset,
        balance=balance,
        head_seq=book.seq,
        head_hash=book.hash,
        protected=book.protected,
        sources=book.sources,
        terms=replace(book.terms, governance=book.governance, moved_to=book.moved_to),
    )
    return Replayed(
        budget=budget,
        charges=book.charges,
        fence=book.fence,
        key=book.key,
        anchored=book.anchored,
        pins=tuple(book.pins),
        states=book.states,
    )


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
    terms: Terms = NO_TERMS
    governance: Governance = UNGOVERNED
    moved_to: str | None = None
    charges: dict[str, Charge] = field(default_factory=dict)
    key: str = ""
    anchored: int = 0
    pins: list[KeyPinned] = field(default_factory=list)
    states: dict[int, tuple[str, str]] = field(default_factory=dict)

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
        case Anchored():
            raise ValueError("asked of all that was replayed")
        case KeyPinned(key=key, follows=follows):
            _need(book.cap is not None and follows == book.key and key != book.key)
            book.key = key
            book.pins.append(fact)
        case (
            policies.GuardrailsBound()
            | policies.PolicySubmitted()
            | policies.PolicyApproved()
            | policies.PolicyActivated()
            | policies.PolicyReverted()
        ):
            _need(book.cap is not None)
            book.governance = followed(book.governance, fact, dataset=book.dataset, ledger=book.ledger_id)
        case _:
            no_fact(fact)


def _created(book: _Book, fact: BudgetCreated) -> None:
    _need(book.cap is None and fact.ledger == book.ledger_id)
    book.cap, book.meter, book.protected, book.terms = fact.cap, fact.meter, fact.protected, fact.terms
    book.spent = book.held = Amount(epsilon=0, delta=0, meter=fact.meter)


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
        details=ChargeDetails(meter=fact.amount.meter, allocation=fact.allocation),
    )
    book.held = held


def _need(holds: bool) -> None:
    if not holds:
        raise ValueError
