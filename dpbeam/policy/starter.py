"""A commented first policy for a file: from names and types, and where values may be looked at, from how text is
written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from dpbeam.policy.declarable import columns_in, readable_text, unusable, vectors_in
from dpbeam.policy.starter_choices import Candidate, group_of, unit_of
from dpbeam.policy.writings import Writing
from dpbeam.policy.yamltext import escaped_text, quoted
from dpbeam.queries.column_types import ColumnType

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_READ = 240
"""Characters of a name to which another can be added."""
_SUGGESTED = 5
"""For so many columns of numbers metrics are written out, to be edited."""
_IN_EXPRESSIONS = (*("and", "or", "not", "in", "case", "when", "then", "else", "end", "true", "false"), "null")

_HEAD = """\
# A first policy, made from {made_from}.
# Read every line; those marked CHECK need you.
version: 1
dataset: {dataset}
source: {{format: {format}, path: {path}{more}}}

# CHECK: the column that tells whose row it is; all rows of one value are protected together.
# {guess}
# Write `row` only if each person has exactly one row (and then l0: 1, linf: 1).
privacy_unit: {unit}

# Only these columns are read; remove what you don't need. A row whose value is missing is dropped; a value that isn't
# of the column's type ends the run, so that no wrong type empties a release in silence. Other rules: drop, fail,
# {{replace: VALUE}}. `dpbeam check` shows, to you alone, what each rule would do.
columns:
"""

_SAMPLED = """\
  # CHECK: types of text come from values of up to 10,000 rows (--sample), so what stands here depends on the data.
  # Confirm each by what you know of the file. No value stands here, and groups aren't listed.
"""

_UNTYPED = (
    "  # CHECK: a CSV file states no types; write int64, float64, date … where it isn't text (or use --sample).\n"
)

_DERIVE = """\

# Text that is read by a stated format: docs/expressions.md. CHECK each.
derive:
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
    # This strategy shares one noisy count of people with the metric below, so that is had for nothing.
    partitions: {private: {strategy: gaussian_thresholding, pre_threshold: 5}}
"""

_STAND_IN = """\
    # CHECK: the file has no column to group by (string, int64, bool, date, timestamp) but the privacy unit; this one
    # stands in for it. Name or derive one (`bin` makes groups of a number), and list its values.
    partitions: {public: {values: [all]}}
"""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """A column as the policy has it: declared as `declared`, and of `type` once an expression has read it, if any.
    `source` is what the file calls it."""

    name: str
    source: str
    declared: ColumnType
    type: ColumnType
    is_text: bool
    writing: Writing | None = None
    reads: str | None = None
    """What the column of text is called that the expression reads; None where there is none."""


def starter_policy(
    schema: pa.Schema,
    *,
    path: str,
    format: str,
    dataset: str = "my-data",
    path_columns: Sequence[str] = (),
    delimiter: str = ",",
    compression: str = "auto",
    read: Mapping[str, Writing] | None = None,
) -> str:
    """A policy that `load_policy` accepts as it is, with a comment on each choice that its owner must make.

    It is made of names and types, and `read`, how the text of columns is written (None: no value was looked at). It
    gives no bounds for values: those must come from what the owner knows of the domain, never from the data. `dataset`
    must be a valid dataset name. `path_columns` are those of the schema whose values stand in the files' paths.
    """
    columns, left_out = columns_in(schema)
    stated, unstated = vectors_in(schema)
    unit = unit_of(columns)
    in_path = [name for name in path_columns if name in columns and name == name.strip()]
    texts = {each.name for each in schema if readable_text(each)}
    taken = {*schema.names}
    if format != "csv":  # other formats state types, and parse no text
        read = {name: _parsed(writing) for name, writing in read.items()} if read is not None else None
    shown = [
        _shown(name, kind, name in texts, (read or {}).get(name) if name != unit else None, taken)
        for name, kind in columns.items()
    ]
    group = group_of(
        [
            Candidate(each.name, each.type, is_category=each.writing is not None and each.writing.is_category)
            for each in shown
            if each.source != unit
        ]
    )
    guess = "Guessed by its name." if unit else "No column sounds like a person's id, so each row counts as a person."
    text = _HEAD.format(
        made_from=_made_from(format, sampled=read is not None),
        dataset=quoted(dataset),
        format=format,
        path=quoted(path),
        more=(f", delimiter: {quoted(delimiter)}" if delimiter != "," else "")
        + (f", compression: {compression}" if compression != "auto" else "")
        + (f", path_columns: [{', '.join(map(quoted, in_path))}]" if in_path else ""),
        unit=quoted(next((each.name for each in shown if each.source == unit), "row")),
        guess=guess,
    )
    if read is not None:
        text += _SAMPLED
    elif format == "csv":
        text += _UNTYPED
    text += "".join(map(_column_line, shown))
    text += "".join(
        f"  {quoted(name)}: {{type: vector, length: {length}, on_null: drop, on_invalid: fail}}\n"
        for name, length in stated.items()
    )
    if unstated:
        text += "  # Lists of numbers whose length the file leaves to each row: say it; rows of another end the run.\n"
        text += "".join(
            f"  # {quoted(name)}: {{type: vector, length: LENGTH, on_null: drop, on_invalid: fail}}\n"
            for name in unstated
        )
    text += "".join(f"  # left out: {line}\n" for line in left_out)
    stands_in = group is None
    if group is None:
        taken |= {each.reads for each in shown if each.reads is not None}
        group = next(name for name in ("everyone", *(f"everyone{i}" for i in range(len(taken)))) if name not in taken)
        text += f"  {group}: {{type: string, on_null: {{replace: all}}, on_invalid: {{replace: all}}}}\n"
    if any(each.reads for each in shown):
        text += _DERIVE + "".join(_derived_lines(each) for each in shown if each.reads)
    text += _BUDGET + f"    group_by: [{quoted(group)}]\n" + (_STAND_IN if stands_in else _PRIVATE)
    text += "    # CHECK: how many groups one person may count in (l0), and with how many rows in each (linf).\n"
    text += f"    bounds: {{l0: {4 if unit else 1}, linf: 1}}\n"
    values = [
        each.name for each in shown if each.type in ("int64", "float64") and unit != each.source and each.name != group
    ]
    text += _metrics(values, [*stated, *unstated], is_untyped=format == "csv" and read is None)
    return text + "    noise: gaussian   # or laplace: better where l0 is small, with laplace_thresholding\n"


def _made_from(format: str, *, sampled: bool) -> str:
    if sampled:
        return "the file's names and types, and from how its first rows are written"
    match format:
        case "csv":
            return "the names in the file's first line alone: no value was read"
        case "jsonl":
            return "the names and types of the first lines' keys"
    return "the file's names and types alone: no value was read"


def _shown(source: str, kind: ColumnType, is_text: bool, writing: Writing | None, taken: set[str]) -> _Shown:
    name = source.strip()
    name = name if name not in taken and unusable(name, [name]) is None else source
    taken.add(name)
    plain = _Shown(name=name, source=source, declared=kind, type=kind, is_text=is_text, writing=writing)
    if writing is None or kind != "string" or not is_text:
        return plain
    if writing.expression is None or "`" in name or len(name) > _LONGEST_READ:
        declared = writing.type if writing.expression is None else "string"
        return replace(plain, declared=declared, type=declared)
    base = f"{name}_text"
    reads = next(each for each in (base, *(f"{base}{i}" for i in range(len(taken) + 1))) if each not in taken)
    taken.add(reads)
    return replace(plain, type=writing.type, reads=reads)


def _parsed(writing: Writing) -> Writing:
    """The writing, with an expression for what else would be declared."""
    if writing.expression is not None or writing.type == "string":
        return writing
    return replace(writing, expression=f"{writing.type}(x)")


def _column_line(column: _Shown) -> str:
    keys = [f"type: {column.declared}"]
    if column.source != (column.reads or column.name):
        keys.append(f"field: {quoted(column.source)}")
    if column.is_text:
        keys.append("trim: true")
    line = f"  {quoted(column.reads or column.name)}: {{{', '.join((*keys, 'on_null: drop', 'on_invalid: fail'))}}}"
    return line + _remark(column) + "\n"


def _remark(column: _Shown) -> str:
    writing = column.writing
    if writing is None or column.reads:
        return ""
    if writing.alternatives:
        options = " or ".join(escaped_text(_of(each, column.name)) for each in writing.alternatives)
        return f"   # CHECK: {options}? The sample doesn't tell: derive a column"
    if not writing.is_utf8:
        return "   # CHECK: some of it is not UTF-8, which ends the run: convert the file"
    return "" if writing.type == "string" else f"   # {writing.says}"


def _derived_lines(column: _Shown) -> str:
    if column.writing is None or column.writing.expression is None or column.reads is None:
        raise ValueError(f"{column.name}: no expression reads it")
    expression = escaped_text(_of(column.writing.expression, column.reads))
    return (
        f"  # {column.writing.says}\n"
        f"  {quoted(column.name)}: {{expression: {expression}, on_null: drop, on_invalid: fail}}\n"
    )


def _of(expression: str, column: str) -> str:
    """The expression with the column's name where `x` stands in it."""
    plain = _WORD.fullmatch(column) and column not in _IN_EXPRESSIONS
    name = column if plain else f"`{column}`"
    return re.sub(r"\(x(?=[,)])", lambda _: f"({name}", expression)


def _metrics(values: Sequence[str], vector_columns: Sequence[str], *, is_untyped: bool) -> str:
    text = "    metrics:\n      - privacy_id_count\n      # - count\n"
    if values or is_untyped:
        text += "      # Sums and means need bounds that you know from elsewhere, never from the data:\n"
    for name in values[:_SUGGESTED]:
        text += f"      # - sum: {{column: {quoted(name)}, low: LOW, high: HIGH}}\n"
        text += f"      # - mean: {{column: {quoted(name)}, low: LOW, high: HIGH}}\n"
    if len(values) > _SUGGESTED:
        text += (
            f"      # and so on for {len(values) - _SUGGESTED} more columns of numbers; each metric takes its share\n"
        )
    if is_untyped and not values:
        text += "      # (of a column that is declared float64 or int64 above)\n"
        text += "      # - sum: {column: COLUMN, low: LOW, high: HIGH}\n"
        text += "      # - mean: {column: COLUMN, low: LOW, high: HIGH}\n"
    if vector_columns:
        text += "      # The sum of vectors needs a norm that you know them to have:\n"
    for name in vector_columns:
        text += f"      # - vector_sum: {{columns: [{quoted(name)}], norm: l2, max_norm: MOST}}\n"
    return text
