"""Public partitions: the table of keys that a policy lists, or what is wrong with the list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.policy.public_file import raw_rows
from dpbeam.policy.schema.policy import Public
from dpbeam.policy.values import DESCRIPTIONS, canonical, suits, to_python
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.column_types import ColumnType
from dpbeam.reading.casting import ARROW_TYPES, to_type

MAX_PARTITIONS = 10_000_000

_FILE_REMEDY = "Name a CSV or Parquet file whose columns are those of group_by."


class BadPartitions(Exception):
    """Carries the finding about a public partition list."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.rule)


def public_table(
    public: Public, keys: Sequence[str], types: Sequence[ColumnType], folder: Path, at: Key
) -> tuple[pa.Table, str | None]:
    """The distinct partitions, one column a key in the order of `keys`, of the keys' types; a file's `sha256:…` too.

    `folder` is where a relative file path starts, `at` the key path for findings. The first bad value is reported.

    Raises:
        BadPartitions: the list doesn't fit the keys, a value doesn't fit its type, or the file can't be used.
    """
    digest = None
    if public.values is not None:
        table = _from_values(public.values, keys, types, (*at, "values"))
    elif public.product is not None:
        table = _from_product(public.product, keys, types, (*at, "product"))
    else:
        table, digest = _from_file(str(public.file), keys, types, folder, (*at, "file"))
    # One thread, so that the first of equal partitions keeps its place.
    distinct = table.group_by(list(keys), use_threads=False).aggregate([])
    if public.other is None:
        return distinct, digest
    return pa.concat_tables([distinct, _other(public.other, distinct, keys, types, (*at, "other"))]), digest


def _other(label: Any, listed: pa.Table, keys: Sequence[str], types: Sequence[ColumnType], at: Key) -> pa.Table:
    """The partition of all rows that aren't in any of those listed."""
    if len(keys) != 1:
        rule = "must be left out where group_by has several columns"
        remedy = "Derive a column that has the label where its value isn't listed, and list the label."
        raise BadPartitions(Finding(key=at, rule=rule, remedy=remedy, value=label))
    _check(label, types[0], at)
    row = pa.table({keys[0]: _array([label], types[0])})
    if pc.any(pc.equal(listed.column(0), row.column(0)[0])).as_py():
        rule, remedy = "must be no partition that is listed", "Remove it from the list, or give another label."
        raise BadPartitions(Finding(key=at, rule=rule, remedy=remedy, value=label))
    return row


def _from_values(values: Sequence[Any], keys: Sequence[str], types: Sequence[ColumnType], at: Key) -> pa.Table:
    rows = []
    for index, value in enumerate(values):
        row = value if isinstance(value, tuple) else (value,)
        if len(row) != len(keys):
            rule = f"must have one value for each column of group_by: {', '.join(keys)}"
            remedy = f"Write a list of {len(keys)}." if len(keys) > 1 else "Write the value by itself."
            raise BadPartitions(Finding(key=(*at, index), rule=rule, remedy=remedy, value=list(row)))
        for item, kind in zip(row, types, strict=True):
            _check(item, kind, (*at, index))
        rows.append(row)
    columns = [_array([row[place] for row in rows], kind) for place, kind in enumerate(types)]
    return pa.table(dict(zip(keys, columns, strict=True)))


def _from_product(
    product: dict[str, tuple[Any, ...]], keys: Sequence[str], types: Sequence[ColumnType], at: Key
) -> pa.Table:
    if set(product) != set(keys):
        rule = f"must have exactly the columns of group_by: {', '.join(keys)}"
        raise BadPartitions(Finding(key=at, rule=rule, remedy="List the values of each.", value=list(product)))
    count = math.prod(len(values) for values in product.values())
    if count > MAX_PARTITIONS:
        rule, remedy = f"must not list more than {MAX_PARTITIONS:,} partitions", "List fewer values, or group by less."
        raise BadPartitions(Finding(key=at, rule=rule, remedy=remedy, value=ABSENT))
    for key, kind in zip(keys, types, strict=True):
        for index, item in enumerate(product[key]):
            _check(item, kind, (*at, key, index))
    columns, before, after = {}, 1, count
    for key, kind in zip(keys, types, strict=True):
        values = _array(product[key], kind)
        after //= len(values)
        columns[key] = values.take(pa.array(np.tile(np.repeat(np.arange(len(values)), after), before)))
        before *= len(values)
    return pa.table(columns)


def _check(item: Any, kind: ColumnType, at: Key) -> None:
    if not suits(item, kind):
        rule, remedy = f"must be {DESCRIPTIONS[kind]}, for its column is {kind}", "Give a value of the column's type."
        raise BadPartitions(Finding(key=at, rule=rule, remedy=remedy, value=item))


def _array(values: Sequence[Any], kind: ColumnType) -> pa.Array:
    return pa.array([to_python(canonical(value, kind), kind) for value in values], ARROW_TYPES[kind])


def _from_file(
    name: str, keys: Sequence[str], types: Sequence[ColumnType], folder: Path, at: Key
) -> tuple[pa.Table, str]:
    def bad(rule: str, remedy: str) -> BadPartitions:
        return BadPartitions(Finding(key=at, rule=rule, remedy=remedy, value=name))

    raw, digest = raw_rows(name, folder, MAX_PARTITIONS, bad, wanted=_FILE_REMEDY, fewer="List fewer partitions")
    if raw is not None and sorted(raw.column_names) != sorted(keys):
        raise bad(f"must have exactly the columns {', '.join(keys)}", "Write them as its header.")
    if raw is None or not 0 < raw.num_rows <= MAX_PARTITIONS:
        raise bad(f"must list between 1 and {MAX_PARTITIONS:,} partitions", "List the partitions to publish.")
    columns = {}
    for key, kind in zip(keys, types, strict=True):
        try:
            columns[key] = pa.chunked_array([to_type(chunk, kind) for chunk in raw[key].chunks], ARROW_TYPES[kind])
        except (pa.ArrowException, ValueError, TypeError):
            raise bad(f"has a column {key} that can't be read as {kind}", "Correct the file.") from None
        if columns[key].null_count:
            raise bad(f"has a missing value, or one that isn't {DESCRIPTIONS[kind]}, in {key}", "Correct the file.")
    return pa.table(columns), digest
