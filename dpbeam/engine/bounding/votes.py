"""Votes: of each privacy unit one, spread over what became of its rows (`dpbeam.queries.coverage`).

A unit's rows are counted where they are read (`dpbeam.reading.tallies`), and what its bounds keep of them where it is
bounded: by the very rule, salt and partitions of the stage that the votes are about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64
from dpbeam.engine.arrays.grouping import group
from dpbeam.engine.bounding import contributions
from dpbeam.engine.bounding.contributions import Bounded, CellsOf
from dpbeam.engine.stage import StageSpec
from dpbeam.queries.coverage import CUT, DROPPED, FATES, KEPT, VOTES
from dpbeam.reading.tallies import PASSED, READ, is_tally


def bound(
    batches: Sequence[pa.RecordBatch],
    spec: StageSpec,
    salt: bytes,
    seeds: Sequence[int],
    cells_of: CellsOf | None = None,
) -> Bounded:
    """One row for each unit of a shard, its vote, all in one partition. `batches` are the shard's rows, of partitions
    that count, and its tallies.

    Guarantee: a unit has one row of three numbers of at least 0, whose sum is 1: divided by the number of its own rows,
    so that neither that number nor what is wrong with them moves it further. It depends on that unit's rows and on
    secret randomness alone, and how many of them are kept is what the stage itself keeps (`contributions.bound` with
    the same salt keeps the same partitions, and of each as many rows). Assumes that all rows and tallies of a unit are
    here, each once.

    Raises:
        ValueError: rows without a tally.
    """
    of_input, name = spec.of_input, spec.unit
    if name is None:
        raise ValueError(f"stage {spec.name}: rows that are units of their own vote by of_rows")
    rows = [batch for batch in batches if batch.num_rows and not is_tally(batch)]
    tallies = [batch for batch in batches if batch.num_rows and is_tally(batch)]
    bounded = contributions.bound(rows, of_input, salt, seeds, cells_of)
    if bounded.row_pairs is None:
        raise ValueError("votes are made from rows that know their pair")
    units = group([_column(rows, name)], sum(batch.num_rows for batch in rows))
    of_unit = np.bincount(bounded.pair_units[bounded.row_pairs], minlength=units.size)
    counted = sum(batch.num_rows for batch in tallies)
    # The units of rows come after those of tallies, each of which is there already.
    ids = _column(tallies, name)
    known = [key.cast(ids.type) for key in units.keys] if rows else []
    everyone = group([pa.chunked_array([*ids.chunks, *known], type=ids.type)], counted + units.size)
    read, passed, kept = (np.zeros(everyone.size, dtype=np.int64) for _ in range(3))
    np.add.at(read, everyone.codes[:counted], _numbers(tallies, READ))
    np.add.at(passed, everyone.codes[:counted], _numbers(tallies, PASSED))
    np.add.at(kept, everyone.codes[counted:], of_unit)
    return _in_one_partition(shares(read, passed, kept))


def of_rows(kept: int, tallies: pa.RecordBatch) -> Bounded:
    """The votes of a block whose rows are units of their own, of which `kept` rows are in partitions that count: each
    votes for what became of it."""
    read, passed = int(_numbers([tallies], READ).sum()), int(_numbers([tallies], PASSED).sum())
    ends = np.arange(read)
    return _in_one_partition(
        shares(np.ones(read, dtype=np.int64), (ends < passed).astype(np.int64), (ends < kept).astype(np.int64))
    )


def shares(read: I64, passed: I64, kept: I64) -> F64:
    """The votes of units by how many of their rows were read, passed and were kept: an array of (units, 3).

    Raises:
        ValueError: none were read of a unit, or more passed than were read, or were kept than passed.
    """
    if not ((read >= 1) & (passed <= read) & (kept <= passed) & (kept >= 0)).all():
        raise ValueError("a unit must have a tally of its rows, of which no more pass, and no more of these are kept")
    fates = np.empty((len(read), FATES))
    fates[:, DROPPED], fates[:, CUT], fates[:, KEPT] = read - passed, passed - kept, kept
    return fates / np.maximum(read, 1)[:, np.newaxis]


def _in_one_partition(votes: F64) -> Bounded:
    alone = np.zeros(len(votes), dtype=np.int64)
    return Bounded(
        keys=(),
        partitions=min(1, len(votes)),
        rows=alone,
        pairs=alone,
        pair_units=np.arange(len(votes)),
        row_pairs=np.arange(len(votes)),
        values={VOTES: votes},
    )


def _column(batches: Sequence[pa.RecordBatch], name: str) -> pa.ChunkedArray:
    columns = [batch.column(name) for batch in batches]
    return pa.chunked_array(columns) if columns else pa.chunked_array([], type=pa.int64())


def _numbers(batches: Sequence[pa.RecordBatch], name: str) -> I64:
    columns = [batch.column(name).to_numpy() for batch in batches]
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
