"""Bounding by hierarchical keys (country, city, shop): rows of leaves that aren't kept count for their parent's
`other`.

A cell is a leaf that was kept, or the rest below a prefix of kept leaves: (country, city, other), (country, other,
other), …, the total's (other, other, other). Its `level` says how many of its keys are real, so no real key can be
taken for an `other`: beyond the level the keys hold a placeholder, and null in what is released.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import I64, Mask
from dpbeam.engine.arrays.grouping import Groups, group, members
from dpbeam.engine.bounding import contributions
from dpbeam.engine.bounding.contributions import Bounded
from dpbeam.engine.stage import LEVEL, StageSpec


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """The leaves that were kept, by their `keys`, which go from coarse to fine."""

    keys: tuple[str, ...]
    kept: pa.Table
    _prefixes: tuple[pa.Table, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prefixes = tuple(
            self.kept.select(list(self.keys[:depth])).group_by(list(self.keys[:depth]), use_threads=False).aggregate([])
            for depth in range(1, len(self.keys) + 1)
        )
        object.__setattr__(self, "_prefixes", prefixes)

    def __reduce__(self) -> tuple[object, ...]:
        """Sent to workers without what follows from it."""
        return _hierarchy, (self.keys, self.kept)

    def levels(self, columns: Sequence[pa.Array], count: int) -> I64:
        """How many leading keys of each row's cell are real: those of the longest prefix that a kept leaf has."""
        level = np.zeros(count, dtype=np.int64)
        for depth, prefixes in enumerate(self._prefixes, start=1):
            wanted = [prefixes.column(name).combine_chunks() for name in self.keys[:depth]]
            level += members(columns[:depth], wanted, count)
        return level

    def cells_of(self, leaves: Groups) -> Groups:
        """The cell of each leaf, with the level as a last key.

        Guarantee: a function of the leaf and of the kept ones, so where those are public, rolling up doesn't look
        across rows; and every leaf has exactly one of `cells(kept, keys)`.
        """
        if not leaves.size:  # a shard without rows doesn't know its columns' types
            return Groups(codes=np.empty(0, dtype=np.int64), keys=(), size=0)
        level = self.levels(leaves.keys, leaves.size)
        columns = [_where(level > place, column) for place, column in enumerate(leaves.keys)]
        return group([*columns, pa.array(level)], leaves.size)


def _hierarchy(keys: tuple[str, ...], kept: pa.Table) -> Hierarchy:
    return Hierarchy(keys=keys, kept=kept)


def bound(
    batches: Iterable[pa.RecordBatch], spec: StageSpec, kept_leaves: Hierarchy, salt: bytes, seeds: Sequence[int]
) -> Bounded:
    """Bounds one shard by leaves, and rolls up what is kept."""
    return rolled(contributions.bound(batches, spec.of_input, salt, seeds, kept_leaves.cells_of))


def rolled(bounded: Bounded) -> Bounded:
    """Rows and units by cell, from those by leaf.

    Guarantee: every kept row is there, once, in its leaf's cell. A unit that is in several leaves of a cell is there
    once, as it is where it is in one; what its rows of each leaf add up to can still be told apart. Which of its
    values count there depends on its own rows and on secret randomness alone.

    Raises:
        ValueError: `bounded` wasn't bounded by the leaves of hierarchical keys.
    """
    cells = bounded.cells
    if cells is None:
        raise ValueError("only what was bounded by leaves can be rolled up")
    leaf_cells = cells.codes[bounded.pairs]
    packed, place = np.unique(bounded.pair_units * max(1, cells.size) + leaf_cells, return_inverse=True)
    pair_units, pairs = np.divmod(packed, max(1, cells.size))
    ranks = None
    if bounded.ranks is not None:
        ranks = np.full(len(packed), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(ranks, place, bounded.ranks)
    return replace(
        bounded,
        keys=cells.keys,
        partitions=cells.size,
        rows=cells.codes[bounded.rows],
        pairs=pairs,
        pair_units=pair_units,
        row_pairs=None if bounded.row_pairs is None else place[bounded.row_pairs],
        ranks=ranks,
        cells=None,
        row_leaves=bounded.row_pairs,
        leaf_cells=leaf_cells,
    )


def roll_up(rows: pa.RecordBatch, kept_leaves: Hierarchy) -> pa.RecordBatch:
    """The rows with their cell's keys, and `level` (int64) as a last column: where each row is a unit of its own, which
    is in one leaf, there is nothing to bound before."""
    level = kept_leaves.levels([rows.column(name) for name in kept_leaves.keys], rows.num_rows)
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for place, name in enumerate(kept_leaves.keys):
        columns[name] = _where(level > place, columns[name])
    return pa.RecordBatch.from_arrays([*columns.values(), pa.array(level)], names=[*columns, LEVEL])


def cells(kept: pa.Table, keys: Sequence[str]) -> pa.Table:
    """All cells, distinct: the kept leaves, and an `other` below each of their prefixes, the empty one too."""
    levels = []
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
        levels.append(pa.table([*columns, pa.array([depth] * size, pa.int64())], names=[*keys, LEVEL]))
    return pa.concat_tables(levels)


def shown(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The released table: keys beyond a cell's level are null."""
    level = table.column(LEVEL)
    for place, name in enumerate(keys):
        index = table.schema.get_field_index(name)
        column = pc.if_else(pc.greater(level, place), table.column(name), pa.scalar(None, table.column(name).type))
        table = table.set_column(index, pa.field(name, column.type), column)
    return table


def _where(real: Mask, column: pa.Array) -> pa.Array:
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
