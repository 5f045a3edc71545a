"""One row a unit: in how many partitions it is, and how many rows it has there.

These rows are what a histogram of units is made from, by which a run chooses `l0`, `linf` or `l1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from dpbeam.engine.bounding import contributions, votes
from dpbeam.engine.bounding.contributions import Bounded, CellsOf
from dpbeam.engine.stage import StageSpec, UnitRows

PARTITIONS, FULLEST, ROWS = "__partitions", "__fullest", "__rows"
"""Columns of a unit's row: its partitions, its rows in the partition that has most of them, its rows in all."""


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
    sensitivity 1. Assumes that all rows of a unit are in this shard, and that `bounded` comes from a stage that lets no
    metric decide which rows count (`StageSpec.of_input`).

    Raises:
        ValueError: `bounded` doesn't tell which pair a row belongs to.
    """
    if bounded.row_pairs is None:
        raise ValueError("rows of units are made from rows that know their pair")
    units, codes = np.unique(bounded.pair_units, return_inverse=True)
    rows = np.bincount(bounded.row_pairs, minlength=len(bounded.pairs))
    fullest = np.zeros(len(units), dtype=np.int64)
    np.maximum.at(fullest, codes, rows)
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
            FULLEST: fullest,
            ROWS: np.bincount(codes, weights=rows, minlength=len(units)).astype(np.int64),
        },
    )
