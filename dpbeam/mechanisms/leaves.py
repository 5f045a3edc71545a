"""Pairs of a unit and a leaf in, those that count out: at most `l0` of each unit, spread over as many cells as can be.

A cell is a kept leaf, or an `other` that several leaves of a unit may fall into.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dpbeam.mechanisms.grouping import runs
from dpbeam.mechanisms.hashing import U64

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


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
    keep = np.ones(len(unit), dtype=np.bool_)
    in_cell = np.lexsort((leaf_rank, cell, unit))
    starts = np.union1d(runs(unit[in_cell]), runs(cell[in_cell]))
    place = np.empty(len(unit), dtype=np.int64)
    place[in_cell] = np.arange(len(unit)) - np.repeat(starts, np.diff(starts, append=len(unit)))
    keep[place >= most] = False
    left = np.flatnonzero(keep)
    in_unit = left[np.lexsort((cell_rank[left], place[left], unit[left]))]
    firsts = runs(unit[in_unit])
    position = np.arange(len(in_unit)) - np.repeat(firsts, np.diff(firsts, append=len(in_unit)))
    keep[in_unit[position >= l0]] = False
    return keep
