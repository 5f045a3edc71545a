"""Budgets, charges and journal entries as rows of a database, and back; the same for every database that speaks SQL."""

from __future__ import annotations

from typing import Any

from dpbeam.ledger.accounts import Balance, Budget, Charge
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.canonical import canonical, parsed
from dpbeam.ledger.entries import JournalEntry, Record
from dpbeam.ledger.meters import meter_named
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.refusals import unverifiable
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.terms import ChargeDetails, Terms

Row = tuple[Any, ...]

BUDGET = (
    "dataset", "meter", "cap_epsilon", "cap_delta", "spent_epsilon", "spent_delta", "held_epsilon", "held_delta",
    "head_seq", "head_hash", "privacy_unit", "neighbours", "sources", "terms",
)  # fmt: skip
CHARGE = (
    "id", "dataset", "key", "epsilon", "delta", "state", "fence", "attempt", "max_attempts", "owner", "release_id",
    "policy_digest", "path", "manifest_sha256", "failed", "details",
)  # fmt: skip
ENTRY = (
    "dataset", "seq", "time", "kind", "charge_id", "epsilon", "delta", "fence", "details", "prev_hash", "hash", "actor",
)  # fmt: skip


def read_budget(row: Row, place: str) -> Budget:
    """The budget that a row of `BUDGET` is. LedgerError if it is none."""
    dataset, meter, *units, head_seq, head_hash, unit, neighbours, sources, terms = row
    try:
        cap, spent, held = (Amount(epsilon=units[i], delta=units[i + 1]) for i in (0, 2, 4))
        balance = Balance(meter=meter_named(meter), cap=cap, spent=spent, held=held)
        return Budget(
            dataset=dataset,
            balance=balance,
            head_seq=head_seq,
            head_hash=head_hash,
            protected=None if unit is None else Protected(unit=unit, neighbours=neighbours),
            sources=tuple(parsed(sources, list)),
            terms=Terms.from_json(parsed(terms, dict)),
        )
    except (ValueError, TypeError):
        raise unverifiable(place, "the balance of a dataset is no balance", dataset=dataset) from None


def read_charge(row: Row, place: str) -> Charge:
    """The charge that a row of `CHARGE` is. LedgerError if it is none."""
    fields = dict(zip(CHARGE, row, strict=True))
    dataset = fields["dataset"]
    try:
        amount = Amount(epsilon=fields.pop("epsilon"), delta=fields.pop("delta"))
        owner, failed = Owner(**parsed(fields["owner"], dict)), {0: False, 1: True}[fields["failed"]]
        details = ChargeDetails.from_json(parsed(fields["details"], dict))
        return Charge(**fields | {"amount": amount, "owner": owner, "failed": failed, "details": details})
    except (KeyError, ValueError, TypeError):
        raise unverifiable(place, "the row of a charge is no charge", dataset=dataset) from None


def read_entry(row: Row, place: str) -> JournalEntry:
    """The entry that a row of `ENTRY` is. LedgerError if it is none."""
    fields = dict(zip(ENTRY, row, strict=True))
    try:
        amount = Amount(epsilon=fields.pop("epsilon"), delta=fields.pop("delta"))
        of_fact = {name: fields.pop(name) for name in ("kind", "charge_id", "fence", "details")}
        return JournalEntry.read(**fields, record=Record(amount=amount, **of_fact))
    except (ValueError, TypeError):
        what = f"a row of the journal of dataset {fields['dataset']} is no journal entry"
        raise unverifiable(place, what, dataset=fields["dataset"]) from None


def budget_row(budget: Budget) -> Row:
    """The budget as a row of `BUDGET`."""
    balance = budget.balance
    units = [n for part in (balance.cap, balance.spent, balance.held) for n in (part.epsilon, part.delta)]
    unit = None if budget.protected is None else budget.protected.unit
    neighbours = None if budget.protected is None else budget.protected.neighbours
    place = (
        budget.head_seq,
        budget.head_hash,
        unit,
        neighbours,
        canonical(list(budget.sources)),
        canonical(budget.terms.to_json()),
    )
    return (budget.dataset, balance.meter.name, *units, *place)


def charge_row(charge: Charge) -> Row:
    """The charge as a row of `CHARGE`."""
    special = {
        "epsilon": charge.amount.epsilon,
        "delta": charge.amount.delta,
        "owner": canonical(charge.owner.to_json()),
        "failed": int(charge.failed),
        "details": canonical(charge.details.to_json()),
    }
    return tuple(special[name] if name in special else getattr(charge, name) for name in CHARGE)


def entry_row(entry: JournalEntry) -> Row:
    """The entry as a row of `ENTRY`."""
    record = entry.record
    of_fact = {
        "kind": record.kind,
        "charge_id": record.charge_id,
        "epsilon": record.amount.epsilon,
        "delta": record.amount.delta,
        "fence": record.fence,
        "details": record.details,
    }
    return tuple(of_fact[name] if name in of_fact else getattr(entry, name) for name in ENTRY)
