"""Reading on where a run would end: rows that break a `fail` rule are dropped, so that what follows is seen too."""

from __future__ import annotations

from dataclasses import replace

from dpbeam.queries.source import Column, Computed, Derived, InputSpec, Lookup, Rule


def lenient(spec: InputSpec) -> InputSpec:
    """The spec with rows dropped where they would end the run, so that all of them are counted."""
    columns = tuple(_without_fail(column) for column in spec.columns)
    return replace(spec, columns=columns, derived=tuple(map(_derived, spec.derived)))


def _derived(item: Derived) -> Derived:
    match item:
        case Computed():
            return replace(item, on_null=_no_fail(item.on_null), on_invalid=_no_fail(item.on_invalid))
        case Lookup():
            return replace(item, on_null=_no_fail(item.on_null))
    return item


def _without_fail(column: Column) -> Column:
    return replace(
        column,
        on_null=_no_fail(column.on_null),
        on_nan=_no_fail(column.on_nan),
        on_inf=_no_fail(column.on_inf),
        on_invalid=_no_fail(column.on_invalid),
    )


def _no_fail(rule: Rule) -> Rule:
    return Rule() if rule.action == "fail" else rule
