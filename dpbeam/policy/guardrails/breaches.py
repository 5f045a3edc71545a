"""Whether a policy keeps to the organisation's guardrails: each rule that it breaks, however the policy says it.

Guarantee: what is looked at is the policy as it was loaded, with its defaults filled in, bounds that a run finds at the
most they may become, and columns by the names that the source has for them. So a policy that keeps to the guardrails
does so in every run; the source's paths, which a command may replace, are looked at again when a run is made.
"""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dpbeam.errors import Refused
from dpbeam.policy.guardrails.schema import OrganisationGuardrails
from dpbeam.policy.schema.auto import AutoCount
from dpbeam.policy.schema.policy import Policy, Stage
from dpbeam.policy.violations import shown


@dataclass(frozen=True, kw_only=True)
class Breach:
    """One rule that isn't kept. `key` is the policy's, `rule` the guardrails', `value` what the policy says there."""

    key: str
    rule: str
    must: str
    value: str | None = None

    def __str__(self) -> str:
        got = "" if self.value is None else f", got {self.value}"
        return f"{self.key} must {self.must} (guardrails: {self.rule}){got}"


class GuardrailsBroken(Refused):
    """A policy that doesn't keep to the organisation's guardrails; `breaches` has all that is wrong."""

    def __init__(self, dataset: str, breaches: Iterable[Breach]) -> None:
        self.breaches = tuple(breaches)
        super().__init__(
            f"the policy of dataset {dataset} doesn't keep to the guardrails. Nothing was charged",
            *(f"  {breach}" for breach in self.breaches),
        )


def breaches(guardrails: OrganisationGuardrails, policy: Policy) -> Iterator[Breach]:
    """What the policy says that the guardrails don't allow, but for its source's paths and what only a plan tells."""
    yield from _ceilings(guardrails, policy)
    yield from _unit(guardrails, policy)
    yield from _columns(guardrails, policy)
    yield from _source(guardrails, policy)
    yield from _coverage(guardrails, policy)
    for index, stage in enumerate(policy.stages):
        yield from _bounds(guardrails, stage, f"stages[{index}]")
        yield from _partitions(guardrails, stage, f"stages[{index}]")
        yield from _metrics(guardrails, stage, f"stages[{index}]")


def _ceilings(guardrails: OrganisationGuardrails, policy: Policy) -> Iterator[Breach]:
    for name, stated, ceilings in (
        ("run", policy.run, guardrails.run),
        ("budget", policy.budget, guardrails.budget),
    ):
        if stated is None:
            continue
        for what, value, most in (
            ("epsilon", stated.epsilon, ceilings.max_epsilon),
            ("delta", stated.delta, ceilings.max_delta),
        ):
            if most is not None and not value <= most:
                yield Breach(
                    key=f"{name}.{what}", rule=f"{name}.max_{what}", must=f"be at most {most!r}", value=repr(value)
                )


def _unit(guardrails: OrganisationGuardrails, policy: Policy) -> Iterator[Breach]:
    allowed = guardrails.privacy_units
    if allowed is None:
        return
    unit = policy.privacy_unit
    # As the source calls it: what the policy calls it may be anything. A column called `row` isn't the word.
    name = unit if unit == "row" else ".".join(_path(policy, unit))
    if name not in allowed or (name == "row") != (unit == "row"):
        yield Breach(key="privacy_unit", rule="privacy_units", must=f"be {' or '.join(allowed)}", value=shown(name))


def _columns(guardrails: OrganisationGuardrails, policy: Policy) -> Iterator[Breach]:
    patterns = [_folded(pattern) for pattern in guardrails.forbidden_columns]
    if not patterns:
        return
    counted = [] if policy.counted_by is None else [policy.counted_by]
    named: list[tuple[str, Iterable[str]]] = [
        *((f"columns.{name}", [name, *_path(policy, name)]) for name in policy.columns),
        *((f"derive.{name}", [name]) for name in policy.derive),
        *(("source.path_columns", [name]) for name in policy.source.path_columns),
        *(("source.pre_aggregated.count", [name]) for name in counted),
    ]
    for key, names in named:
        found = [name for name in _ways(names) if any(fnmatch.fnmatchcase(_folded(name), each) for each in patterns)]
        if found:
            yield Breach(key=key, rule="forbidden_columns", must="be left out", value=shown(found[0]))


def _path(policy: Policy, column: str) -> tuple[str, ...]:
    """Where the source has the column: the names that lead to it."""
    rules = policy.columns.get(column)
    field = column if rules is None or rules.field is None else rules.field
    return (field,) if isinstance(field, str) else field


def _ways(names: Iterable[str]) -> list[str]:
    """The names, the path that they make, and each part of what may be a path: `person.ssn` is also `ssn`."""
    names = list(names)
    parts = [part for name in names for part in name.split(".")]
    return list(dict.fromkeys([*names, *parts, ".".join(names[1:])]))


def _folded(name: str) -> str:
    """The name without what doesn't tell one from another for a reader: case, width, spaces around it."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _source(guardrails: OrganisationGuardrails, policy: Policy) -> Iterator[Breach]:
    formats = guardrails.sources.formats
    if formats is not None and policy.source.format not in formats:
        must = f"be {' or '.join(formats)}"
        yield Breach(key="source.format", rule="sources.formats", must=must, value=policy.source.format)


def _coverage(guardrails: OrganisationGuardrails, policy: Policy) -> Iterator[Breach]:
    least, stated = guardrails.min_coverage, policy.guardrails.min_coverage
    if least is not None and (stated is None or not stated >= least):
        value = None if stated is None else repr(stated)
        yield Breach(
            key="guardrails.min_coverage", rule="min_coverage", must=f"be stated, at least {least!r}", value=value
        )


def _bounds(guardrails: OrganisationGuardrails, stage: Stage, at: str) -> Iterator[Breach]:
    stated, max_l0, max_linf = stage.bounds, guardrails.bounds.max_l0, guardrails.bounds.max_linf
    for name, bound, rule, most in (
        ("l0", stated.l0, "bounds.max_l0", max_l0),
        ("linf", stated.linf, "bounds.max_linf", max_linf),
        ("l1", stated.l1, "bounds.max_l0", max_l0),  # all its rows may lie in partitions of their own,
        ("l1", stated.l1, "bounds.max_linf", max_linf),  # or all in one
    ):
        value = bound.auto.max if isinstance(bound, AutoCount) else bound
        if value is not None and most is not None and not value <= most:
            key = f"{at}.bounds.{name}" + (".auto.max" if isinstance(bound, AutoCount) else "")
            yield Breach(key=key, rule=rule, must=f"be at most {most}", value=str(value))
    others = None if stage.private is None else stage.private.other_l0
    if others is not None and max_l0 is not None and not others <= max_l0:
        key = f"{at}.partitions.private.other_l0"
        yield Breach(key=key, rule="bounds.max_l0", must=f"be at most {max_l0}", value=str(others))


def _partitions(guardrails: OrganisationGuardrails, stage: Stage, at: str) -> Iterator[Breach]:
    allowed, least = guardrails.partitions.strategies, guardrails.partitions.min_pre_threshold
    private = stage.private
    if stage.partitions is not None and allowed is not None:
        strategy = "public" if private is None else private.strategy
        if strategy not in allowed:
            yield Breach(
                key=f"{at}.partitions",
                rule="partitions.strategies",
                must=f"be selected by {' or '.join(allowed)}",
                value=strategy,
            )
    if least is None:
        return
    stated = [] if private is None else [(f"{at}.partitions.private", private.pre_threshold)]
    for place, choice in enumerate(stage.metrics):
        threshold = getattr(choice.args, "pre_threshold", None)
        if threshold is not None and getattr(choice.args, "candidates", None) is None:
            stated.append((f"{at}.metrics[{place}].{choice.kind}", threshold))
    for key, value in stated:
        if not value >= least:
            key, rule = f"{key}.pre_threshold", "partitions.min_pre_threshold"
            yield Breach(key=key, rule=rule, must=f"be at least {least}", value=str(value))


def _metrics(guardrails: OrganisationGuardrails, stage: Stage, at: str) -> Iterator[Breach]:
    if guardrails.noises is not None and stage.noise is not None and stage.noise not in guardrails.noises:
        must = f"be {' or '.join(guardrails.noises)}"
        yield Breach(key=f"{at}.noise", rule="noises", must=must, value=stage.noise)
    for place, choice in enumerate(stage.metrics):
        key = f"{at}.metrics[{place}]"
        if guardrails.metrics is not None and choice.kind not in guardrails.metrics:
            must = f"be one of {', '.join(guardrails.metrics)}"
            yield Breach(key=key, rule="metrics", must=must, value=choice.kind)
        most, values = guardrails.bounds.max_linf, getattr(choice.args, "max_values", None)
        if most is not None and isinstance(values, int) and not values <= most:
            key = f"{key}.{choice.kind}.max_values"
            yield Breach(key=key, rule="bounds.max_linf", must=f"be at most {most}", value=str(values))
