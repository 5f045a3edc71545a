"""How many units have each value of a column in each partition, and which values are the most frequent.

A partition's counts are a list of (value as text, units); of a public list of candidates, a vector of units. One unit
counts once for a value in a partition, and for at most `max_values` values there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import U64
from dpbeam.engine.aggregation.distinct import lengths
from dpbeam.engine.arrays import hashing
from dpbeam.engine.arrays.grouping import group, runs
from dpbeam.mechanisms.fixedpoint import checked_sum

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

VALUE, UNITS = "value", "units"
COUNTS_TYPE = pa.list_(pa.struct([(VALUE, pa.large_string()), (UNITS, pa.int64())]))
NOISY_TYPE = pa.list_(pa.struct([(VALUE, pa.large_string()), (UNITS, pa.float64())]))

_RANK_SEED = 0x3C6EF372FE94F82B


@dataclass(frozen=True, kw_only=True)
class Words:
    """A column of values: row i has `texts[codes[i]]`; different values have different texts."""

    codes: I64
    texts: pa.Array

    def kept(self, keep: npt.NDArray[np.bool_]) -> Words:
        return Words(codes=self.codes[keep], texts=self.texts)


def words(column: pa.Array | pa.ChunkedArray, rows: int) -> Words:
    """The column's values as text: int64, bool and date as YAML writes them, strings as they are.

    Raises:
        TypeError: a column of floats or timestamps, whose text isn't one for each value.
    """
    groups = group([column], rows)
    (values,) = groups.keys
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_timestamp(kind):
        raise TypeError(f"values of type {kind} can't be counted by value; a top_k takes string, int64, bool and date")
    return Words(codes=groups.codes, texts=values.cast(pa.large_string()))


def bounded_cells(row_pairs: I64, codes: I64, ranks: U64 | None, texts: pa.Array, most: int) -> tuple[I64, I64]:
    """(pair, value) of each value that counts, each once, at most `most` for a (unit, partition) pair.

    `row_pairs[i]` is the pair of row i and `codes[i]` its value in `texts`; `ranks[j]` is the keyed hash of pair j,
    None where no pair has more than one row.

    Guarantee: at most `most` values a pair, a uniform subset of exactly min(most, n) of its n: those with the lowest
    keyed hash of (unit, partition, value), so the choice for a unit depends on its own rows and the run's secret alone.
    """
    cells = np.sort(_cells(row_pairs, codes, texts))
    pair, code = np.divmod(cells[runs(cells)], max(1, len(texts)))
    starts = runs(pair)
    sizes = np.diff(starts, append=len(pair))
    over = np.flatnonzero(np.repeat(sizes > most, sizes))
    if len(over):
        if ranks is None:
            raise ValueError("pairs of several values need ranks to choose among them")
        of_value = hashing.hash_column(texts, _RANK_SEED)
        rank = hashing.mix64(ranks[pair[over]] ^ of_value[code[over]], _RANK_SEED)
        by_rank = over[np.lexsort((rank, pair[over]))]
        place = np.arange(len(by_rank)) - np.repeat(
            runs(pair[by_rank]), np.diff(runs(pair[by_rank]), append=len(by_rank))
        )
        keep = np.ones(len(pair), dtype=np.bool_)
        keep[by_rank[place >= most]] = False
        pair, code = pair[keep], code[keep]
    return pair, code


def count_values(partition: I64, code: I64, texts: pa.Array, partitions: int) -> pa.Array:
    """The column of counts: each (partition, value) counts one unit."""
    cells = np.sort(_cells(partition, code, texts))
    starts = runs(cells)
    units = np.diff(starts, append=len(cells)).astype(np.int64)
    of_partition, of_text = np.divmod(cells[starts], max(1, len(texts)))
    return _lists(of_partition, texts.take(pa.array(of_text)), units, partitions)


def _cells(first: I64, code: I64, texts: pa.Array) -> I64:
    """(first, text) as one int64 each, in this order: both are fewer than rows, and rows fewer than 2**31."""
    return first * max(1, len(texts)) + code


def count_candidates(partition: I64, candidate: I64, partitions: int, size: int) -> I64:
    """Units by partition and candidate, an array of (partitions, size)."""
    counts = np.bincount(partition * size + candidate, minlength=partitions * size)
    return counts.astype(np.int64, copy=False).reshape(partitions, size)


def among(values: Words, candidates: tuple[str, ...]) -> I64:
    """The index of each row's value among the candidates, −1 for none."""
    index = pc.index_in(values.texts, value_set=pa.array(candidates, pa.large_string())).fill_null(-1)
    places: I64 = index.to_numpy(zero_copy_only=False).astype(np.int64)
    return places[values.codes] if len(places) else np.empty(0, dtype=np.int64)


def merge(column: pa.Array, codes: I64, partitions: int) -> pa.Array:
    """The counts of merged partitions, from a column whose row i belongs to partition `codes[i]`.

    Raises:
        RunFailed: a count beyond int64.
    """
    texts, units = column.flatten().flatten()
    cells = group([pa.array(np.repeat(codes, lengths(column))), texts], len(texts))
    if not cells.size:
        return _lists(np.empty(0, dtype=np.int64), pa.array([], pa.large_string()), np.empty(0, np.int64), partitions)
    order = np.argsort(cells.codes, kind="stable")
    totals = checked_sum(units.to_numpy()[order], runs(cells.codes[order]))
    partition = cells.keys[0].to_numpy()
    by_partition = np.argsort(partition, kind="stable")
    return _lists(partition[by_partition], cells.keys[1].take(pa.array(by_partition)), totals[by_partition], partitions)


def units_of(column: pa.Array) -> I64:
    """The unit counts of all values of all partitions, in order."""
    units: I64 = column.flatten().flatten()[1].to_numpy()
    return units


def noisy_lists(column: pa.Array, kept: npt.NDArray[np.bool_], noisy: F64) -> pa.Array:
    """The values that a threshold kept, with their noisy counts, by partition: the largest first.

    Guarantee: the order is a function of what is shown, noisy counts and then texts: nothing else about the data is in
    it.
    """
    partition = np.repeat(np.arange(len(column)), lengths(column))[kept]
    texts = column.flatten().flatten()[0].filter(pa.array(kept, pa.bool_()))
    shown = pa.table({"p": partition, "n": noisy[kept], "t": texts})
    order = pc.sort_indices(shown, sort_keys=[("p", "ascending"), ("n", "descending"), ("t", "ascending")]).to_numpy()
    taken = texts.take(pa.array(order))
    return _lists(partition[order], taken, noisy[kept][order], len(column), NOISY_TYPE)


def largest(column: pa.Array, place: int) -> tuple[pa.Array, F64]:
    """The value and noisy count at a place (0 is the first) of each partition's list; null and NaN where there is
    none."""
    sizes = lengths(column)
    starts = np.cumsum(sizes) - sizes
    there = sizes > place
    texts, numbers = column.flatten().flatten()
    at = pa.array(np.where(there, starts + place, 0), mask=~there)
    return texts.take(at).cast(pa.string()), numbers.take(at).fill_null(np.nan).to_numpy(zero_copy_only=False)


def largest_candidate(noisy: F64, candidates: tuple[str, ...], place: int) -> tuple[pa.Array, F64]:
    """As `largest`, of vectors of noisy counts by candidate; of equal counts the candidate listed first."""
    order = np.argsort(-noisy, axis=1, kind="stable")[:, place]
    texts = pa.array(candidates, pa.string()).take(pa.array(order))
    return texts, noisy[np.arange(len(noisy)), order]


def empty(partitions: int) -> pa.Array:
    """The column of partitions without any value."""
    return _lists(np.empty(0, dtype=np.int64), pa.array([], pa.large_string()), np.empty(0, np.int64), partitions)


def _lists(
    partition: I64, texts: pa.Array, numbers: I64 | F64, partitions: int, kind: pa.DataType = COUNTS_TYPE
) -> pa.Array:
    """Lists by partition, which is sorted."""
    offsets = np.searchsorted(partition, np.arange(partitions + 1)).astype(np.int32)
    entries = pa.StructArray.from_arrays(
        [texts.cast(pa.large_string()), pa.array(numbers)], fields=list(kind.value_type)
    )
    return pa.ListArray.from_arrays(offsets, entries)
