"""How the ledger keeps its books: the next entry of a chain, the balance after a step, the charge that answers a key.

`replay` shares none of this, so that each checks the other.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from dpbeam.ledger.accounts import OPEN, SPENT, Balance, Budget, Charge
from dpbeam.ledger.actors import operator
from dpbeam.ledger.entries import GENESIS, Fact, JournalEntry, entry_hash
from dpbeam.ledger.store import Transaction


def utc_now() -> datetime:
    """The time that journal entries carry; nothing is decided by it."""
    return datetime.now(timezone.utc)


def chained(dataset: str, budget: Budget | None, fact: Fact) -> JournalEntry:
    """The entry that states `fact` next, after the one that the budget stands at; the first where there is none."""
    entry = JournalEntry(
        dataset=dataset,
        seq=budget.head_seq + 1 if budget else 1,
        time=utc_now().isoformat(timespec="milliseconds"),
        fact=fact,
        prev_hash=budget.head_hash if budget else GENESIS,
        hash="",
        actor=operator(),
    )
    return replace(entry, hash=entry_hash(entry))


def of_charge(charge: Charge) -> dict[str, Any]:
    """What every fact of the charge says."""
    return {"charge_id": charge.id, "amount": charge.amount, "fence": charge.fence}


def moved_balance(balance: Balance, before: Charge, after: Charge) -> Balance:
    """The balance when a charge goes from one state to another."""
    spent = balance.spent + after.amount if after.state in SPENT and before.state not in SPENT else balance.spent
    held = balance.held - before.amount if before.state == "RESERVED" else balance.held
    return replace(balance, spent=spent, held=held)


def answering(charges: list[Charge]) -> Charge | None:
    """The one of a key's charges (by increasing fence) that speaks for the key."""
    for states in (OPEN, {"PUBLISHED"}, {"SPENT_UNPUBLISHED"}):
        matching = [charge for charge in charges if charge.state in states]
        if matching:
            return matching[-1]
    return None


def moved_to(tx: Transaction) -> str | None:
    """Where the ledger was moved, as its budgets have it; None if it wasn't."""
    budgets = (tx.budget(dataset) for dataset in tx.datasets())
    return next((budget.terms.moved_to for budget in budgets if budget and budget.terms.moved_to), None)
