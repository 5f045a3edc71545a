"""What is wrong between the parts of a policy: names that don't exist or clash, types that don't fit."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.checks import pre_aggregated, vector_columns
from dpbeam.policy.checks.common import condition_findings, declared, named, unique
from dpbeam.policy.checks.coverage import coverage_findings
from dpbeam.policy.checks.derived import derived_findings
from dpbeam.policy.checks.source import source_findings
from dpbeam.policy.checks.stage import stage_findings
from dpbeam.policy.checks.valid_parts import ValidParts
from dpbeam.policy.schema.rules import Replace
from dpbeam.policy.values import DESCRIPTIONS, suits
from dpbeam.policy.violations import ABSENT, Finding, Key

_RULES = ("on_null", "on_nan", "on_inf", "on_invalid")


def cross_findings(parts: ValidParts) -> list[Finding]:
    """Every violation that no key shows by itself. Parts that are wrong by themselves are passed over."""
    return [
        *source_findings(parts),
        *_columns(parts),
        *derived_findings(parts),
        *_unit(parts),
        *pre_aggregated.unit_findings(parts),
        *_where(parts),
        *_budgets(parts),
        *coverage_findings(parts),
        *(finding for index, stage in enumerate(parts.stages) for finding in stage_findings(parts, stage, index)),
        *unique([stage.name for stage in parts.stages], ("stages",), "name", "Give every stage a name of its own."),
    ]


def _columns(parts: ValidParts) -> Iterator[Finding]:
    for name, rules in parts.columns.items():
        key: Key = ("columns", name)
        yield from named(name, key, "Rename the column in the source.")
        if rules is None:
            continue
        yield from vector_columns.column_findings(rules, key)
        for rule_name in _RULES:
            word = getattr(rules, rule_name)
            if rule_name in ("on_nan", "on_inf") and rules.value_type != "float64" and word != "drop":
                rule = f"applies to float64 columns and vectors only, and {name} is {rules.type}"
                yield Finding(key=(*key, rule_name), rule=rule, remedy="Leave the key out.", value=ABSENT)
            elif isinstance(word, Replace) and not suits(word.replace, rules.value_type):
                yield Finding(
                    key=(*key, rule_name, "replace"),
                    rule=f"must be {DESCRIPTIONS[rules.value_type]}, for {name} is {rules.type}",
                    remedy="Give a value of the column's type.",
                    value=word.replace,
                )


def _unit(parts: ValidParts) -> Iterator[Finding]:
    unit = parts.privacy_unit
    if "row" in parts.columns:
        rule = "must not be called row, for privacy_unit: row means that every row is a unit of its own"
        yield Finding(key=("columns", "row"), rule=rule, remedy="Rename the column in the source.", value=ABSENT)
    if unit is None or unit == "row":
        return
    yield from declared(parts, ("privacy_unit",), unit, ("string", "int64"), derived=False)
    rules = parts.columns.get(unit)
    for rule_name in _RULES if rules is not None else ():
        if isinstance(getattr(rules, rule_name), Replace):
            yield Finding(
                key=("columns", unit, rule_name),
                rule="must be drop or fail for the privacy unit: a stand-in would make one unit of many people",
                remedy="Write drop or fail.",
                value=ABSENT,
            )


def _where(parts: ValidParts) -> Iterator[Finding]:
    for index, where in enumerate(parts.where):
        if where is not None:
            at: Key = ("where", index)
            yield from condition_findings(parts, at, where.column, where.op, where.value, tuple(DESCRIPTIONS))


def _budgets(parts: ValidParts) -> Iterator[Finding]:
    run, budget, guard = parts.run, parts.budget, parts.guardrails
    if run is None:
        return
    for name in ("epsilon", "delta"):
        asked = getattr(run, name)
        if budget is not None and not asked <= getattr(budget, name):
            rule = f"must be at most budget.{name}, {getattr(budget, name)!r}"
            yield Finding(key=("run", name), rule=rule, remedy="Ask for less in a run.", value=asked)
        limit = None if guard is None else getattr(guard, f"max_{name}_per_run")
        if limit is not None and not asked <= limit:
            rule = f"must be at most guardrails.max_{name}_per_run, {limit!r}"
            yield Finding(key=("run", name), rule=rule, remedy="Ask for less in a run.", value=asked)
