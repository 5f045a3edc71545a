"""What `dpbeam plan --strict` refuses: plans that the budget isn't enough for."""

from __future__ import annotations

from dpbeam.accounting.outlook import Outlook
from dpbeam.accounting.plan import Plan
from dpbeam.errors import LedgerError, Refused
from dpbeam.ledger import refusals
from dpbeam.ledger.accounts import Balance
from dpbeam.pipelines.lifecycle.metered import cost_in
from dpbeam.policy.schema.policy import Policy
from dpbeam.reporting import outlook_words


def refusal(
    policy: Policy, plan: Plan, outlook: Outlook, balance: Balance | None, unknown: LedgerError | None
) -> Refused | LedgerError | None:
    """Why the budget isn't enough; None if it is.

    What counts is what the ledger has left. Where it has no such budget, or there is no ledger, the one that the policy
    declares is whole, and covers a run (`load_policy` sees to that); one that nobody stated isn't enough. Nor is one by
    which a metric would say nothing, even in a partition of 10,000.
    """
    if balance is not None:
        asked = cost_in(balance.meter, plan.mechanisms, epsilon=plan.epsilon, delta=plan.delta)
        if not asked.fits(balance.left):
            return refusals.not_enough(policy.dataset, asked, balance)
    elif policy.budget is None:
        return unknown
    said = list(outlook_words.hopeless_lines(outlook))
    return Refused(*said) if said else None
