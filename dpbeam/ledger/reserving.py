"""What a reservation must keep to: asked before one is made, and by who only wants to know whether one could be."""

from __future__ import annotations

from dataclasses import dataclass

from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import OPEN, Budget
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.binding import bindings
from dpbeam.ledger.bookkeeping import answering
from dpbeam.ledger.entries import SourceAccepted, UnitBound
from dpbeam.ledger.scope import Scope
from dpbeam.ledger.store import Transaction
from dpbeam.ledger.verifying import Verifier


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a run asks a dataset's budget for; the fields are what `Ledger.reserve` takes."""

    dataset: str
    key: str
    amount: Amount
    scope: Scope
    cap_stated: Amount | None = None
    refresh: bool = False
    accept_source: bool = False


def reservable(tx: Transaction, verifier: Verifier, claim: Claim) -> tuple[Budget, list[UnitBound | SourceAccepted]]:
    """The budget that can hold the claim, after verifying the dataset's whole history, and what the claim binds it to.
    Only reads.

    Raises:
        KeyTaken: a run of the same key is unfinished, or published and not to be made anew.
        Refused: the ledger was moved; the budget's cap is another than is stated, it protects another unit, a source
            isn't accepted, or too little is left.
        LedgerError: there is no such budget, or its history doesn't verify.
    """
    tx.check_schema()
    budget = verifier.verified(tx, claim.dataset).budget
    if budget.terms.moved_to is not None:
        raise refusals.moved(claim.dataset, budget.terms.moved_to)
    balance = budget.balance
    if claim.cap_stated is not None and claim.cap_stated != balance.cap:
        raise refusals.cap_differs(claim.dataset, claim.cap_stated, balance.cap)
    taken = answering(tx.charges(claim.dataset, key=claim.key))
    if taken is not None and (taken.state in OPEN or (taken.state == "PUBLISHED" and not claim.refresh)):
        raise refusals.KeyTaken(taken)
    binding = list(bindings(tx, budget, claim.scope, accept_source=claim.accept_source))
    if not claim.amount.fits(balance.left):
        raise refusals.not_enough(claim.dataset, claim.amount, balance)
    return budget, binding
