"""The organisation's guardrails over a run: which hold, and whether its policy, plan and source keep to them.

Guarantee: where the dataset's budget is bound to guardrails, those are the ones, whatever a command or its environment
names; the ledger refuses a charge that wasn't checked against them. What is read unverified here is verified there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpbeam.errors import Refused, UsageError
from dpbeam.ledger import Ledger
from dpbeam.ledger.patterns import matcher
from dpbeam.mechanisms.events import Gaussian, Laplace, WeightedThresholding
from dpbeam.pipelines.lifecycle import identity
from dpbeam.policy.guardrails.breaches import Breach, GuardrailsBroken, breaches
from dpbeam.policy.guardrails.load import guardrails_of, load_guardrails
from dpbeam.policy.guardrails.schema import OrganisationGuardrails
from dpbeam.policy.schema.policy import Policy

if TYPE_CHECKING:
    from dpbeam.accounting.plan import Plan

VARIABLE = "DPBEAM_GUARDRAILS"
"""The environment variable that names the organisation's file."""


def stated(path: str | Path | None) -> OrganisationGuardrails | None:
    """The guardrails of the file that a command names, or else the environment; None if neither does.

    Raises:
        PolicyError: the file isn't there, or isn't one of guardrails.
        UsageError: the variable is there and empty, so that somebody may think that there are some.
    """
    if path is None:
        named = os.environ.get(VARIABLE)
        if named is None:
            return None
        if named.strip() == "":
            raise UsageError(f"{VARIABLE} must not be empty; name the organisation's guardrails, or unset it")
        path = named
    return load_guardrails(path)


def holding(ledger: Ledger | None, dataset: str, path: str | Path | None) -> OrganisationGuardrails | None:
    """The guardrails that hold for the dataset: those that its budget is bound to, or else the stated ones.

    Raises:
        Refused: both are there, and say different things.
        PolicyError, UsageError: as `stated`.
    """
    named, text = stated(path), None
    if ledger is not None:
        with ledger.store.read() as tx:
            budget = tx.budget(dataset)
        text = None if budget is None else budget.terms.governance.guardrails
    if text is None:
        return named
    bound = guardrails_of(text)
    if named is not None and named.digest != bound.digest:
        raise Refused(
            f"dataset {dataset}: the guardrails that are named here, {named.digest}, aren't those that its budget is "
            f"bound to, {bound.digest}. Nothing was charged. What you can do: name the organisation's newest file "
            f"(--guardrails, {VARIABLE}), or bind it with `dpbeam policy bind`, and find out who changed which"
        )
    return bound


def check_policy(guardrails: OrganisationGuardrails | None, policy: Policy) -> None:
    """Whether the policy keeps to the guardrails, as far as it says so itself.

    Raises:
        GuardrailsBroken: it doesn't; lists all of it.
    """
    _refuse(policy.dataset, [] if guardrails is None else list(breaches(guardrails, policy)))


def check_plan(guardrails: OrganisationGuardrails | None, plan: Plan) -> None:
    """Whether the plan keeps to the guardrails. Raises GuardrailsBroken."""
    _refuse(plan.dataset, [] if guardrails is None else list(plan_breaches(guardrails, plan)))


def check_source(
    guardrails: OrganisationGuardrails | None, dataset: str, sources: Sequence[str], files: Sequence[str] = ()
) -> None:
    """Whether what is read lies where the guardrails allow; `sources` and `files` as `identity.scope` tells them.
    Raises GuardrailsBroken."""
    _refuse(dataset, [] if guardrails is None else list(source_breaches(guardrails, [*sources, *files])))


def all_breaches(guardrails: OrganisationGuardrails, policy: Policy, plan: Plan | None) -> list[Breach]:
    """Everything in which a policy breaks the guardrails, before a run: the files that it finds are looked at then."""
    found = list(breaches(guardrails, policy))
    found += source_breaches(guardrails, [identity.source(path) for path in policy.source.path])
    return found + ([] if plan is None else list(plan_breaches(guardrails, plan)))


def plan_breaches(guardrails: OrganisationGuardrails, plan: Plan) -> Iterator[Breach]:
    """What only the plan tells: all noise that is drawn, the people that a partition, or a value, needs to be shown.

    A selection by weights counts as for people who are in that partition alone, whose weight there is the largest.
    """
    if guardrails.noises is not None:
        for mechanism in plan.mechanisms:
            if isinstance(mechanism, Laplace | Gaussian) and mechanism.kind not in guardrails.noises:
                yield Breach(
                    key=f"the noise of {mechanism.metric} in stage {mechanism.stage}",
                    rule="noises",
                    must=f"be {' or '.join(guardrails.noises)}",
                    value=mechanism.kind,
                )
    from dpbeam.accounting.utility import selection_figure  # lazily: it loads SciPy, and so the plan did

    least = guardrails.partitions.min_people
    fewest: dict[tuple[str, str], int] = {}
    for mechanism in plan.mechanisms if least is not None else ():
        if isinstance(mechanism, Laplace | Gaussian):
            continue
        alone = replace(mechanism, l0=1) if isinstance(mechanism, WeightedThresholding) else mechanism
        needed, key = selection_figure(alone).units_50, (mechanism.stage, mechanism.metric.partition("/")[0])
        fewest[key] = min(needed, fewest.get(key, needed))
    for (stage, metric), needed in fewest.items():
        if least is not None and not needed >= least:
            yield Breach(
                key=f"the people at which stage {stage} keeps {metric} with probability 50 %",
                rule="partitions.min_people",
                must=f"be at least {least} (a higher pre_threshold, or a smaller epsilon, asks for more)",
                value=str(needed),
            )


def source_breaches(guardrails: OrganisationGuardrails, paths: Sequence[str]) -> Iterator[Breach]:
    """Each path that none of the allowed patterns stands for."""
    allowed = guardrails.sources.paths
    if allowed is None:
        return
    for path in dict.fromkeys(paths):
        climbs = ".." in path.replace("\\", "/").split("/")
        if climbs or not any(matcher(pattern)(path) for pattern in allowed):
            must = f"lie in {' or '.join(allowed)}"
            yield Breach(key="source.path", rule="sources.paths", must=must, value=repr(path))


def _refuse(dataset: str, found: list[Breach]) -> None:
    if found:
        raise GuardrailsBroken(dataset, found)
