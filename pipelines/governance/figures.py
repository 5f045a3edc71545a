"""What a policy amounts to, as figures with names: the guarantee, what a run costs, noise, who is shown, what it says.

Two policies are compared figure by figure. Every leaf of a policy's canonical form is among them, so that two with
another digest never compare as the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dpbeam.accounting.plan import Plan
from dpbeam.accounting.plan import plan as make_plan
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.canonical import canonical
from dpbeam.pipelines.lifecycle import identity
from dpbeam.policy.compile import query
from dpbeam.policy.schema.policy import Policy

Topic = Literal["guarantee", "cost", "noise", "partitions", "bounds", "stages", "columns", "settings"]
TOPICS: Mapping[Topic, str] = {
    "guarantee": "The guarantee",
    "cost": "What a run costs",
    "noise": "Noise (standard deviation)",
    "partitions": "The smallest partition that is kept (people)",
    "bounds": "Bounds",
    "stages": "Stages and metrics",
    "columns": "Columns",
    "settings": "Other settings",
}
Value = str | float | int
Figures = dict[tuple[Topic, str], Value]
_BOUNDS = ("low", "high", "low_total", "high_total", "max_values", "max_norm")


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """A policy, its plan, and its figures."""

    policy: Policy
    plan: Plan
    figures: Figures


def reviewed(policy: Policy) -> Reviewed:
    """The policy with its plan and figures.

    Raises:
        Refused: no noise scale passes the certifier.
        UsageError: a custom metric that can't be built.
    """
    plan = make_plan(query(policy))
    figures: Figures = {}
    for topic, name, value in [*_guarantee(policy), *_cost(policy), *_results(plan), *_says(policy)]:
        figures[topic, name] = value
    return Reviewed(policy=policy, plan=plan, figures=figures)


def _guarantee(policy: Policy) -> Iterator[tuple[Topic, str, Value]]:
    yield "guarantee", "it protects", str(identity.protected(policy))
    yield "guarantee", "epsilon", policy.run.epsilon
    yield "guarantee", "delta", policy.run.delta


def _cost(policy: Policy) -> Iterator[tuple[Topic, str, Value]]:
    cost = Amount.charge(policy.run.epsilon, policy.run.delta)
    yield "cost", "a run", str(cost)
    if policy.budget is not None:
        cap = Amount.cap(policy.budget.epsilon, policy.budget.delta)
        yield "cost", "the budget", f"{cap}, meter {policy.budget.meter}"
        yield "cost", "runs in it", min(cap.epsilon // cost.epsilon, cap.delta // cost.delta)


def _results(plan: Plan) -> Iterator[tuple[Topic, str, Value]]:
    figures = plan.utility
    for metric in figures.metrics:
        name = f"{metric.stage}.{metric.metric}"
        if metric.std is not None:
            yield "noise", name, metric.std
        for part in metric.parts:
            yield "noise", f"{name}, of its {part.metric.rpartition('/')[2]}", part.std
    for coverage in figures.coverage:
        yield "noise", f"{coverage.stage}, of its coverage", coverage.std
    for selection in figures.selections:
        what = (
            f"{selection.stage}" if not selection.keeps_values else f"{selection.stage}, values of {selection.metric}"
        )
        yield "partitions", f"{what}: kept with 50 %", selection.units_50
        yield "partitions", f"{what}: kept with 99 %", selection.units_99


def _says(policy: Policy) -> Iterator[tuple[Topic, str, Value]]:
    """Every leaf of the canonical form."""
    plain = policy.canonical_form()
    for key, value in plain.items():
        if key in ("columns", "derive"):
            for name, rules in value.items():
                yield "columns", name if key == "columns" else f"{name} (derived)", canonical(rules)
        elif key == "stages":
            for stage in value:
                yield from _stage(stage)
        elif key not in ("dataset", "run", "budget", "privacy_unit"):
            yield from (("settings", name, leaf) for name, leaf in _leaves(value, key))
    yield "settings", "dataset", policy.dataset
    yield "settings", "privacy_unit", policy.privacy_unit


def _stage(plain: Mapping[str, Any]) -> Iterator[tuple[Topic, str, Value]]:
    name = plain["name"]
    yield "stages", name, f"by {', '.join(plain['group_by']) or 'the whole table'}"
    for key, value in plain.items():
        if key == "bounds":
            yield from (("bounds", leaf_name, leaf) for leaf_name, leaf in _leaves(value, name))
        elif key == "metrics":
            for metric in value:
                yield from _metric(name, metric)
        elif key == "partitions":
            yield from (("stages", leaf_name, leaf) for leaf_name, leaf in _leaves(value, f"{name}.partitions"))
        elif key not in ("name", "group_by"):
            yield from (("stages", leaf_name, leaf) for leaf_name, leaf in _leaves(value, f"{name}.{key}"))


def _metric(stage: str, plain: Mapping[str, Any]) -> Iterator[tuple[Topic, str, Value]]:
    ((kind, stated),) = plain.items()
    name = f"{stage}.{stated['name']}"
    yield "stages", name, kind
    for key, value in stated.items():
        topic: Topic = "bounds" if key in _BOUNDS else "stages"
        if key != "name":
            yield from ((topic, leaf_name, leaf) for leaf_name, leaf in _leaves(value, f"{name}.{key}"))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Value]]:
    """Numbers and texts by their dotted names; a list is one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield name, value
    else:
        yield name, canonical(value)
