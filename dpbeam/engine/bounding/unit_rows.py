"""One row a unit: in how many partitions it is, how many rows it has beside one of them, and how many in all.

These rows are what a histogram of units is made from, by which a run chooses `l0`, `linf` or `l1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from dpbeam.engine.bounding import contributions, votes
from dpbeam.engine.bounding.contributions import Bounded, CellsOf
from dpbeam.engine.stage import StageSpec, UnitRows

PARTITIONS, ROWS_WITH, ROWS = "__partitions", "__rows_with", "__rows"
"""Columns of a unit's row: its partitions; the rows that are in one partition with one of its rows, chosen
uniformly; its rows in all."""


def bound(
    batches: Iterable[pa.RecordBatch],
    spec: StageSpec,
    salt: bytes,
    seeds: Sequence[int],
    cells_of: CellsOf | None = None,
) -> Bounded:
    """What a stage accumulates of one shard: `bounding.bound` of its rows, or of these one row a unit. `cells_of` is
    for votes on rows in leaves of hierarchical keys."""
    if spec.votes:
        return votes.bound(list(batches), spec, salt, seeds, cells_of)
    bounded = contributions.bound(batches, spec.of_input, salt, seeds)
    return one_row_a_unit(bounded) if isinstance(spec.mode, UnitRows) else bounded


def one_row_a_unit(bounded: Bounded) -> Bounded:
    """One row for each unit of a shard, all in one partition, the whole table.

    Guarantee: a unit has one row, whose numbers depend on that unit's rows and on secret randomness alone and stay
    within the bounds that the rows were cut to. So one unit more is one row more, and a histogram of these rows has
    sensitivity 1. Which of a unit's rows stands for it follows from the keyed hashes of its own pairs. Assumes that
    all rows of a unit are in this shard, and that `bounded` comes from a stage that lets no metric decide which rows
    count (`StageSpec.of_input`).

    Raises:
        ValueError: `bounded` doesn't tell which pair a row belongs to, or has no hashes of pairs.
    """
    if bounded.row_pairs is None or bounded.ranks is None:
        raise ValueError("rows of units are made from rows that know their pair, and pairs with a rank")
    units, codes = np.unique(bounded.pair_units, return_inverse=True)
    rows = np.bincount(bounded.row_pairs, minlength=len(bounded.pairs))
    # Of independent exponential draws, each over its pair's rows, the least is a pair's by the share of rows it has.
    draws = -np.log1p(-(bounded.ranks >> np.uint64(11)).astype(np.float64) / 2.0**53) / rows
    order = np.lexsort((draws, codes))
    one = order[np.searchsorted(codes[order], np.arange(len(units)))]
    alone = np.zeros(len(units), dtype=np.int64)
    return Bounded(
        keys=(),
        partitions=min(1, len(units)),
        rows=alone,
        pairs=alone,
        pair_units=np.arange(len(units)),
        row_pairs=np.arange(len(units)),
        values={
            PARTITIONS: np.bincount(codes, minlength=len(units)),
            ROWS_WITH: rows[one],
            ROWS: np.bincount(codes, weights=rows, minlength=len(units)).astype(np.int64),
        },
    )
