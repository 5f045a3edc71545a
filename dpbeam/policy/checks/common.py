"""Rules that several keys of a policy share.

A name is a column's, of a fitting type; a list rises; no name stands twice; the guardrail on units is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from dpbeam.policy.values import DESCRIPTIONS, suits
from dpbeam.policy.violations import ABSENT, Finding, Key, closest
from dpbeam.queries.column_types import ColumnType, DeclaredType, Scalar

NUMERIC = ("int64", "float64")
KEYS = ("string", "int64", "bool", "date", "timestamp")
"""The types of columns that can be grouped by, or whose values can be told apart."""


class Declared(Protocol):
    """What a policy declares of its columns, and what it demands of every stage."""

    @property
    def columns(self) -> Mapping[str, object]: ...
    @property
    def derive(self) -> Mapping[str, object]: ...
    @property
    def vector_lengths(self) -> Mapping[str, int]: ...
    @property
    def least_units(self) -> int | None: ...
    def declared_type(self, name: str) -> DeclaredType | None: ...
    def type_of(self, name: str) -> ColumnType | None: ...


def declared(parts: Declared, key: Key, name: str, types: Iterable[str], *, derived: bool = True) -> Iterator[Finding]:
    """The finding that `name` isn't a declared column of one of the types, if so."""
    known = [*parts.columns, *(parts.derive if derived else ())]
    if name not in known:
        rule = "must name a column that stands under columns" + (" or derive" if derived else "")
        remedy = f"Declared: {', '.join(known[:20])}.{closest(name, known)}"
        yield Finding(key=key, rule=rule, remedy=remedy, value=name)
        return
    kind: DeclaredType | None = parts.declared_type(name)
    allowed = tuple(types)
    if kind is not None and kind not in allowed:
        rule = f"must name a column of type {' or '.join(allowed)}, and {name} is {kind}"
        remedy = "Name another column, or declare another type for it."
        if kind == "vector":
            remedy = "Name another column: a vector serves vector_sum alone."
        yield Finding(key=key, rule=rule, remedy=remedy, value=name)


def named(name: str, key: Key, remedy: str) -> Iterator[Finding]:
    """The finding that a column may not be called so, if so."""
    if not name or name.startswith("__"):
        rule = "must have a name that is not empty and doesn't start with __"
        yield Finding(key=key, rule=rule, remedy=remedy, value=ABSENT)


def guarded(parts: Declared, key: Key, pre_threshold: int) -> Iterator[Finding]:
    """The finding that what comes from the data, partitions or values, needs fewer units than the guardrail says."""
    least = parts.least_units
    if least is not None and not pre_threshold >= least:
        rule, remedy = (
            f"must be at least guardrails.min_pre_threshold, {least}",
            f"Write pre_threshold: {least} or more.",
        )
        yield Finding(key=(*key, "pre_threshold"), rule=rule, remedy=remedy, value=pre_threshold)


def rising(numbers: Sequence[float], key: Key) -> Iterator[Finding]:
    """The finding that the list doesn't rise strictly, if so."""
    if any(not low < high for low, high in itertools.pairwise(numbers)):
        rule, remedy = "must rise strictly", "Sort the list and remove repeated numbers."
        yield Finding(key=key, rule=rule, remedy=remedy, value=list(numbers))


def unique(names: Sequence[str | None], at: Key, field: str | None, remedy: str) -> Iterator[Finding]:
    """The findings that a name in the list at `at` stood there before; `field` is where an entry has its name."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name is None:
            continue
        if name in seen:
            key = (*at, index) if field is None else (*at, index, field)
            yield Finding(key=key, rule="must not stand twice", remedy=remedy, value=name)
        seen.add(name)


def condition_findings(
    policy: Declared,
    key: Key,
    column: str,
    op: str,
    value: Scalar | tuple[Scalar, ...],
    types: Iterable[str],
    *,
    derived: bool = True,
) -> Iterator[Finding]:
    """What is wrong with a row-local condition on a column of one of these types."""
    yield from declared(policy, (*key, "column"), column, types, derived=derived)
    kind = policy.type_of(column)
    many = op in ("in", "not_in")
    if many != isinstance(value, tuple):
        rule = f"must be {'a list' if many else 'one value'} for the operator {op}"
        yield Finding(key=(*key, "value"), rule=rule, remedy="Change the value or the operator.", value=ABSENT)
    elif value == ():
        rule, remedy = "must have at least one entry", "List the values, or remove the condition."
        yield Finding(key=(*key, "value"), rule=rule, remedy=remedy, value=[])
    elif kind is not None:
        if kind == "bool" and op in ("<", "<=", ">", ">="):
            rule = "must be ==, !=, in or not_in for a bool column"
            yield Finding(key=(*key, "op"), rule=rule, remedy="Compare with true or false.", value=op)
        for each in value if isinstance(value, tuple) else (value,):
            if not (suits(each, kind) or (kind == "int64" and isinstance(each, float))):
                rule = f"must be {DESCRIPTIONS[kind]}, for {column} is {kind}"
                remedy = "Compare with a value of the column's type."
                yield Finding(key=(*key, "value"), rule=rule, remedy=remedy, value=each)
