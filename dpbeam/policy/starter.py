"""A commented first policy for a file, from names and types alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from dpbeam.queries.column_types import ColumnType
from dpbeam.reading import vectors
from dpbeam.reading.casting import accepts

_UNIT_NAMES = re.compile(r"(?i)(user|person|patient|customer|author|member|client|account|device|visitor|unit)")
_ID_NAMES = re.compile(r"(?i)(^|[_\W])(id|uid|uuid)$")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z_]*([-/.][A-Za-z0-9_]+)*")
_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "nan", "inf")

_HEAD = """\
# A first policy, made from the file's names and types alone. Read every line; those marked CHECK need you.
version: 1
dataset: {dataset}
source: {{format: {format}, path: {path}{more}}}

# CHECK: the column that tells whose row it is; all rows of one value are protected together.
# {guess}
# Write `row` only if each person has exactly one row (and then l0: 1, linf: 1).
privacy_unit: {unit}

# Only these columns are read; remove what you don't need. A row with a missing or invalid value is dropped;
# other rules: fail, or {{replace: VALUE}}.
columns:
"""

_BUDGET = """\

# What the data set may ever spend, over all runs: `dpbeam budget create` makes it so, once.
budget: {epsilon: 10, delta: 1e-6, meter: basic}
# What one run spends. Smaller is more private and noisier; delta well below one over the number of people.
run: {epsilon: 1, delta: 1e-8}
# Each table also says, with noise, which share of rows counts in it, so that rows aren't lost in silence: at 2 % of its
# budget. `guardrails: {min_coverage: 0.5}` would keep a release that lost half of them from being published.
coverage: {share: 0.02}

stages:
  - name: first
"""

_PRIVATE = """\
    # CHECK: private partitions come from the data; where the groups are known beforehand, list them instead:
    # partitions: {public: {values: [a, b]}}
    partitions: {private: {strategy: truncated_geometric, pre_threshold: 5}}
"""

_STAND_IN = """\
    # CHECK: the file has no column to group by (string, int64, bool, date, timestamp) but the privacy unit; this one
    # stands in for it. Name or derive one (`bin` makes groups of a number), and list its values.
    partitions: {public: {values: [all]}}
"""


def starter_policy(
    schema: pa.Schema, *, path: str, format: str, dataset: str = "my-data", path_columns: Sequence[str] = ()
) -> str:
    """A policy that `load_policy` accepts as it is, with a comment on each choice that its owner must make.

    It reads nothing but names and types, and gives no bounds for values: those must come from what the owner knows
    of the domain, never from the data. `dataset` must be a valid dataset name. `path_columns` are those of the schema
    whose values stand in the files' paths.
    """
    columns, left_out = _columns(schema)
    stated, unstated = _vectors(schema)
    unit = _unit(columns)
    in_path = [name for name in path_columns if name in columns]
    keys = [name for name, kind in columns.items() if kind != "float64" and name != unit]
    group = next((name for name in keys if columns[name] == "string"), next(iter(keys), None))
    guess = "Guessed by its name." if unit else "No column sounds like a person's id, so each row counts as a person."
    text = _HEAD.format(
        dataset=_quoted(dataset),
        format=format,
        path=_quoted(path),
        more=f", path_columns: [{', '.join(map(_quoted, in_path))}]" if in_path else "",
        unit=_quoted(unit or "row"),
        guess=guess,
    )
    if format == "csv":
        text += "  # CHECK: a CSV file states no types; write int64, float64, date … where it isn't text.\n"
    text += "".join(f"  {_quoted(name)}: {{type: {kind}, on_null: drop}}\n" for name, kind in columns.items())
    text += "".join(
        f"  {_quoted(name)}: {{type: vector, length: {length}, on_null: drop}}\n" for name, length in stated.items()
    )
    if unstated:
        text += (
            "  # Lists of numbers whose length the file leaves to each row: say it, and rows of another are dropped.\n"
        )
        text += "".join(f"  # {_quoted(name)}: {{type: vector, length: LENGTH, on_null: drop}}\n" for name in unstated)
    text += "".join(f"  # left out: {line}\n" for line in left_out)
    if group is None:
        group = next(
            name
            for name in ("everyone", *(f"everyone{i}" for i in range(len(columns) + len(stated))))
            if name not in (*columns, *stated)
        )
        text += f"  {group}: {{type: string, on_null: {{replace: all}}, on_invalid: {{replace: all}}}}\n"
    text += _BUDGET + f"    group_by: [{_quoted(group)}]\n" + (_PRIVATE if group in columns else _STAND_IN)
    text += "    # CHECK: how many groups one person may count in (l0), and with how many rows in each (linf).\n"
    text += f"    bounds: {{l0: {4 if unit else 1}, linf: 1}}\n"
    text += "    metrics:\n      - privacy_id_count\n      # - count\n"
    values = [name for name, kind in columns.items() if kind in ("int64", "float64") and name not in (unit, group)]
    if values or format == "csv":
        text += "      # Sums and means need bounds that you know from elsewhere, never from the data:\n"
    for name in values:
        text += f"      # - sum: {{column: {_quoted(name)}, low: LOW, high: HIGH}}\n"
        text += f"      # - mean: {{column: {_quoted(name)}, low: LOW, high: HIGH}}\n"
    if format == "csv" and not values:
        text += "      # - sum: {column: COLUMN, low: LOW, high: HIGH}\n"
    if stated or unstated:
        text += "      # The sum of vectors needs a norm that you know them to have:\n"
    for name in (*stated, *unstated):
        text += f"      # - vector_sum: {{columns: [{_quoted(name)}], norm: l2, max_norm: MOST}}\n"
    return text + "    noise: gaussian   # or laplace: better where l0 is small\n"


def _columns(schema: pa.Schema) -> tuple[dict[str, ColumnType], list[str]]:
    """The columns a policy can read, by name, and a line on each that it can't."""
    names = schema.names
    columns: dict[str, ColumnType] = {}
    left_out = []
    for field in schema:
        kind = column_type(field.type)
        reason = _unusable(field.name, names)
        if reason is None and _is_vector(field.type):
            continue
        if reason is None and kind is None:
            reason = f"a type that dpbeam doesn't read, {_escaped(str(field.type))}"
        if kind is not None and reason is None:
            columns[field.name] = kind
        else:
            left_out.append(f"{_escaped(field.name)}, {reason}")
    return columns, list(dict.fromkeys(left_out))


def _vectors(schema: pa.Schema) -> tuple[dict[str, int], list[str]]:
    """The columns of lists of numbers: those whose type states a length, with it, and those that leave it to rows."""
    lengths = {
        field.name: vectors.stated_length(field.type) or 0
        for field in schema
        if _is_vector(field.type) and _unusable(field.name, schema.names) is None
    }
    return {name: n for name, n in lengths.items() if n}, [name for name, n in lengths.items() if not n]


def _is_vector(arrow: pa.DataType) -> bool:
    length = vectors.stated_length(arrow)
    return length is not None and length <= vectors.MAX_LENGTH


def _unusable(name: str, names: Sequence[str]) -> str | None:
    """Why a policy can't have a column of this name, if so."""
    if names.count(name) > 1:
        return "its name stands twice"
    if not name or name.startswith("__") or name == "row" or len(name) > 255:
        return "a name that a policy can't have"
    return None


def column_type(arrow: pa.DataType) -> ColumnType | None:
    """What a column of this Arrow type is declared as in a policy; None if dpbeam doesn't read it."""
    natural: list[tuple[bool, ColumnType]] = [
        (pa.types.is_boolean(arrow), "bool"),
        (pa.types.is_date(arrow), "date"),
        (pa.types.is_timestamp(arrow), "timestamp"),
        (pa.types.is_integer(arrow), "int64"),
        (pa.types.is_floating(arrow), "float64"),
        (pa.types.is_decimal(arrow), "float64"),
    ]
    wanted: ColumnType = next((kind for is_it, kind in natural if is_it), "string")
    return wanted if accepts(arrow, wanted) else None


def _unit(columns: Mapping[str, ColumnType]) -> str | None:
    """The column whose name sounds like a person's id, if any."""
    usable = [name for name, kind in columns.items() if kind in ("string", "int64")]
    named = [name for name in usable if _UNIT_NAMES.search(name)]
    ids = [name for name in usable if _ID_NAMES.search(name)]
    return next(iter([*(name for name in named if name in ids), *named, *ids]), None)


def _quoted(text: str) -> str:
    """The text as a YAML scalar that is read back as the same text."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else _escaped(text)


def _escaped(text: str) -> str:
    """The text in double quotes, on one line. YAML's escapes aren't JSON's beyond U+FFFF: no surrogate pairs."""
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    return char if char.isprintable() and char not in '"\\' else escaped(char)


def escaped(char: str) -> str:
    """A character as YAML has it within double quotes."""
    return json.dumps(char)[1:-1] if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
