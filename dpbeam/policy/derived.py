"""A checked policy's derived columns, as values that the engine computes, each behind those that it uses."""

from __future__ import annotations

from collections.abc import Mapping

from dpbeam.policy.checks.valid_parts import ValidParts
from dpbeam.policy.lookups import Rows
from dpbeam.policy.schema import derive as schema
from dpbeam.policy.schema.rules import Replace, RuleWord
from dpbeam.policy.values import canonical
from dpbeam.queries import source
from dpbeam.queries.column_types import ColumnType


def derived_columns(parts: ValidParts, tables: Mapping[str, Rows]) -> tuple[source.Derived, ...]:
    """The derived columns of a policy with which nothing is wrong; `tables` are what is looked up, by name."""
    return tuple(_derived(parts, name, tables) for name in parts.derived.order)


def rule_of(word: RuleWord, kind: ColumnType) -> source.Rule:
    """What a column's rule says, for values of its type."""
    if isinstance(word, Replace):
        return source.Rule(action="replace", value=canonical(word.replace, kind))
    return source.Rule(action="fail" if word == "fail" else "drop")


def _derived(parts: ValidParts, name: str, tables: Mapping[str, Rows]) -> source.Derived:
    match parts.derive[name]:
        case schema.DeriveBin(bin=column, edges=edges):
            return source.Bin(name=name, column=column, edges=tuple(map(float, edges)))
        case schema.DeriveTruncate(truncate=column, to=unit):
            return source.Truncate(name=name, column=column, unit=unit)
        case schema.DeriveLower(lower=column):
            return source.Lower(name=name, column=column)
        case schema.DeriveExpression() as entry:
            expression = parts.derived.expressions[name]
            return source.Computed(
                name=name,
                expression=expression,
                on_null=rule_of(entry.on_null, expression.type),
                on_invalid=rule_of(entry.on_invalid, expression.type),
            )
        case schema.DeriveLookup() as entry:
            return source.Lookup(
                name=name,
                column=entry.lookup,
                keys=tables[name].keys,
                values=tables[name].values,
                type=entry.type,
                on_null=rule_of(entry.on_null, entry.type),
            )
    raise ValueError(f"derive.{name} wasn't checked")
