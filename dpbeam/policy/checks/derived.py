"""What is wrong with the derived columns of a policy: their names, their types, their expressions."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.checks.common import KEYS, NUMERIC, declared, named, rising
from dpbeam.policy.checks.valid_parts import ValidParts
from dpbeam.policy.expressions.syntax import ExpressionError
from dpbeam.policy.schema import derive as schema
from dpbeam.policy.schema.rules import Replace, RuleWord
from dpbeam.policy.values import DESCRIPTIONS, suits
from dpbeam.policy.violations import ABSENT, Finding, Key


def derived_findings(parts: ValidParts) -> Iterator[Finding]:
    """What is wrong with each derived column, but for the tables that are looked up."""
    for name, entry in parts.derive.items():
        key: Key = ("derive", name)
        yield from named(name, key, "Give it another name.")
        if name in parts.columns:
            rule = "has the name of a column that is read"
            yield Finding(key=key, rule=rule, remedy="Give the derived column a name of its own.", value=ABSENT)
        if name in parts.derived.circles:
            way = ", ".join(parts.derived.circles[name])
            rule = "is made from itself" if way == name else f"is made from itself, by way of {way}"
            yield Finding(key=key, rule=rule, remedy="Make it from columns that are read.", value=ABSENT)
            continue
        match entry:
            case schema.DeriveBin():
                yield from declared(parts, (*key, "bin"), entry.bin, NUMERIC)
                yield from rising(entry.edges, (*key, "edges"))
            case schema.DeriveTruncate():
                types = ("timestamp",) if entry.to in ("hour", "minute") else ("date", "timestamp")
                yield from declared(parts, (*key, "truncate"), entry.truncate, types)
            case schema.DeriveLower():
                yield from declared(parts, (*key, "lower"), entry.lower, ("string",))
            case schema.DeriveExpression():
                if name in parts.derived.errors:
                    yield _misread(entry.expression, parts.derived.errors[name], (*key, "expression"))
                yield from _replaced(parts, name, "on_null", entry.on_null)
                yield from _replaced(parts, name, "on_invalid", entry.on_invalid)
            case schema.DeriveLookup():
                yield from declared(parts, (*key, "lookup"), entry.lookup, KEYS)
                yield from _replaced(parts, name, "on_null", entry.on_null)


def _misread(text: str, error: ExpressionError, key: Key) -> Finding:
    start, end = error.span.start, error.span.end
    return Finding(
        key=key,
        rule=f"is wrong at character {start + 1}: {error.problem}",
        remedy=error.remedy,
        value=text[start:end] if end > start else ABSENT,
        offset=start,
    )


def _replaced(parts: ValidParts, name: str, rule_name: str, word: RuleWord) -> Iterator[Finding]:
    kind = parts.type_of(name)
    if isinstance(word, Replace) and kind is not None and not suits(word.replace, kind):
        yield Finding(
            key=("derive", name, rule_name, "replace"),
            rule=f"must be {DESCRIPTIONS[kind]}, for {name} is {kind}",
            remedy="Give a value of the column's type.",
            value=word.replace,
        )
