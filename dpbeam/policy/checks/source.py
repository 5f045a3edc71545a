"""What is wrong between the source's keys and the columns."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.checks import vector_columns
from dpbeam.policy.checks.common import declared, unique
from dpbeam.policy.checks.valid_parts import ValidParts
from dpbeam.policy.values import DESCRIPTIONS
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.source import FORMATS

_LEAVE_OUT = "Leave the key out."


def source_findings(parts: ValidParts) -> Iterator[Finding]:
    """Keys that don't apply to the format, and columns that the source's keys name wrongly."""
    source = parts.source
    if source is None:
        return
    if source.format != "csv" and source.delimiter != ",":
        rule = "applies to the format csv only"
        yield Finding(key=("source", "delimiter"), rule=rule, remedy=_LEAVE_OUT, value=source.delimiter)
    if source.format != "csv" and not source.quoted_newlines:
        rule = "applies to the format csv only"
        yield Finding(key=("source", "quoted_newlines"), rule=rule, remedy=_LEAVE_OUT, value=False)
    if not FORMATS[source.format].packed_whole and source.compression not in ("auto", "none"):
        rule = f"applies to the formats csv and jsonl only: {source.format} files are compressed inside"
        yield Finding(key=("source", "compression"), rule=rule, remedy=_LEAVE_OUT, value=source.compression)
    at: Key = ("source", "path_columns")
    for place, name in enumerate(source.path_columns):
        yield from declared(parts, (*at, place), name, tuple(DESCRIPTIONS), derived=False)
    yield from unique(source.path_columns, at, None, "Name each column once.")
    for name, rules in parts.columns.items():
        at = ("columns", name, "field")
        if rules is not None:
            yield from vector_columns.source_findings(source, name, rules)
        if rules is None or rules.field is None:
            continue
        if name in source.path_columns:
            rule = f"applies to columns inside the files, and {name} stands in their path"
            yield Finding(key=at, rule=rule, remedy=_LEAVE_OUT, value=ABSENT)
        elif source.format == "csv" and isinstance(rules.field, tuple) and len(rules.field) > 1:
            rule = "must be one name in the format csv, which has no structs"
            yield Finding(key=at, rule=rule, remedy="Name the column.", value=ABSENT)
    if source.pre_aggregated is not None:
        at = ("source", "pre_aggregated", "count")
        yield from declared(parts, at, source.pre_aggregated.count, ("int64",), derived=False)
