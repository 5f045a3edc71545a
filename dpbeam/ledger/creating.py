"""Gives a dataset its budget."""

from __future__ import annotations

from dpbeam.errors import UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Balance, Budget
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.bookkeeping import chained, moved_to
from dpbeam.ledger.entries import BudgetCreated
from dpbeam.ledger.meters import METERS, Meter
from dpbeam.ledger.scope import Protected
from dpbeam.ledger.store import Transaction, ledger_id
from dpbeam.ledger.verifying import Verifier


def check_terms(cap: Amount, meter: Meter, actor: str) -> None:
    """Raises UsageError for what can't be a budget's cap or meter, or who made it."""
    if not isinstance(cap, Amount):
        raise UsageError(f"cap must be an Amount, such as Amount.cap(10, 1e-5), got {type(cap).__name__}")
    if meter not in METERS.values():
        raise UsageError(f"meter must be one of {', '.join(METERS)}, got {meter!r}")
    if not isinstance(actor, str) or len(actor) > 256:
        raise UsageError(f"actor must be text of at most 256 characters, got {actor!r}")


def created(
    tx: Transaction,
    verifier: Verifier,
    dataset: str,
    cap: Amount,
    meter: Meter,
    *,
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
        same = (cap, meter) == (known.balance.cap, known.balance.meter)
        if exist_ok and same and protected in (None, known.protected):
            return known.balance
        raise refusals.budget_exists(dataset, cap, known.balance)
    verifier.no_history(tx, dataset)
    if to := moved_to(tx):
        raise refusals.moved(dataset, to)
    balance = Balance(meter=meter, cap=cap, spent=ZERO, held=ZERO)
    try:
        fact = BudgetCreated(cap=cap, meter=meter, actor=actor, ledger=ledger_id(verifier.store), protected=protected)
    except ValueError as error:
        raise UsageError(str(error)) from None
    entry = chained(dataset, None, fact)
    budget = Budget(dataset=dataset, balance=balance, head_seq=entry.seq, head_hash=entry.hash, protected=protected)
    tx.insert_budget(budget)
    tx.append(entry)
    return balance
