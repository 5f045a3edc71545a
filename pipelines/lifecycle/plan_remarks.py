"""What is worth knowing of a plan though nothing is wrong with it, in words: it is said before anything is spent."""

from __future__ import annotations

from dpbeam.accounting import emptiness
from dpbeam.accounting.plan import Plan
from dpbeam.policy.compile import warning
from dpbeam.queries.query import Query


def of_plan(query: Query, plan: Plan) -> tuple[str, ...]:
    """Columns that nothing uses, and stages that will probably be empty."""
    return tuple(filter(None, (warning(query), *emptiness.warnings(plan))))
