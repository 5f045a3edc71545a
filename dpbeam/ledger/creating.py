"""Gives a dataset its budget."""

from __future__ import annotations

from dpbeam.errors import UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Balance
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.bookkeeping import moved_to, opened
from dpbeam.ledger.budget_facts import BudgetCreated
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.store import Transaction, ledger_id
from dpbeam.ledger.terms import Terms
from dpbeam.ledger.verifying import Verifier


def check_terms(cap: Amount, actor: str) -> None:
    """Raises UsageError for what can't be a budget's cap, or who made it."""
    if not isinstance(cap, Amount):
        raise UsageError(f"cap must be an Amount, such as Amount.cap(10, 1e-5), got {type(cap).__name__}")
    if not isinstance(actor, str) or len(actor) > 256:
        raise UsageError(f"actor must be text of at most 256 characters, got {actor!r}")


def created(
    tx: Transaction,
    verifier: Verifier,
    dataset: str,
    cap: Amount,
    *,
    stated: Amount | None,
    actor: str,
    protected: Protected | None,
    exist_ok: bool,
) -> Balance:
    """The balance of the budget that is made, or, with `exist_ok`, of the same one that is there.

    Raises:
        UsageError: a value that can't be recorded.
        Refused: the dataset has a budget already; or the ledger was moved.
    """
    known = tx.budget(dataset)
    if known is not None:
        alike = cap == known.balance.cap if stated is None else stated == known.stated
        same = cap.meter == known.balance.meter and alike
        if exist_ok and same and protected in (None, known.protected):
            return known.balance
        raise refusals.budget_exists(dataset, cap, known.balance)
    verifier.no_history(tx, dataset)
    if to := moved_to(tx):
        raise refusals.moved(dataset, to)
    try:
        fact = BudgetCreated(
            cap=cap,
            meter=cap.meter,
            actor=actor,
            ledger=ledger_id(verifier.store),
            protected=protected,
            terms=Terms(stated=stated),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    budget, entry = opened(dataset, fact)
    tx.insert_budget(budget)
    tx.append(entry)
    return budget.balance
