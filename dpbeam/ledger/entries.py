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
from typing import Any, Literal, NoReturn, get_args

from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.canonical import canonical
from dpbeam.ledger.checks import check_dataset, check_sha256, check_text, check_whole
from dpbeam.ledger.meters import Meter, meter_named
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.scope import MAX_TEXT, Protected

# Why an attempt failed: a closed set of words, so that no exception's text (it may hold data) enters the journal.
Reason = Literal[
    "data_rule", "input", "pipeline", "control_totals", "staging", "publish", "no_space", "interrupted", "owner_lost",
    "other", "coverage",
]  # fmt: skip
REASONS: tuple[str, ...] = get_args(Reason)

GENESIS = "0" * 64
"""What the first entry of a journal follows."""


@dataclass(frozen=True, kw_only=True)
class BudgetCreated:
    """A dataset got its budget. `ledger` names the ledger that it was made in; `protected` is None if the first charge
    was to say so."""

    cap: Amount
    meter: Meter
    actor: str
    ledger: str
    protected: Protected | None

    def __post_init__(self) -> None:
        _above_zero("cap", self.cap)
        for name in ("actor", "ledger"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text")


@dataclass(frozen=True, kw_only=True)
class UnitBound:
    """From now on the budget protects one unit, and no other."""

    protected: Protected


@dataclass(frozen=True, kw_only=True)
class SourceAccepted:
    """From now on the dataset's name stands for these sources as well. `also_of` are other datasets that read them;
    `asked`: somebody said that they are meant."""

    sources: tuple[str, ...]
    also_of: tuple[str, ...]
    asked: bool

    def __post_init__(self) -> None:
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise ValueError("sources must be one or more, each named once")
        for source in self.sources:
            check_text("source", source, most=MAX_TEXT, show=False)
        for dataset in self.also_of:
            check_dataset(dataset)
        if not isinstance(self.asked, bool):
            raise ValueError("asked must be true or false")


@dataclass(frozen=True, kw_only=True)
class OfCharge:
    """What all facts of a charge say: which charge, its amount, and its fence from then on."""

    charge_id: str
    amount: Amount
    fence: int

    def __post_init__(self) -> None:
        check_text("charge_id", self.charge_id, most=256)
        _above_zero("amount", self.amount)
        check_whole("fence", self.fence, least=1)


@dataclass(frozen=True, kw_only=True)
class Reserved(OfCharge):
    """A run holds its amount."""

    key: str
    owner: Owner
    policy_digest: str
    release_id: str
    path: str | None
    max_attempts: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("key", "policy_digest", "release_id"):
            check_text(name, getattr(self, name), most=256)
        if self.path is not None:
            check_text("path", self.path, most=MAX_TEXT)
        check_whole("max_attempts", self.max_attempts, least=1)


@dataclass(frozen=True, kw_only=True)
class Started(OfCharge):
    """The amount is spent for good."""


@dataclass(frozen=True, kw_only=True)
class Refunded(OfCharge):
    """What was held is given back, for nothing was read."""


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(OfCharge):
    """The charge's run says that this attempt is over. `told` is what it found with noise that the charge paid for, in
    words: it was shown, and is shown again to whoever asks for the same release."""

    attempt: int
    reason: Reason
    told: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("attempt", self.attempt, least=1)
        if self.reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}")
        for line in self.told:
            check_text("told", line, most=MAX_TEXT, show=False)


@dataclass(frozen=True, kw_only=True)
class Retried(OfCharge):
    """Another attempt began, by another process."""

    attempt: int
    owner: Owner

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("attempt", self.attempt, least=1)


@dataclass(frozen=True, kw_only=True)
class Published(OfCharge):
    """The charge's release is out: where, and the digest of its manifest."""

    manifest_sha256: str
    path: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sha256("manifest_sha256", self.manifest_sha256)
        check_text("path", self.path, most=MAX_TEXT)


@dataclass(frozen=True, kw_only=True)
class Closed(OfCharge):
    """The run was given up; its amount stays spent, and nothing of it is published."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """From here on the ledger is at another place, `to`, and nothing is charged at this one. `datasets` are all that it
    has, so that none is left out on the way."""

    to: str
    datasets: tuple[str, ...]

    def __post_init__(self) -> None:
        check_text("to", self.to, most=MAX_TEXT)
        for dataset in self.datasets:
            check_dataset(dataset)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """The ledger goes on, at the place that it was moved to."""

    at: str


ChargeFact = Reserved | Started | Refunded | AttemptFailed | Retried | Published | Closed
Fact = BudgetCreated | UnitBound | SourceAccepted | Moved | Arrived | ChargeFact

Kind = Literal[
    "budget_created", "unit_bound", "source_accepted", "reserved", "released", "started", "attempt_failed", "retried",
    "published", "closed", "moved", "arrived",
]  # fmt: skip
"""What the journal calls each fact. A refund is `released` there: that word is in the hashes of every ledger."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A fact as columns. `details` is the canonical text of a JSON object; a fact of no charge has `charge_id` "" and
    `fence` 0."""

    kind: Kind
    charge_id: str = ""
    amount: Amount = ZERO
    fence: int = 0
    details: str


def to_record(fact: Fact) -> Record:
    """The form in which a fact is hashed and stored."""
    match fact:
        case BudgetCreated(cap=cap, meter=meter, actor=actor, ledger=ledger, protected=protected):
            whom = {} if protected is None else protected.to_json()  # version 0.1.0 didn't ask, and wrote no null
            return Record(
                kind="budget_created",
                amount=cap,
                details=canonical({"meter": meter.name, "actor": actor, "ledger": ledger, **whom}),
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
        fact = _read(record, json.loads(record.details))
    except (KeyError, TypeError, RecursionError):  # the last of thousands of brackets
        raise ValueError("not the record of a fact") from None
    if to_record(fact) != record:
        raise ValueError("not the record of a fact")
    return fact


def _read(record: Record, details: dict[str, Any]) -> Fact:
    of_charge: dict[str, Any] = {"charge_id": record.charge_id, "amount": record.amount, "fence": record.fence}
    match record.kind:
        case "budget_created":
            return BudgetCreated(
                cap=record.amount,
                meter=meter_named(details["meter"]),
                actor=details["actor"],
                ledger=details["ledger"],
                protected=_protected(details) if "privacy_unit" in details else None,
            )
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
            return Reserved(**of_charge, **details | {"owner": Owner(**details["owner"])})
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
        case _:
            raise ValueError("a kind that no fact has")


def _of_charge(kind: Kind, fact: ChargeFact, **details: Any) -> Record:
    return Record(kind=kind, charge_id=fact.charge_id, amount=fact.amount, fence=fact.fence, details=canonical(details))


def _protected(details: Mapping[str, Any]) -> Protected:
    return Protected(unit=details["privacy_unit"], neighbours=details["neighbours"])


def _above_zero(name: str, amount: Amount) -> None:
    if not (amount.epsilon > 0 and amount.delta > 0):
        raise ValueError(f"{name} must be above 0 in epsilon and delta, got {amount}")


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

    def to_json(self) -> dict[str, Any]:
        """The entry as it is hashed, so that others can check its hash."""
        record = self.record
        return {
            "seq": self.seq,
            "dataset": self.dataset,
            "time": self.time,
            "kind": record.kind,
            "charge_id": record.charge_id or None,
            "amount": record.amount.to_json(),
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
