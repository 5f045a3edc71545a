"""Writes down what happened: the next entry of a dataset's journal, and the budget's row along with it."""

from __future__ import annotations

from dataclasses import replace

from dpbeam.ledger.accounts import Balance, Budget
from dpbeam.ledger.bookkeeping import chained
from dpbeam.ledger.budget_facts import SourceAccepted, UnitBound
from dpbeam.ledger.entries import ChargeFact, Fact
from dpbeam.ledger.marks import Anchored, KeyPinned
from dpbeam.ledger.replay import Replayed
from dpbeam.ledger.standing import EVERY
from dpbeam.ledger.store import Transaction


def record(tx: Transaction, budget: Budget, balance: Balance, fact: ChargeFact) -> Budget:
    """Appends a fact of a charge, after which the balance is `balance`."""
    return _append(tx, replace(budget, balance=balance), fact)


def bind(tx: Transaction, budget: Budget, fact: UnitBound | SourceAccepted) -> Budget:
    """Appends what the budget is bound to from now on, and binds it."""
    match fact:
        case UnitBound(protected=protected):
            return _append(tx, replace(budget, protected=protected), fact)
        case SourceAccepted(sources=sources):
            return _append(tx, replace(budget, sources=(*budget.sources, *sources)), fact)


def pin(tx: Transaction, budget: Budget, fact: KeyPinned) -> Budget:
    """Appends by which key checkpoints are signed from now on."""
    return _append(tx, budget, fact)


def anchor(tx: Transaction, stands: Replayed) -> Budget:
    """Appends where the dataset stands, if that wasn't stated for `EVERY` entries, or as many as it takes to state it.

    Assumes that `stands` is verified, and stands at the head.
    """
    since = stands.budget.head_seq - stands.anchored
    if since < max(EVERY, len(stands.unfinished)):
        return stands.budget
    return _append(tx, stands.budget, Anchored(standing=stands.standing))


def _append(tx: Transaction, budget: Budget, fact: Fact) -> Budget:
    """Appends the fact after the entry that the budget stands at, and moves the budget's row to it."""
    entry = chained(budget.dataset, budget, fact)
    moved = replace(budget, head_seq=entry.seq, head_hash=entry.hash)
    tx.append(entry)
    tx.update_budget(moved)
    return moved
