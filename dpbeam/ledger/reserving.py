"""What a reservation must keep to: asked before one is made, and by who only wants to know whether one could be."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from dpbeam.errors import UsageError
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import OPEN, Charge
from dpbeam.ledger.allocation import UNALLOCATED, Allocation
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.binding import bindings
from dpbeam.ledger.bookkeeping import answering, of_charge
from dpbeam.ledger.budget_facts import SourceAccepted, UnitBound
from dpbeam.ledger.charge_facts import Reserved
from dpbeam.ledger.governance.enforcing import UNSAID, Configuration, check_run, place_of
from dpbeam.ledger.meters import Meter
from dpbeam.ledger.owner import Owner
from dpbeam.ledger.replay import Replayed
from dpbeam.ledger.scope import Scope
from dpbeam.ledger.store import Transaction, ledger_id
from dpbeam.ledger.terms import ChargeDetails
from dpbeam.ledger.verifying import Verifier


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a run asks a dataset's budget for; the fields are what `Ledger.reserve` takes. `cap_stated` is in ε and δ,
    whatever the meter."""

    dataset: str
    key: str
    amount: Amount
    scope: Scope
    policy_digest: str
    configuration: Configuration = UNSAID
    allocation: Allocation = UNALLOCATED
    cap_stated: Amount | None = None
    meter_stated: Meter | None = None
    refresh: bool = False
    accept_source: bool = False


def reservable(tx: Transaction, verifier: Verifier, claim: Claim) -> tuple[Replayed, list[UnitBound | SourceAccepted]]:
    """Where the dataset stands, verified, if its budget can hold the claim; and what the claim binds it to. Only reads.

    Raises:
        KeyTaken: a run of the same key is unfinished, or published and not to be made anew.
        Refused: the ledger was moved; the budget's cap or meter is another than is stated; the policy isn't the one
            that runs are of, or isn't approved, or wasn't checked against the guardrails; the budget protects another
            unit, a source isn't accepted, or too little is left.
        LedgerError: there is no such budget, or its history doesn't verify.
    """
    tx.check_schema()
    stands = verifier.current(tx, claim.dataset)
    budget, balance = stands.budget, stands.budget.balance
    if budget.terms.moved_to is not None:
        raise refusals.moved(claim.dataset, budget.terms.moved_to)
    for meter in (claim.meter_stated, claim.amount.meter):
        if meter is not None and meter != balance.meter:
            raise refusals.meter_differs(claim.dataset, meter, balance.meter)
    if claim.cap_stated is not None and claim.cap_stated != budget.stated:
        raise refusals.cap_differs(claim.dataset, claim.cap_stated, budget.stated or balance.cap)
    taken = answering(tx.charges(claim.dataset, key=claim.key))
    if taken is not None:
        verifier.charge(tx, stands, taken)
    if taken is not None and (taken.state in OPEN or (taken.state == "PUBLISHED" and not claim.refresh)):
        raise refusals.KeyTaken(taken)
    place = place_of(tx, claim.dataset, ledger_id(verifier.store))
    check_run(budget.terms.governance, place, policy_digest=claim.policy_digest, configuration=claim.configuration)
    if claim.allocation.account != "":
        raise refusals.no_quota(claim.dataset, claim.allocation.account)
    binding = list(bindings(tx, budget, claim.scope, accept_source=claim.accept_source))
    if not claim.amount.fits(balance.left):
        raise refusals.not_enough(claim.dataset, claim.amount, balance)
    return stands, binding


def held(
    claim: Claim, *, fence: int, owner: Owner, release_id: str, path: str | None, events: str, max_attempts: int
) -> tuple[Charge, Reserved]:
    """The charge that holds what the claim asks for, and what the journal states of it. UsageError for an argument that
    can't be recorded."""
    asked: dict[str, Any] = {
        "key": claim.key,
        "owner": owner,
        "release_id": release_id,
        "policy_digest": claim.policy_digest,
        "path": path,
        "max_attempts": max_attempts,
    }
    try:
        charge = Charge(
            id=secrets.token_hex(16),
            dataset=claim.dataset,
            amount=claim.amount,
            state="RESERVED",
            fence=fence,
            attempt=1,
            details=ChargeDetails(meter=claim.amount.meter, allocation=claim.allocation),
            **asked,
        )
        by = claim.configuration
        reserved = Reserved(
            **of_charge(charge),
            **asked,
            events=events,
            plan_digest=by.plan_digest or "",
            code=by.code or "",
            allocation=claim.allocation,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    return charge, reserved
