"""A plan as people meet it in Python: what a release of a query would be like and cost, before a row is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dpbeam.accounting.outlook import Outlook
from dpbeam.accounting.outlook import outlook as make_outlook
from dpbeam.accounting.plan import Plan
from dpbeam.accounting.plan import plan as make_plan
from dpbeam.engine.release import releaser
from dpbeam.engine.stage import planned
from dpbeam.errors import UsageError
from dpbeam.pipelines.lifecycle.plan_remarks import of_plan
from dpbeam.policy.builder import QueryBuilder
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.query import Query


@dataclass(frozen=True, repr=False)
class QueryPlan:
    """The plan of a query. In a notebook it shows itself; `explain()` says the same in words."""

    query: Query
    plan: Plan

    @property
    def epsilon(self) -> float:
        """What a release would cost in ε: what the query may."""
        return self.plan.epsilon

    @property
    def delta(self) -> float:
        """The same in δ."""
        return self.plan.delta

    @cached_property
    def outlook(self) -> Outlook:
        """What results will be like: the people that a partition needs under each strategy, intervals by size, metrics
        that are one figure. It takes a calibration for each strategy, so it is made when it is asked for."""
        return make_outlook(self.query, self.plan)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing before a run: columns that nothing uses, stages that will probably be empty."""
        return of_plan(self.query, self.plan)

    def explain(self) -> str:
        """What a release would be like and cost, in words."""
        from dpbeam.reporting import plan_page  # lazily: it loads what makes HTML

        return "\n".join([plan_page.text(self.plan, self.outlook), *(f"Note: {said}." for said in self.remarks)])

    def to_json(self) -> dict[str, Any]:
        """As `dpbeam plan --json` prints it, but for the ledger (docs/formats.md)."""
        made = self.plan.to_json()
        said = {"remarks": list(self.remarks)}
        return made | {"utility": made["utility"] | self.outlook.to_json() | said}

    def __repr__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        from dpbeam.reporting import plan_page

        return plan_page.html(self.plan, self.outlook)


def plan(asked: Policy | QueryBuilder) -> QueryPlan:
    """The plan of a policy, or of what `dpbeam.query` builds: noise, the people that a partition needs, the cost. Reads
    no data and costs nothing.

    Raises:
        UsageError: the query isn't whole, breaks a rule, or asks for noise that can't be drawn exactly.
        Refused: no noise scale passes the certifier.
    """
    query = compile_query(policy_of(asked))
    made = make_plan(query)
    for stage in planned(query, made.mechanisms):
        releaser.check(stage)
    return QueryPlan(query=query, plan=made)


def policy_of(asked: Policy | QueryBuilder) -> Policy:
    """The policy that is asked with.

    Raises:
        UsageError: something else, or a query that isn't whole or breaks a rule.
    """
    if isinstance(asked, QueryBuilder):
        return asked.policy()
    if isinstance(asked, Policy):
        return asked
    raise UsageError(f"give a policy of load_policy, or what dpbeam.query builds, got {type(asked).__name__}")
