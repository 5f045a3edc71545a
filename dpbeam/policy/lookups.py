"""The public tables in which derived columns are looked up, read once: their keys, and what stands beside these.

Guarantee: a table belongs to the policy, whose digest covers it, and says nothing about the rows of the source. That it
is public is the word of who wrote the policy (docs/guarantee.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpbeam.policy.checks.common import KEYS
from dpbeam.policy.checks.valid_parts import ValidParts
from dpbeam.policy.public_file import raw_rows
from dpbeam.policy.schema.derive import DeriveLookup
from dpbeam.policy.values import DESCRIPTIONS, canonical, suits, to_python
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.column_types import ColumnType
from dpbeam.reading.casting import ARROW_TYPES, to_type

MAX_ROWS = 1_000_000

_REMEDY = "Name a CSV or Parquet file that has the columns which derive names."


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table's keys and the value beside each, of their columns' types."""

    keys: pa.Array
    values: pa.Array


@dataclass(kw_only=True)
class LookedUp:
    """The tables that were read and the digests of those in files, by derived column; and what is wrong with others."""

    tables: dict[str, Rows] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class _Bad(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.rule)


def lookup_tables(parts: ValidParts, folder: Path) -> LookedUp:
    """Reads the table of every derived column that is looked up; a relative path starts at `folder`. Columns of which
    something else is wrong are passed over."""
    found = LookedUp()
    for name, entry in parts.derive.items():
        kind = parts.type_of(entry.lookup) if isinstance(entry, DeriveLookup) else None
        if not isinstance(entry, DeriveLookup) or kind not in KEYS:
            continue
        try:
            if entry.table is None:
                found.tables[name] = _stated(entry, kind, ("derive", name, "values"))
            else:
                rows, found.digests[name] = _read(name, entry, entry.table, kind, folder)
                found.tables[name] = rows
        except _Bad as error:
            found.findings.append(error.finding)
    return found


def _stated(entry: DeriveLookup, kind: ColumnType, at: Key) -> Rows:
    """A table that stands in the policy, whose keys are text that is read as a CSV file is."""
    said = entry.values or {}
    keys = to_type(pa.array([key.encode() for key in said]), kind)
    for key, read in zip(said, keys, strict=True):
        if not read.is_valid:
            rule = f"must have keys that are {DESCRIPTIONS[kind]}, for {entry.lookup} is {kind}"
            raise _Bad(Finding(key=at, rule=rule, remedy="Correct the key.", value=key))
    _once(keys, at, ABSENT)
    values = [_value(value, entry.type, (*at, key)) for key, value in said.items()]
    return Rows(keys=keys, values=pa.array(values, ARROW_TYPES[entry.type]))


def _value(value: Any, kind: ColumnType, at: Key) -> object:
    if not suits(value, kind):
        rule = f"must be {DESCRIPTIONS[kind]}, for the derived column is {kind}"
        remedy = "Give a value of its type, or state another type."
        raise _Bad(Finding(key=at, rule=rule, remedy=remedy, value=value))
    return to_python(canonical(value, kind), kind)


def _read(name: str, entry: DeriveLookup, file: str, kind: ColumnType, folder: Path) -> tuple[Rows, str]:
    at: Key = ("derive", name, "table")

    def bad(rule: str, remedy: str) -> _Bad:
        return _Bad(Finding(key=at, rule=rule, remedy=remedy, value=file))

    fewer = "Leave out rows that nothing is looked up in"
    raw, digest = raw_rows(file, folder, MAX_ROWS, bad, wanted=_REMEDY, fewer=fewer, with_missing=True)
    if raw is None or not 0 < raw.num_rows <= MAX_ROWS:
        raise bad(f"must have between 1 and {MAX_ROWS:,} rows", "Look up in a smaller table.")
    found = []
    for column, wanted in ((entry.key or entry.lookup, kind), (entry.column or name, entry.type)):
        if raw.column_names.count(column) != 1:
            rule = f"must have one column {column}"
            raise bad(
                rule, "Say how its columns are called: {lookup: city, table: towns.csv, key: name, column: region}."
            )
        try:
            chunks = [to_type(chunk, wanted) for chunk in raw[column].chunks]
        except (pa.ArrowException, ValueError, TypeError):
            raise bad(f"has a column {column} that can't be read as {wanted}", "Correct the file.") from None
        found.append(pa.concat_arrays(chunks) if chunks else pa.array([], ARROW_TYPES[wanted]))
        if found[-1].null_count > (raw[column].null_count if len(found) == 2 else 0):
            missing = "a missing value, or one that isn't" if len(found) == 1 else "one that isn't"
            raise bad(f"has {missing} {DESCRIPTIONS[wanted]}, in {column}", "Correct the file.")
    keys, values = found
    if entry.type == "float64" and not pa.compute.all(pa.compute.is_finite(values)).as_py():
        raise bad(f"has NaN or an infinity in {entry.column or name}", "Correct the file.")
    _once(keys, at, file, entry.key or entry.lookup)
    return Rows(keys=keys, values=values), digest


def _once(keys: pa.Array, at: Key, value: object, column: str | None = None) -> None:
    if len(keys.unique()) == len(keys):
        return
    rule = "must have each key once" + ("" if column is None else f", and column {column} has one several times")
    remedy = "Remove all but one row of each key: a lookup adds no rows."
    raise _Bad(Finding(key=at, rule=rule, remedy=remedy, value=value))
