"""Which rows, and which partitions of each unit, a sample keeps, of rows that are grouped by both.

The choice is bottom-k: rows by a uniform priority, partitions of a unit by a keyed hash of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpbeam.array_types import I64, U64, Mask
from dpbeam.engine.arrays import hashing
from dpbeam.engine.arrays.grouping import DIGIT_BITS, Groups, ordering, runs
from dpbeam.engine.bounding import leaf_sampling
from dpbeam.engine.stage import StageSpec
from dpbeam.queries.quantities import Total, UnitsByValue

_PACKED_BITS = 64
_RANK_BITS = 20
"""How many bits of a priority are sorted by at least; all are looked at where these don't decide. Groups are below
2**32."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What stays of some rows.

    `keep` marks the rows (None: all), `pairs[j]` is the partition of kept pair j, `pair_units[j]` its unit, and
    `row_pairs[i]` the kept pair of row i (of a row that doesn't stay: any); `cut_rows` says that rows went while others
    of their pair may have stayed.
    """

    keep: Mask | None
    pairs: I64
    pair_units: I64
    row_pairs: I64 | None
    cut_rows: bool


def choose(
    units: Groups,
    partitions: Groups,
    spec: StageSpec,
    salt: bytes,
    priorities: Callable[[], U64],
    cells: Groups | None = None,
) -> Choice:
    """Chooses the rows, and the (unit, partition) pairs, that count in a stage: those that its bounds let in.

    `units` and `partitions` are of the same rows: in `contributions.bound` all rows of each unit; in `prebound` those
    of one batch, of which what goes wouldn't have stayed in `bound` either. `priorities()` has one number a row, and is
    asked only where rows must go. With `cells`, the cell of each partition, partitions are leaves of hierarchical keys.

    - With `l1`: of each unit the `l1` rows of lowest priority, whatever partitions they are in.
    - Else of each unit the `l0` partitions of lowest keyed hash of (unit, partition), or with `cells` the leaves that
      `leaf_sampling.spread_over_cells` says; and of each of these pairs the `linf` rows of lowest priority, or all.

    Guarantee: of a unit with n partitions exactly min(l0, n) are kept, of a kept pair with n rows exactly min(linf, n),
    or of a unit with n rows exactly min(l1, n); with `cells`, at most `l0` leaves of a unit, and at most `other_leaves`
    in one cell. What is kept of one unit depends on that unit's rows, their priorities and the salt alone, not on
    who else is here: with one unit more, the rows of all others stay as they were. All sensitivities rest on this, also
    those of several stages together (docs/accounting.md, "All stages together": both worlds have the same hashes, and
    the same priorities of others' rows). And the subsets are uniform, but for leaves, which are spread over cells.
    Assumes that priorities are independent and uniform, and that the salt is secret, random and independent of the
    data. What would break it: priorities or hashes that depend on other units' rows; or a unit whose rows are divided
    between two calls whose results both count.
    """
    order, starts, pair_unit, pair_partition = _pairs(units, partitions)
    lengths = np.diff(starts, append=len(order))
    if spec.bounds.l1 is not None:
        keep = _within_l1(spec.bounds.l1, order, starts, pair_unit, priorities)
        pair_kept = np.ones(len(starts), dtype=np.bool_)
        if keep is not None and len(starts):
            pair_kept = np.logical_or.reduceat(keep[order], starts)
        cut_rows = keep is not None
    else:
        if cells is None:
            pair_kept = _within_l0(spec.bounds.partitions, units, partitions, pair_unit, pair_partition, salt)
        else:
            pair_kept = _within_cells(spec, units, partitions, cells, pair_unit, pair_partition, salt)
        keep, cut_rows = _within_linf(spec.bounds.linf, order, lengths, pair_kept, priorities)
    row_pairs = None
    if not spec.metrics or any(isinstance(quantity, Total | UnitsByValue) for quantity in spec.quantities):
        row_pairs = np.empty(len(order), dtype=np.int64)
        row_pairs[order] = np.repeat(np.cumsum(pair_kept) - 1, lengths)
    pairs, pair_units = pair_partition[pair_kept], pair_unit[pair_kept]
    return Choice(keep=keep, pairs=pairs, pair_units=pair_units, row_pairs=row_pairs, cut_rows=cut_rows)


def _within_l0(l0: int, units: Groups, partitions: Groups, pair_unit: I64, pair_partition: I64, salt: bytes) -> Mask:
    """The pairs that stay: at most `l0` of each unit."""
    kept = np.ones(len(pair_unit), dtype=np.bool_)
    touched = np.diff(runs(pair_unit), append=len(pair_unit))
    over = np.flatnonzero(np.repeat(touched > l0, touched))
    if len(over):
        ranks = pair_priorities(units, partitions, pair_unit[over], pair_partition[over], salt)
        kept[over] = _lowest(pair_unit[over], ranks, l0)
    return kept


def _within_cells(
    spec: StageSpec, units: Groups, leaf: Groups, cells: Groups, pair_unit: I64, pair_leaf: I64, salt: bytes
) -> Mask:
    """As `_within_l0`, where partitions are leaves: at most `spec.other_leaves` of a unit in one cell, too."""
    kept = np.ones(len(pair_unit), dtype=np.bool_)
    touched = np.diff(runs(pair_unit), append=len(pair_unit))
    over = np.flatnonzero(np.repeat(touched > spec.other_leaves, touched))
    if len(over):
        unit, of_leaf = pair_unit[over], pair_leaf[over]
        kept[over] = leaf_sampling.spread_over_cells(
            unit,
            cells.codes[of_leaf],
            pair_priorities(units, leaf, unit, of_leaf, salt, "leaves of a cell"),
            pair_priorities(units, cells, unit, cells.codes[of_leaf], salt),
            spec.bounds.partitions,
            spec.other_leaves,
        )
    return kept


def _within_linf(
    linf: int | None, order: I64, lengths: I64, pair_kept: Mask, priorities: Callable[[], U64]
) -> tuple[Mask | None, bool]:
    """The rows of kept pairs that stay, at most `linf` of each; and whether a kept pair lost any."""
    crowded = pair_kept & (lengths > linf) if linf is not None else np.zeros(len(lengths), dtype=np.bool_)
    cut_rows = bool(crowded.any())
    if pair_kept.all() and not cut_rows:
        return None, False
    keep = np.ones(len(order), dtype=np.bool_)
    keep[order[np.repeat(~pair_kept, lengths)]] = False
    if linf is not None and cut_rows:
        rows = order[np.repeat(crowded, lengths)]
        pair = np.repeat(np.flatnonzero(crowded), lengths[crowded])
        keep[rows] = _lowest(pair, priorities()[rows], linf)
    return keep, cut_rows


def _within_l1(l1: int, order: I64, starts: I64, pair_unit: I64, priorities: Callable[[], U64]) -> Mask | None:
    """The rows that stay, at most `l1` of each unit; None for all."""
    unit_starts = starts[runs(pair_unit)]
    rows_of_unit = np.diff(unit_starts, append=len(order))
    crowded = rows_of_unit > l1
    if not crowded.any():
        return None
    keep = np.ones(len(order), dtype=np.bool_)
    rows = order[np.repeat(crowded, rows_of_unit)]
    unit = np.repeat(np.flatnonzero(crowded), rows_of_unit[crowded])
    keep[rows] = _lowest(unit, priorities()[rows], l1)
    return keep


def _pairs(units: Groups, partitions: Groups) -> tuple[I64, I64, I64, I64]:
    """Rows ordered by (unit, partition); where each pair starts in that order; each pair's unit and partition."""
    unit_bits, partition_bits = (max(1, int(n - 1).bit_length()) for n in (units.size, partitions.size))
    if unit_bits + partition_bits <= _PACKED_BITS:
        packed = units.codes.astype(np.uint64)
        packed <<= np.uint64(partition_bits)
        packed |= partitions.codes.view(np.uint64)
        if partitions.sorting is None:
            order = ordering(packed, unit_bits + partition_bits)
        else:  # in order of partitions already, so that only the units are left to sort by
            order = partitions.sorting[ordering((packed >> np.uint64(partition_bits))[partitions.sorting], unit_bits)]
        packed = packed[order]
        starts = runs(packed)
        heads = packed[starts]
        pair_partition = (heads & np.uint64((1 << partition_bits) - 1)).view(np.int64)
        return order, starts, (heads >> np.uint64(partition_bits)).view(np.int64), pair_partition
    order = np.lexsort((partitions.codes, units.codes))
    unit, partition = units.codes[order], partitions.codes[order]
    starts = np.union1d(runs(unit), runs(partition))
    return order, starts, unit[starts], partition[starts]


def _lowest(groups: I64, priorities: U64, limit: int) -> Mask:
    """Marks the `limit` lowest priorities of each group; `groups` is sorted."""
    starts = runs(groups)
    sizes = np.diff(starts, append=len(groups))
    dense = np.repeat(np.arange(len(starts), dtype=np.uint64), sizes)
    group_bits = max(1, (len(starts) - 1).bit_length())
    bits = -(-(group_bits + _RANK_BITS) // DIGIT_BITS) * DIGIT_BITS  # whole digits: a part of one costs as much
    packed = (dense << np.uint64(bits - group_bits)) | (priorities >> np.uint64(64 - bits + group_bits))
    order = ordering(packed, bits)
    first_out = starts[sizes > limit] + limit
    # Of equal ones it matters which is first only where the first stays and the next goes.
    if _PACKED_BITS < 64 or (packed[order[first_out]] == packed[order[first_out - 1]]).any():
        order = np.lexsort((priorities, dense))
    mask = np.ones(len(groups), dtype=np.bool_)
    mask[order[np.arange(len(groups)) - np.repeat(starts, sizes) >= limit]] = False
    return mask


def pair_priorities(
    units: Groups, partitions: Groups, unit: I64, partition: I64, salt: bytes, purpose: str = "partitions of a unit"
) -> U64:
    """A keyed hash of each (unit, partition), a function of their values and the salt alone."""
    seed = hashing.seed_for(salt, purpose)
    unit_hashes = hashing.hash_column(units.keys[0], seed)
    keys = [hashing.hash_column(key, seed) for key in partitions.keys]
    partition_hashes = hashing.mix_columns(keys, partitions.size, seed)
    return hashing.mix64(unit_hashes[unit] ^ hashing.mix64(partition_hashes, seed)[partition], seed)
