"""A file's schema comes in (names and types, no values); a commented first policy for it goes out."""

from __future__ import annotations

import json
import re

import pyarrow as pa

from dpbeam.mechanisms.casting import accepts
from dpbeam.mechanisms.spec import ColumnType

_UNIT_NAMES = re.compile(r"(?i)(user|person|patient|customer|author|member|client|account|device|visitor|unit)")
_TYPES: tuple[ColumnType, ...] = ("bool", "date", "timestamp", "int64", "float64", "string")


def starter_policy(schema: pa.Schema, *, path: str, format: str, dataset: str = "my-data") -> str:
    """A policy that `load_policy` accepts as it is, with a comment on each choice that its owner must make.

    It reads nothing but names and types, and gives no bounds for values: those must come from what the owner knows
    of the domain, never from the data.
    """
    columns = {
        field.name: _type(field.type)
        for field in schema
        if field.name and field.name != "row" and not field.name.startswith("__") and len(field.name) <= 255
    }
    usable = {name: kind for name, kind in columns.items() if kind is not None}
    keys = [name for name, kind in usable.items() if kind in ("string", "int64", "bool", "date", "timestamp")]
    unit = _unit(usable)
    group = next((name for name in keys if name != unit and usable[name] == "string"), None)
    group = group or next((name for name in keys if name != unit), None)
    lines = [
        "# A first policy, made from the file's names and types alone. Read every line; lines with CHECK need you.",
        "version: 1",
        f"dataset: {dataset}",
        f"source: {{format: {format}, path: {_quoted(path)}}}",
        "",
        "# CHECK: the column that tells whose row it is. All rows of one value are protected together.",
        "# Write `row` only if each person has exactly one row.",
        f"privacy_unit: {_quoted(unit) if unit else 'row'}",
        "",
        "# Only these columns are read; remove what you don't need. A row with a missing or invalid value is dropped;",
        "# other rules: fail, or {replace: VALUE}.",
        "columns:",
    ]
    for name, kind in columns.items():
        if kind is None:
            lines.append(f"  # {_comment(name)}: a type that dpbeam doesn't read ({schema.field(name).type})")
        else:
            lines.append(f"  {_quoted(name)}: {{type: {kind}, on_null: drop}}")
    private = [
        "    # CHECK: private partitions come from the data; use public ones where the groups are known beforehand:",
        "    # partitions: {public: {values: [a, b]}}",
        "    partitions: {private: {strategy: truncated_geometric, pre_threshold: 5}}",
    ]
    public = [
        "    # No column to group by was found: name one, and its values.",
        "    partitions: {public: {values: [all]}}",
    ]
    lines += [
        "",
        "# What the data set may ever spend, over all runs: `dpbeam budget create` makes it so, once.",
        "budget: {epsilon: 10, delta: 1e-6, meter: basic}",
        "# What one run spends. Smaller is more private and noisier; delta well below one over the number of people.",
        "run: {epsilon: 1, delta: 1e-8}",
        "",
        "stages:",
        "  - name: first",
        f"    group_by: [{_quoted(group) if group else 'everyone'}]",
        *(private if group else public),
        "    # CHECK: how many groups one person may count in (l0), and with how many rows in each (linf).",
        f"    bounds: {{l0: {4 if unit else 1}, linf: 1}}",
        "    metrics:",
        "      - privacy_id_count",
        "      # - count",
    ]
    for name, kind in usable.items():
        if kind in ("int64", "float64") and name not in (unit, group):
            lines.append(
                f"      # - mean: {{column: {_quoted(name)}, low: LOW, high: HIGH}}   # bounds you know, not the data's"
            )
    lines.append("    noise: gaussian   # or laplace: better where l0 is small")
    if not group:
        lines[lines.index("columns:") + 1 : lines.index("columns:") + 1] = [
            "  everyone: {type: string, on_null: {replace: all}, on_invalid: {replace: all}}"
        ]
    return "\n".join(lines) + "\n"


def _type(found: pa.DataType) -> ColumnType | None:
    natural: list[tuple[bool, ColumnType]] = [
        (pa.types.is_boolean(found), "bool"),
        (pa.types.is_date(found), "date"),
        (pa.types.is_timestamp(found), "timestamp"),
        (pa.types.is_integer(found), "int64"),
        (pa.types.is_floating(found), "float64"),
    ]
    wanted: ColumnType = next((kind for is_it, kind in natural if is_it), "string")
    return wanted if accepts(found, wanted) else None


def _unit(columns: dict[str, ColumnType]) -> str | None:
    """The column whose name sounds like a person's id, if any."""
    usable = [name for name, kind in columns.items() if kind in ("string", "int64")]
    named = [name for name in usable if _UNIT_NAMES.search(name)]
    ids = [name for name in usable if re.search(r"(?i)(^|[_\W])(id|uid|uuid)$", name)]
    both = [name for name in named if name in ids]
    return next(iter([*both, *named, *ids]), None)


def _quoted(text: str) -> str:
    return (
        text if re.fullmatch(r"[A-Za-z][A-Za-z_]*([-/.][A-Za-z0-9_]+)*", text) and not _word(text) else json.dumps(text)
    )


def _word(text: str) -> bool:
    return text.lower() in ("true", "false", "null", "yes", "no", "on", "off", "nan", "inf")


def _comment(text: str) -> str:
    return json.dumps(text)
