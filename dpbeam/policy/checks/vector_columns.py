"""What is wrong with columns of vectors, which are lists of numbers of one length."""

from __future__ import annotations

from collections.abc import Iterator

from dpbeam.policy.schema import policy as schema
from dpbeam.policy.violations import ABSENT, Finding, Key


def column_findings(rules: schema.ColumnRules, key: Key) -> Iterator[Finding]:
    """That a vector lacks its length or is to be trimmed, or another column has a length.

    Guarantee: no length comes from the data. A list of another length than the one stated here breaks `on_invalid`.
    """
    if rules.type == "vector" and rules.length is None:
        rule, remedy = "is required for a vector", "Say how many numbers the list of each row has: length: 384."
        yield Finding(key=(*key, "length"), rule=rule, remedy=remedy, value=ABSENT)
    elif rules.type != "vector" and rules.length is not None:
        rule = f"applies to vectors only, and {key[-1]} is {rules.type}"
        yield Finding(key=(*key, "length"), rule=rule, remedy="Leave the key out.", value=rules.length)
    if rules.type == "vector" and rules.trim:
        rule = f"applies to text, and {key[-1]} is a vector of numbers"
        yield Finding(key=(*key, "trim"), rule=rule, remedy="Leave the key out.", value=True)


def source_findings(source: schema.Source, name: str, rules: schema.ColumnRules) -> Iterator[Finding]:
    """That a source can't hold a vector: text has no lists."""
    if rules.type == "vector" and source.format == "csv":
        yield Finding(
            key=("columns", name, "type"),
            rule="must not be vector in the format csv, which has no lists",
            remedy="Declare a float64 column for each number and list them in vector_sum, or write Parquet.",
            value="vector",
        )
