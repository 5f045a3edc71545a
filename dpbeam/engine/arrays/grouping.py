"""Dense integer codes for rows of several columns, equal exactly where the rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import I64, U64, Mask

DIGIT_BITS = 16
"""What `ordering` sorts by at a time."""
_SAMPLES, _SAMPLE_ROWS = 64, 64
_NEARLY_ALL = 0.98
"""The part of the samples that is different where a hash table misses the cache so often that sorting is as fast: there
are 100,000 different values then, or hardly any twice."""
_TABLE_PLACES = 8
"""How many numbers a table may hold for each row: more of them take longer to go through than the rows do to hash."""
_SORTED_BITS = 48
_HASH_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Groups:
    """`codes[i]` in [0, size) is the group of row i; `keys[c][g]` is the value of column c in group g.

    `sorting` is a stable order of the rows by their codes, if grouping came by one.
    """

    codes: I64
    keys: tuple[pa.Array, ...]
    size: int
    sorting: I64 | None = None

    def order(self) -> tuple[I64, I64]:
        """A stable order of the rows by their codes, and where each group starts in it."""
        order = self.sorting
        if order is None:
            order = ordering(self.codes.view(np.uint64), self.size.bit_length())
        return order, np.concatenate(([0], np.cumsum(np.bincount(self.codes, minlength=self.size))))[:-1]


def group(columns: Sequence[pa.ChunkedArray | pa.Array], rows: int) -> Groups:
    """Groups rows by the values themselves (no hash decides equality). No columns: all rows are one group."""
    if not columns:
        return Groups(codes=np.zeros(rows, dtype=np.int64), keys=(), size=min(rows, 1))
    codes, first, sorting = _encode(columns[0])
    keys = [first]
    for column in columns[1:]:
        more, values, _ = _encode(column)
        # Dense after every column, so the product of two code counts fits int64 whatever the number of columns.
        codes, combined, sorting = _encode(pa.array(codes * len(values) + more))
        pairs = combined.to_numpy()
        keys = [key.take(pa.array(pairs // max(1, len(values)))) for key in keys]
        keys.append(values.take(pa.array(pairs % max(1, len(values)))))
    return Groups(codes=codes, keys=tuple(keys), size=len(keys[0]), sorting=sorting)


def runs(sorted_codes: npt.NDArray[np.generic]) -> I64:
    """Where each run of equal values starts in a sorted array."""
    if not len(sorted_codes):
        return np.empty(0, dtype=np.int64)
    starts: I64 = np.flatnonzero(np.concatenate(([True], sorted_codes[1:] != sorted_codes[:-1])))
    return starts


def ordering(keys: U64, bits: int) -> I64:
    """A stable order of `keys`, which are below 2**bits.

    NumPy sorts 16-bit digits by radix, so this is a few passes over the rows and no comparison: two to five times as
    fast as `argsort` up to 48 bits.
    """
    order: I64 = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(DIGIT_BITS, bits, DIGIT_BITS):
        digits = (keys >> np.uint64(shift)).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
    return order


def members(rows: Sequence[pa.Array], table: Sequence[pa.Array], count: int) -> Mask:
    """Which of `count` rows (given as columns) occur as a row of `table` (columns in the same order)."""
    inside = np.ones(count, dtype=np.bool_)
    row_codes = np.zeros(count, dtype=np.int64)
    table_codes = np.zeros(len(table[0]) if table else 0, dtype=np.int64)
    for column, wanted in zip(rows, table, strict=True):
        codes, values, _ = _encode(wanted)
        index = pc.index_in(_plain(column), value_set=values.cast(_plain(column).type))
        inside &= index.is_valid().to_numpy(zero_copy_only=False)
        positions = index.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        row_codes, table_codes = row_codes * len(values) + positions, table_codes * len(values) + codes
        known, table_codes = np.unique(table_codes, return_inverse=True)
        at = np.minimum(np.searchsorted(known, row_codes), max(len(known) - 1, 0))
        inside &= known[at] == row_codes if len(known) else False
        row_codes = at
    return inside


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _encode(column: pa.Array | pa.ChunkedArray) -> tuple[I64, pa.Array, I64 | None]:
    """Codes and the values they stand for, in any order: equal codes exactly where values are equal. And a stable
    order of the rows by their codes, if there is one."""
    if isinstance(column, pa.ChunkedArray) and not column.num_chunks:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        return np.empty(0, dtype=np.int64), pa.array([], type=kind), None
    flat = pa.concat_arrays(_plain(column).chunks) if isinstance(column, pa.ChunkedArray) else _plain(column)
    placed = _encode_by_place(flat)
    if placed is not None:
        return *placed, None
    encoded = _encode_by_sorting(flat)
    if encoded is not None:
        return encoded
    encoded = flat.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary, None


def _encode_by_place(column: pa.Array) -> tuple[I64, pa.Array] | None:
    """As `_encode`, with values in order, for whole numbers that lie close together: a table with a place for each
    number of their range takes less time than one by hashes. None where they don't.

    Guarantee: each number has a place of its own, so equal numbers, and no others, have one code.
    """
    if column.type != pa.int64() or column.null_count or not len(column):
        return None
    numbers = column.to_numpy()
    lowest, highest = int(numbers.min()), int(numbers.max())
    if highest - lowest >= _TABLE_PLACES * len(numbers):
        return None
    places = numbers - lowest
    occurs = np.zeros(highest - lowest + 1, dtype=np.bool_)
    occurs[places] = True
    values = np.flatnonzero(occurs)
    codes = np.empty(len(occurs), dtype=np.int64)
    codes[values] = np.arange(len(values))
    return codes[places], pa.array(values + lowest)


def _encode_by_sorting(column: pa.Array) -> tuple[I64, pa.Array, I64] | None:
    """As `_encode`, for columns of many distinct values, where a hash table would miss the cache at every row; None
    where it wouldn't, or where values can't be told apart so.

    Guarantee: whole numbers are sorted by themselves, so neighbours are equal or a new value begins. Text is
    sorted by a hash, and neighbours are compared by value: where two texts share a hash, nothing is decided here.
    """
    if column.null_count or not _nearly_all_differ(column):
        return None
    if column.type == pa.int64():
        numbers = column.to_numpy()
        keys = (numbers - numbers.min()).view(np.uint64)  # exact also where it wraps round
        bits = int(keys.max()).bit_length()
        if bits > _SORTED_BITS:
            return None
        order = ordering(keys, bits)
        ranked = keys[order]
        starts = runs(ranked)
        values = column.take(pa.array(order[starts]))
    elif column.type == pa.string():
        import polars as pl  # lazily: a plan needs none of it

        hashes = pl.Series(column).hash().to_numpy() >> np.uint64(64 - _HASH_BITS)
        order = ordering(hashes, _HASH_BITS)
        ranked, texts = hashes[order], column.take(pa.array(order))
        starts = runs(ranked)
        differ = pc.not_equal(texts.slice(1), texts.slice(0, len(texts) - 1))
        if pc.sum(differ).as_py() != len(starts) - 1:  # two texts share a hash
            return None
        values = texts.take(pa.array(starts))
    else:
        return None
    codes = np.empty(len(order), dtype=np.int64)
    codes[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    return codes, values, order


def _nearly_all_differ(column: pa.Array) -> bool:
    """Whether values seem to occur about once each, by samples of neighbouring rows: equal values may be neighbours."""
    if len(column) > _SAMPLES * _SAMPLE_ROWS:
        starts = np.linspace(0, len(column) - _SAMPLE_ROWS, _SAMPLES).astype(np.int64)
        column = column.take(pa.array((starts[:, np.newaxis] + np.arange(_SAMPLE_ROWS)).ravel()))
    return len(column.unique()) > _NEARLY_ALL * len(column)
