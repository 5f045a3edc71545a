"""Public partitions as a policy lists them come in; a table of keys, or what is wrong with the list, goes out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dpbeam.mechanisms.casting import to_type
from dpbeam.mechanisms.spec import ColumnType
from dpbeam.policy.checks import product_rows
from dpbeam.policy.schema import Public
from dpbeam.policy.values import ARROW_TYPES, DESCRIPTIONS, canonical, suits, to_python
from dpbeam.policy.violations import ABSENT, Finding, Key

MAX_PARTITIONS = 10_000_000


class BadPartitions(Exception):
    """Carries the finding about a public partition list."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.rule)


def public_table(public: Public, keys: Sequence[str], types: Sequence[ColumnType], folder: Path, at: Key) -> pa.Table:
    """The distinct partitions, one column a key in the order of `keys`, of the keys' types. `at` places findings.

    Raises:
        BadPartitions: the list doesn't fit the keys, a value doesn't fit its type, or the file can't be used.
    """
    if public.values is not None:
        table = _from_values(public.values, keys, types, (*at, "values"))
    elif public.product is not None:
        table = _from_product(public.product, keys, types, (*at, "product"))
    else:
        table = _from_file(folder / str(public.file), keys, types, (*at, "file"))
    return table.group_by(table.column_names, use_threads=False).aggregate([]) if table.num_rows else table


def file_digest(path: Path) -> str:
    """SHA-256 of a public partition file, as the policy's digest holds it."""
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def _from_values(values: Sequence[Any], keys: Sequence[str], types: Sequence[ColumnType], at: Key) -> pa.Table:
    rows = []
    for index, value in enumerate(values):
        row = value if isinstance(value, tuple) else (value,)
        if len(row) != len(keys):
            rule = f"must have one value for each column of group_by, {len(keys)} in all"
            raise BadPartitions(Finding(key=(*at, index), rule=rule, remedy="Write [a, b].", value=list(row)))
        for item, kind in zip(row, types, strict=True):
            _check(item, kind, (*at, index))
        rows.append(row)
    return _table(list(zip(*rows, strict=True)), keys, types)


def _from_product(
    product: dict[str, tuple[Any, ...]], keys: Sequence[str], types: Sequence[ColumnType], at: Key
) -> pa.Table:
    if set(product) != set(keys):
        rule = f"must have exactly the columns of group_by: {', '.join(keys)}"
        raise BadPartitions(Finding(key=at, rule=rule, remedy="List the values of each.", value=list(product)))
    if product_rows(product) > MAX_PARTITIONS:
        rule = f"must not list more than {MAX_PARTITIONS:,} partitions"
        raise BadPartitions(Finding(key=at, rule=rule, remedy="List fewer values.", value=ABSENT))
    for key, kind in zip(keys, types, strict=True):
        for item in product[key]:
            _check(item, kind, (*at, key))
    return _table(list(zip(*itertools.product(*(product[key] for key in keys)), strict=True)), keys, types)


def _check(item: Any, kind: ColumnType, at: Key) -> None:
    if not suits(item, kind):
        rule = f"must be {DESCRIPTIONS[kind]}, as its column is {kind}"
        raise BadPartitions(Finding(key=at, rule=rule, remedy="Write a value of the column's type.", value=item))


def _table(columns: Sequence[Sequence[Any]], keys: Sequence[str], types: Sequence[ColumnType]) -> pa.Table:
    arrays = [
        pa.array([to_python(canonical(item, kind), kind) for item in column], ARROW_TYPES[kind])
        for column, kind in zip(columns, types, strict=True)
    ]
    return pa.table(dict(zip(keys, arrays, strict=True)))


def _from_file(path: Path, keys: Sequence[str], types: Sequence[ColumnType], at: Key) -> pa.Table:
    def bad(rule: str, remedy: str) -> BadPartitions:
        return BadPartitions(Finding(key=at, rule=rule, remedy=remedy, value=str(path)))

    try:
        if path.suffix == ".parquet":
            raw = pq.read_table(path)
        else:
            with path.open("rb") as file:
                names = pacsv.open_csv(file).schema.names
            as_text = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
            raw = pacsv.read_csv(path, convert_options=as_text)
    except OSError as error:
        raise bad(f"can't be read: {error.strerror or type(error).__name__}", "Name a CSV or Parquet file.") from None
    except pa.ArrowException:
        raise bad("is not a CSV or Parquet file that can be read", "Name a CSV or Parquet file.") from None
    if sorted(raw.column_names) != sorted(keys):
        raise bad(f"must have exactly the columns {', '.join(keys)}", "Write them as its header.")
    if not 0 < raw.num_rows <= MAX_PARTITIONS:
        raise bad(f"must list between 1 and {MAX_PARTITIONS:,} partitions", "List the partitions to publish.")
    columns = {}
    for key, kind in zip(keys, types, strict=True):
        typed = to_type(raw[key].combine_chunks(), kind)
        if typed.null_count:
            raise bad(f"has a missing value, or one that isn't {DESCRIPTIONS[kind]}, in {key}", "Correct the file.")
        columns[key] = typed
    return pa.table(columns)
