"""Which leaves of a unit count: at most `l0`, spread over as many cells as can be.

A cell is a kept leaf, or an `other` that several leaves of a unit may fall into.
"""

from __future__ import annotations

import numpy as np

from dpbeam.array_types import I64, U64, Mask
from dpbeam.engine.arrays.grouping import ordering, runs


def spread_over_cells(unit: I64, cell: I64, leaf_rank: U64, cell_rank: U64, l0: int, most: int) -> Mask:
    """Marks the pairs that count, of pair i with `unit[i]` and its leaf's `cell[i]`.

    Within a cell a unit's leaves stand in the order of `leaf_rank`, a keyed hash of (unit, leaf); those from place
    `most` on never count. Of the rest count the first `l0` by their place, and at equal place by `cell_rank`, a
    keyed hash of (unit, cell): one leaf of each cell before a second of any.

    Guarantee: at most `l0` leaves a unit, and at most `most` of them in one cell. What counts of one unit depends
    on its own leaves, the kept ones and the hashes alone. And a leaf that doesn't count among some leaves of its unit
    doesn't among more of them (so batches may be cut each by itself): n leaves of other cells that stand before it are
    min(how many the cell has, its place or one more, as the cells' hashes say), which grows with the leaves, and with
    its own place, which grows too.
    """
    if not len(unit):
        return np.empty(0, dtype=np.bool_)
    in_cell, starts = _sorted_runs(unit * (int(cell.max()) + 1) + cell, leaf_rank)
    place = np.empty(len(unit), dtype=np.int64)
    place[in_cell] = _positions(starts, len(unit))
    keep: Mask = place < most
    left = np.flatnonzero(keep)
    in_unit, _ = _sorted_runs(unit[left] * most + place[left], cell_rank[left])
    in_unit = left[in_unit]
    keep[in_unit] = _positions(runs(unit[in_unit]), len(in_unit)) < l0
    return keep


def _sorted_runs(codes: I64, ranks: U64) -> tuple[I64, I64]:
    """The order by codes and, where they are equal, by ranks; and where each run of equal codes starts in it.

    Codes are below 2**62: units, and cells, are fewer than rows, and rows fewer than 2**31.
    """
    order = ordering(ranks, 64)
    order = order[ordering(codes.view(np.uint64)[order], int(codes.max()).bit_length())]
    return order, runs(codes[order])


def _positions(starts: I64, count: int) -> I64:
    """The place of each of `count` entries in its run."""
    positions: I64 = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))
    return positions
