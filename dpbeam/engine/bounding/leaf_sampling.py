"""Which leaves of a unit count: at most `l0`, spread over as many cells as can be.

A cell is a kept leaf, or an `other` that several leaves of a unit may fall into.
"""

from __future__ import annotations

import numpy as np

from dpbeam.array_types import I64, U64, Mask
from dpbeam.engine.arrays.grouping import ordering, runs


def spread_over_cells(unit: I64, cell: I64, leaf_rank: U64, cell_rank: U64, l0: int, most: int) -> Mask:
    """Marks the (unit, leaf) pairs that count. Pair i is of `unit[i]`, and its leaf lies in `cell[i]`.

    A unit's leaves of one cell are sorted by `leaf_rank`, a keyed hash of (unit, leaf). A leaf's place is its position
    in that order, from 0. Leaves at place `most` and beyond never count. All others of the unit are sorted by place,
    and at equal place by `cell_rank`, a keyed hash of (unit, cell); the first `l0` count. So every cell gets one leaf
    before any gets a second.

    Guarantee: at most `l0` leaves of a unit count, and at most `most` of them in one cell. Which ones depends on the
    unit's own leaves, the kept leaves and the hashes alone. A leaf that doesn't count doesn't count either once the
    unit has more leaves, so a batch may be cut by itself. For let its place be p. Before it stand p leaves of its own
    cell, and of another cell with n leaves min(n, p) or min(n, p + 1), as the two cells' hashes say. With more leaves
    n and p may grow, but never fall.
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
