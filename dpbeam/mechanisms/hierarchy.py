"""Rows with hierarchical keys (country, city, shop) and the kept leaves in; rows of cells out: what isn't kept goes
to its parent's `other`.

A cell is a leaf that was kept, or the rest below a prefix of kept leaves: (country, city, other), (country, other,
other), …, the total's (other, other, other). Its `level` says how many of its keys are real, so no real key can be
taken for an `other`: beyond the level the keys hold a placeholder, and null in what is released.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.mechanisms.grouping import members
from dpbeam.mechanisms.spec import LEVEL

I64 = npt.NDArray[np.int64]


def roll_up(rows: pa.RecordBatch, keys: Sequence[str], kept: pa.Table) -> pa.RecordBatch:
    """The rows with their cell's keys, and `level` (int64) as a last column.

    Guarantee: row-local, given the kept leaves: so if those are public, it changes no sensitivity, and every row has
    exactly one of `cells(kept, keys)`.
    """
    level = levels(rows, keys, kept)
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for place, name in enumerate(keys):
        columns[name] = _where(level > place, columns[name])
    return pa.RecordBatch.from_arrays([*columns.values(), pa.array(level)], names=[*columns, LEVEL])


def levels(rows: pa.RecordBatch, keys: Sequence[str], kept: pa.Table) -> I64:
    """How many leading keys of each row's cell are real: those of the longest prefix that a kept leaf has."""
    level = np.zeros(rows.num_rows, dtype=np.int64)
    for depth in range(1, len(keys) + 1):
        names = list(keys[:depth])
        prefixes = kept.select(names).group_by(names, use_threads=False).aggregate([])
        level += members(
            [rows.column(name) for name in names],
            [prefixes.column(name).combine_chunks() for name in names],
            rows.num_rows,
        )
    return level


def cells(kept: pa.Table, keys: Sequence[str]) -> pa.Table:
    """All cells, distinct: the kept leaves, and an `other` below each of their prefixes, the empty one too."""
    found = []
    for depth in range(len(keys), -1, -1):
        names = list(keys[:depth])
        prefixes = kept.select(list(keys))
        if depth < len(keys):
            prefixes = kept.select(names).group_by(names, use_threads=False).aggregate([]) if depth else None
        size = 1 if prefixes is None else prefixes.num_rows
        columns = [
            prefixes.column(name).combine_chunks()
            if prefixes is not None and place < depth
            else _placeholders(kept.schema.field(name).type, size)
            for place, name in enumerate(keys)
        ]
        found.append(pa.table([*columns, pa.array([depth] * size, pa.int64())], names=[*keys, LEVEL]))
    return pa.concat_tables(found)


def shown(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The released table: keys beyond a cell's level are null."""
    level = table.column(LEVEL)
    for place, name in enumerate(keys):
        index = table.schema.get_field_index(name)
        column = pc.if_else(pc.greater(level, place), table.column(name), pa.scalar(None, table.column(name).type))
        table = table.set_column(index, pa.field(name, column.type), column)
    return table


def _where(real: npt.NDArray[np.bool_], column: pa.Array) -> pa.Array:
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    return pc.if_else(pa.array(real), plain, _placeholder(plain.type))


def _placeholders(kind: pa.DataType, size: int) -> pa.Array:
    return pa.array([_placeholder(kind).as_py()] * size, kind)


def _placeholder(kind: pa.DataType) -> pa.Scalar:
    """What stands in a key column where there is no real key; any value would do, since the level tells."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.scalar("", kind)
    zero = pa.scalar(0, pa.int32() if pa.types.is_date32(kind) else pa.int64())
    return zero.cast(kind)
