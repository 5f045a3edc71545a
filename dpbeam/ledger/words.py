"""What people read of a journal's facts."""

from __future__ import annotations

from dpbeam.ledger.entries import (
    Arrived,
    AttemptFailed,
    BudgetCreated,
    Closed,
    Fact,
    Moved,
    Published,
    Refunded,
    Reserved,
    Retried,
    SourceAccepted,
    Started,
    UnitBound,
    no_fact,
)


def heading(fact: Fact) -> str:
    """What happened, in a word or two."""
    match fact:
        case BudgetCreated():
            return "budget_created"
        case UnitBound():
            return "unit_bound"
        case SourceAccepted():
            return "source_accepted"
        case Moved():
            return "moved"
        case Arrived():
            return "arrived"
        case Reserved():
            return "reserved"
        case Started():
            return "started"
        case Refunded():
            return "refunded"
        case AttemptFailed():
            return "attempt_failed"
        case Retried():
            return "retried"
        case Published():
            return "published"
        case Closed():
            return "closed"
        case _:
            no_fact(fact)


def remark(fact: Fact) -> str | None:
    """What the fact says of whom the budget protects and what it is spent on, or found; None of most facts."""
    match fact:
        case BudgetCreated(protected=protected) | UnitBound(protected=protected):
            return None if protected is None else f"it protects {protected}"
        case SourceAccepted(sources=sources, also_of=also_of, asked=asked):
            said = " by --accept-source" if asked else ""
            also = f"; it is that of {', '.join(also_of)} too" if also_of else ""
            return f"spent on {', '.join(sources)}{said}{also}"
        case AttemptFailed(told=told) if told:
            return "; ".join(told)
        case Moved(to=to):
            return f"the ledger went on to {to}; nothing is charged here any more"
        case Arrived(at=at):
            return f"the ledger goes on at {at}"
        case _:
            return None
