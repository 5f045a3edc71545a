"""Columns in, a dense integer code a row out, equal exactly where the rows' values are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """`codes[i]` in [0, size) is the group of row i; `keys[c][g]` is the value of column c in group g."""

    codes: I64
    keys: tuple[pa.Array, ...]
    size: int


def group(columns: Sequence[pa.ChunkedArray | pa.Array], rows: int) -> Groups:
    """Groups rows by the values themselves (no hash decides equality). No columns: all rows are one group."""
    if not columns:
        return Groups(codes=np.zeros(rows, dtype=np.int64), keys=(), size=min(rows, 1))
    codes, first = _encode(columns[0])
    keys = [first]
    for column in columns[1:]:
        more, values = _encode(column)
        # Dense after every column, so the product of two code counts fits int64 whatever the number of columns.
        codes, combined = _encode(pa.array(codes * len(values) + more))
        pairs = combined.to_numpy()
        keys = [key.take(pa.array(pairs // max(1, len(values)))) for key in keys]
        keys.append(values.take(pa.array(pairs % max(1, len(values)))))
    return Groups(codes=codes, keys=tuple(keys), size=len(keys[0]))


def runs(sorted_codes: npt.NDArray[np.generic]) -> I64:
    """Where each run of equal values starts in a sorted array."""
    if not len(sorted_codes):
        return np.empty(0, dtype=np.int64)
    starts: I64 = np.flatnonzero(np.concatenate(([True], sorted_codes[1:] != sorted_codes[:-1])))
    return starts


def members(rows: Sequence[pa.Array], table: Sequence[pa.Array], count: int) -> npt.NDArray[np.bool_]:
    """Which of `count` rows (given as columns) occur as a row of `table` (columns in the same order)."""
    inside = np.ones(count, dtype=np.bool_)
    row_codes = np.zeros(count, dtype=np.int64)
    table_codes = np.zeros(len(table[0]) if table else 0, dtype=np.int64)
    for column, wanted in zip(rows, table, strict=True):
        codes, values = _encode(wanted)
        found = pc.index_in(_plain(column), value_set=values.cast(_plain(column).type))
        inside &= found.is_valid().to_numpy(zero_copy_only=False)
        positions = found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        row_codes, table_codes = row_codes * len(values) + positions, table_codes * len(values) + codes
        known, table_codes = np.unique(table_codes, return_inverse=True)
        at = np.minimum(np.searchsorted(known, row_codes), max(len(known) - 1, 0))
        inside &= known[at] == row_codes if len(known) else False
        row_codes = at
    return inside


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _encode(column: pa.Array | pa.ChunkedArray) -> tuple[I64, pa.Array]:
    """Codes and the values they stand for, by first appearance."""
    if isinstance(column, pa.ChunkedArray):
        column = _plain(column).dictionary_encode()
        if not column.num_chunks:
            return np.empty(0, dtype=np.int64), pa.array([], type=column.type.value_type)
        indices = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in column.chunks]
        return np.concatenate(indices).astype(np.int64), column.chunk(column.num_chunks - 1).dictionary
    encoded = _plain(column).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary
