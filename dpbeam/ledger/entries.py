"""The entries of a journal: a type for each kind of fact, and the one form in which each is hashed and stored.

`to_record` and `from_record` are the only place where a fact becomes columns and JSON, and back. What they give is
hashed, so it never changes for a fact that was ever written; a new fact is a new type. What an entry does to a budget
is in `replay`, what people read of it in `words`; a test fails where a type of `Fact` lacks any of these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn

from dpbeam.ledger.allocation import UNALLOCATED, Allocation
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.budget_facts import BudgetCreated, SourceAccepted, UnitBound
from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.charge_facts import AttemptFailed as AttemptFailed
from dpbeam.ledger.charge_facts import ChargeFact as ChargeFact
from dpbeam.ledger.charge_facts import Closed as Closed
from dpbeam.ledger.charge_facts import OfCharge as OfCharge
from dpbeam.ledger.charge_facts import Published as Published
from dpbeam.ledger.charge_facts import Refunded as Refunded
from dpbeam.ledger.charge_facts import Reserved as Reserved
from dpbeam.ledger.charge_facts import Retried as Retried
from dpbeam.ledger.charge_facts import Started as Started
from dpbeam.ledger.checks import check_dataset, check_whole
from dpbeam.ledger.governance import facts as policies
from dpbeam.ledger.marks import Anchored, Arrived, KeyPinned, Moved
from dpbeam.ledger.meters import BASIC, meter_named
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.terms import NO_TERMS, Terms

GENESIS = "0" * 64
"""What the first entry of a journal follows."""


Fact = (
    BudgetCreated
    | UnitBound
    | SourceAccepted
    | Moved
    | Arrived
    | Anchored
    | KeyPinned
    | ChargeFact
    | policies.PolicyFact
)

Kind = Literal[
    "budget_created", "unit_bound", "source_accepted", "reserved", "released", "started", "attempt_failed", "retried",
    "published", "closed", "moved", "arrived", "anchored", "key_pinned", policies.PolicyKind,
]  # fmt: skip
"""What the journal calls each fact. A refund is `released` there: that word is in the hashes of every ledger."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A fact as columns. `details` is the canonical text of a JSON object; a fact of no charge has `charge_id` "" and
    `fence` 0. `amount` is its units, as if of `basic`: of another meter, `details` names it."""

    kind: Kind
    charge_id: str = ""
    amount: Amount = ZERO
    fence: int = 0
    details: str


def to_record(fact: Fact) -> Record:
    """The form in which a fact is hashed and stored."""
    match fact:
        case BudgetCreated(cap=cap, meter=meter, actor=actor, ledger=ledger, protected=protected, terms=terms):
            whom = {} if protected is None else protected.to_json()  # version 0.1.0 didn't ask, and wrote no null
            under = {} if terms == NO_TERMS else {"terms": terms.to_json()}
            return Record(
                kind="budget_created",
                amount=cap.of(BASIC),
                details=canonical({"meter": meter.name, "actor": actor, "ledger": ledger, **whom, **under}),
            )
        case UnitBound(protected=protected):
            return Record(kind="unit_bound", details=canonical(protected.to_json()))
        case SourceAccepted(sources=sources, also_of=also_of, asked=asked):
            details = {"sources": list(sources), "also_of": list(also_of), "asked": asked}
            return Record(kind="source_accepted", details=canonical(details))
        case Moved(to=to, datasets=datasets):
            return Record(kind="moved", details=canonical({"to": to, "datasets": list(datasets)}))
        case Arrived(at=at):
            return Record(kind="arrived", details=canonical({"at": at}))
        case Reserved():
            return _of_charge(
                "reserved",
                fact,
                key=fact.key,
                owner=fact.owner.to_json(),
                policy_digest=fact.policy_digest,
                release_id=fact.release_id,
                path=fact.path,
                max_attempts=fact.max_attempts,
                **({} if fact.events == "[]" else {"events": json.loads(fact.events)}),
                **({} if fact.allocation == UNALLOCATED else {"allocation": fact.allocation.to_json()}),
                **fact.made_by,
            )
        case Started():
            return _of_charge("started", fact)
        case Refunded():
            return _of_charge("released", fact)
        case AttemptFailed(attempt=attempt, reason=reason, told=told):
            found = {"told": list(told)} if told else {}  # few attempts find anything, and the first ones wrote no list
            return _of_charge("attempt_failed", fact, attempt=attempt, reason=reason, **found)
        case Retried(attempt=attempt, owner=owner):
            return _of_charge("retried", fact, attempt=attempt, owner=owner.to_json())
        case Published(manifest_sha256=manifest_sha256, path=path):
            return _of_charge("published", fact, manifest_sha256=manifest_sha256, path=path)
        case Closed():
            return _of_charge("closed", fact)
        case Anchored():
            return Record(kind="anchored", details=canonical(fact.to_json()))
        case KeyPinned():
            return Record(kind="key_pinned", details=canonical(fact.to_json()))
        case (
            policies.GuardrailsBound()
            | policies.PolicySubmitted()
            | policies.PolicyApproved()
            | policies.PolicyActivated()
            | policies.PolicyReverted()
        ):
            kind, stated = policies.form(fact)
            return Record(kind=kind, details=canonical(stated))
        case _:
            no_fact(fact)


def from_record(record: Record) -> Fact:
    """The fact that `to_record` made the record of.

    Guarantee: the record is the fact's and says nothing else, for it is what `to_record` makes of it again. So whatever
    is hashed is in a field of the fact, and what reads facts has read all that the journal says.

    Raises:
        ValueError: no fact has this record.
    """
    try:
        details = json.loads(record.details)
        if not isinstance(details, dict):
            raise TypeError
        fact = _read(record, details)
    except (KeyError, TypeError, RecursionError):  # the last of thousands of brackets
        raise ValueError("not the record of a fact") from None
    if to_record(fact) != record:
        raise ValueError("not the record of a fact")
    return fact


def _read(record: Record, details: dict[str, Any]) -> Fact:
    meter = BASIC if "meter" not in details else meter_named(details["meter"])
    of_charge: dict[str, Any] = {
        "charge_id": record.charge_id,
        "amount": record.amount.of(meter),
        "fence": record.fence,
    }
    if record.kind == "budget_created":
        return BudgetCreated(
            cap=record.amount.of(meter),
            meter=meter_named(details["meter"]),
            actor=details["actor"],
            ledger=details["ledger"],
            protected=_protected(details) if "privacy_unit" in details else None,
            terms=Terms.from_json(details["terms"]) if "terms" in details else NO_TERMS,
        )
    if record.kind == "anchored":
        return Anchored.from_json(details)
    details = {name: value for name, value in details.items() if name != "meter"}
    match record.kind:
        case "unit_bound":
            return UnitBound(protected=_protected(details))
        case "source_accepted":
            sources, also_of = tuple(details["sources"]), tuple(details["also_of"])
            return SourceAccepted(sources=sources, also_of=also_of, asked=details["asked"])
        case "moved":
            return Moved(to=details["to"], datasets=tuple(details["datasets"]))
        case "arrived":
            return Arrived(at=details["at"])
        case "reserved":
            texts = {"events": canonical(details["events"])} if "events" in details else {}
            values = {
                "owner": Owner(**details["owner"]),
                "allocation": Allocation.from_json(details.get("allocation", {})),
            }
            return Reserved(**of_charge, **details | values | texts)
        case "started":
            return Started(**of_charge)
        case "released":
            return Refunded(**of_charge)
        case "attempt_failed":
            told = {"told": tuple(details["told"])} if "told" in details else {}
            return AttemptFailed(**of_charge, **details | told)
        case "retried":
            return Retried(**of_charge, **details | {"owner": Owner(**details["owner"])})
        case "published":
            return Published(**of_charge, **details)
        case "closed":
            return Closed(**of_charge)
        case "key_pinned":
            return KeyPinned.from_json(details)
        case "guardrails_bound" | "policy_submitted" | "policy_approved" | "policy_activated" | "policy_reverted":
            return policies.read(record.kind, details)
        case _:
            raise ValueError("a kind that no fact has")


def _of_charge(kind: Kind, fact: ChargeFact, **details: Any) -> Record:
    meter = fact.amount.meter
    named = details if meter == BASIC else details | {"meter": meter.name}
    units = fact.amount.of(BASIC)
    return Record(kind=kind, charge_id=fact.charge_id, amount=units, fence=fact.fence, details=canonical(named))


def _protected(details: Mapping[str, Any]) -> Protected:
    return Protected(unit=details["privacy_unit"], neighbours=details["neighbours"])


def no_fact(fact: NoReturn) -> NoReturn:
    """Ends a `match` over all facts; the type checker finds the one that is missing."""
    raise TypeError(f"{type(fact).__name__} is no fact that a journal states")


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One fact of a dataset's history, in its place: `seq` counts from 1, `prev_hash` is the hash of the entry before.
    `time` (ISO 8601, UTC) and `actor` (who it was, as the process's environment gave it; "" in entries of version
    0.1.0) inform and decide nothing."""

    dataset: str
    seq: int
    time: str
    fact: Fact
    prev_hash: str
    hash: str
    actor: str = ""

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        check_whole("seq", self.seq, least=1)
        for name in ("time", "prev_hash", "hash", "actor"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text")

    @classmethod
    def read(
        cls, *, dataset: str, seq: int, time: str, record: Record, prev_hash: str, hash: str, actor: str = ""
    ) -> JournalEntry:
        """The entry that was stored as `record`. Raises ValueError as `from_record` does."""
        fact = from_record(record)
        entry = cls(dataset=dataset, seq=seq, time=time, fact=fact, prev_hash=prev_hash, hash=hash, actor=actor)
        vars(entry)["record"] = record  # which is what `to_record` would make again
        return entry

    @cached_property
    def record(self) -> Record:
        """The fact as it is hashed and stored."""
        return to_record(self.fact)

    @property
    def kind(self) -> Kind:
        """What the journal calls the fact."""
        return self.record.kind

    @property
    def amount(self) -> Amount:
        """What the fact gives or takes, in its meter; of a fact that does neither, nothing."""
        match self.fact:
            case BudgetCreated(cap=cap):
                return cap
            case OfCharge(amount=amount):
                return amount
            case _:
                return ZERO

    def to_json(self) -> dict[str, Any]:
        """The entry as it is hashed, so that others can check its hash."""
        record = self.record
        return {
            "seq": self.seq,
            "dataset": self.dataset,
            "time": self.time,
            "kind": record.kind,
            "charge_id": record.charge_id or None,
            "amount": self.amount.to_json(),
            "fence": record.fence,
            "details": json.loads(record.details),
            "prev_hash": self.prev_hash,
            "hash": self.hash,
        } | ({"actor": self.actor} if self.actor else {})


def entry_hash(entry: JournalEntry) -> str:
    """SHA-256, in hexadecimal, over every field of the entry but `hash` itself; `prev_hash` links the chain."""
    record = entry.record
    amount = record.amount
    place = ["dpbeam journal 1", entry.dataset, entry.seq, entry.time]
    if entry.actor:  # version 0.1.0 didn't say who it was
        place = ["dpbeam journal 2", entry.dataset, entry.seq, entry.time, entry.actor]
    columns = [record.kind, record.charge_id, amount.epsilon, amount.delta, record.fence]
    # The canonical text of one list of all, without writing the details a second time.
    text = f"{canonical([*place, *columns])[:-1]},{record.details},{canonical(entry.prev_hash)}]"
    return hashlib.sha256(text.encode("ascii")).hexdigest()
