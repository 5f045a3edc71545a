"""Bounding: of each unit at most `linf` rows a partition and `l0` partitions, or at most `l1` rows, chosen uniformly.

Rows of one unit meet in one shard, by a hash of the unit. There the choice is bottom-k by random priority, which
is exact, mergeable and commutative: rows have independent uniform 64-bit priorities, in each stage of a job others;
partitions of a unit are ranked by a keyed hash of (unit, partition) that every batch and every stage computes alike.

Guarantee: of all stages of a job together, what is kept of one unit is a function of that unit's rows and of draws that
belong to it alone; docs/accounting.md has the proof ("All stages together").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64, U64, Mask, Numbers
from dpbeam.engine.aggregation import distinct, frequent
from dpbeam.engine.arrays import hashing
from dpbeam.engine.arrays.grouping import Groups, group, runs
from dpbeam.engine.bounding import sampling
from dpbeam.engine.stage import StageSpec
from dpbeam.reading import vectors

CellsOf = Callable[[Groups], Groups]
"""Of leaves of hierarchical keys, their cells: code l of the result is the cell of leaf l."""

PRIORITY = "__priority"
"""A row's draw, carried with it: each stage makes a priority of its own from it (`_ranks`)."""

_BUCKETS = 4096


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """The kept rows of one shard.

    `keys[c][g]` is key column c of partition g (of all partitions seen, kept or not). `rows[i]` is the partition of
    kept row i, `values[name][i]` its value, and `row_pairs[i]` its (unit, partition) pair, if a quantity needs to know;
    `pairs[j]` is the partition of kept pair j, and `pair_units[j]` its unit, as a number. `words` are the columns whose
    values are counted by value, and `ranks[j]` is the keyed hash by which pair j chooses among its values, or a unit
    among its pairs; None if nothing needs it.

    Where partitions are leaves of hierarchical keys, `cells` are their cells; `dpbeam.engine.bounding.hierarchy` rolls
    them up. Then partitions are cells, and kept row i belongs to the (unit, leaf) pair `row_leaves[i]`, which lies in
    the cell `leaf_cells[row_leaves[i]]`.
    """

    keys: tuple[pa.Array, ...]
    partitions: int
    rows: I64
    pairs: I64
    pair_units: I64
    row_pairs: I64 | None
    values: Mapping[str, Numbers]
    words: Mapping[str, frequent.Words] = field(default_factory=dict)
    ranks: U64 | None = None
    cells: Groups | None = None
    row_leaves: I64 | None = None
    leaf_cells: I64 | None = None


def input_columns(spec: StageSpec) -> tuple[str, ...]:
    """The columns that a stage reads from a batch: unit, keys, values, each once."""
    unit = () if spec.unit is None else (spec.unit,)
    return tuple(dict.fromkeys((*unit, *spec.input_keys, *spec.value_columns)))


def split_by_unit(
    batch: pa.RecordBatch, spec: StageSpec, shards: int, salt: bytes
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(shard, its rows) for each shard with rows; all rows of a unit go to one shard, the same from every batch."""
    batch = _project(batch, spec)
    hashes = hashing.hash_column(batch.column(_unit(spec)), hashing.seed_for(salt, "route"))
    yield from split(batch, hashes, shards)


def split(batch: pa.RecordBatch, hashes: U64, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(shard, rows) for each shard that gets any of the rows, by the high bits of their hashes."""
    if not batch.num_rows:
        return
    shard = hashing.shard_of(hashes, shards)
    order = np.argsort(shard, kind="stable")
    starts = runs(shard[order])
    rows = batch.take(pa.array(order))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), batch.num_rows], strict=True):
        yield int(shard[order[start]]), rows.slice(start, end - start)


def prebound(
    batch: pa.RecordBatch, spec: StageSpec, salt: bytes, seeds: Sequence[int], cells_of: CellsOf | None = None
) -> pa.RecordBatch:
    """Cuts units with very many rows where they are read, so that one of them can't swamp a shard.

    Returns the batch with the stage's columns only, and, if a (unit, partition) lost rows, the column `__priority`
    (uint64). Units whose hash bucket holds few rows are left alone: `bound` cuts them. `seeds` name this batch
    (split, index in it) and must differ from every other batch's in the run.

    Guarantee: `bound` of any mix of pre-bounded and whole batches has the law of `bound` of all their rows. Give
    every row of the run an independent uniform priority in thought. Here a row is dropped only if `linf` rows of its
    (unit, partition) in this batch have lower ones, or if `l0` partitions of its unit in this batch have a lower
    keyed hash: it would not have survived in the union either. Rows that stay keep the draws that their
    priorities were made from; where none were looked at, drawing them later is the same as having drawn them. (Drawing
    them *again* is not: survivors have low priorities, and would lose to rows that were never compared.) With
    `cells_of`, which leaves of a unit count is `leaves.spread_over_cells`'s choice, which leaves out no more of many
    than it does of few.
    """
    cells = {} if cells_of is None else {spec.name: cells_of}
    return prebound_together(_project(batch, spec), [(spec, None)], salt, seeds, cells)


def prebound_together(
    batch: pa.RecordBatch,
    stages: Sequence[tuple[StageSpec, Mask | None]],
    salt: bytes,
    seeds: Sequence[int],
    cells_of: Mapping[str, CellsOf] = MappingProxyType({}),
) -> pa.RecordBatch:
    """As `prebound` for several stages, each with a mark for its rows of the batch (None: all): a row goes if no stage
    needs it. All columns of the batch stay. `cells_of` has those stages with hierarchical keys, by name.

    Guarantee: for each stage that of `prebound`. A row that another stage needs may stay though `prebound` would drop
    it; then it meets, in `bound`, the same rows of lower priority or partitions of lower hash that would have ruled it
    out here. A row has one draw, and in each stage another priority made from it, as in `bound`: whether a batch is
    cut, which depends on all its rows, shows in no stage's choice and in no two stages' choices together. Where draws
    were looked at they are carried, whatever they led to: thrown away where two stages happen to need other rows of a
    unit, and so all of them, they would leave the units of such batches, and of no others, rows that stages share.
    """
    drawn: list[U64] = []

    def draws() -> U64:
        if not drawn:
            purpose = "\0".join(("rows of a batch", *(spec.stream for spec, _ in stages)))
            drawn.append(_draws(batch, hashing.generator(salt, purpose, seeds)))
        return drawn[0]

    stays, whatever_is_drawn = (np.zeros(batch.num_rows, dtype=np.bool_) for _ in range(2))
    cut_rows = False
    for spec, mine in stages:
        needed, cut = _needed(batch, spec, mine, salt, draws, cells_of.get(spec.name))
        stays |= needed
        if not cut:
            whatever_is_drawn |= needed
        cut_rows = cut_rows or cut
    if whatever_is_drawn.all():
        return batch
    kept = batch if stays.all() else batch.filter(pa.array(stays))
    if not cut_rows or PRIORITY in batch.schema.names:
        return kept
    carried = pa.array(draws()[stays])
    return pa.RecordBatch.from_arrays([*kept.columns, carried], names=[*kept.schema.names, PRIORITY])


def _needed(
    batch: pa.RecordBatch,
    spec: StageSpec,
    mine: Mask | None,
    salt: bytes,
    draws: Callable[[], U64],
    cells_of: CellsOf | None,
) -> tuple[Mask, bool]:
    """The rows that `bound` might keep for one stage, and whether rows of lower priority ruled others out."""
    needed = np.ones(batch.num_rows, dtype=np.bool_) if mine is None else mine.copy()
    at = np.flatnonzero(needed)
    rows = _project(batch if mine is None else batch.take(pa.array(at)), spec)
    hot = _crowded_rows(rows, spec, salt)
    if hot is None:
        return needed, False
    some, at = rows.take(pa.array(hot)), at[hot]
    units = group([some.column(_unit(spec))], len(hot))
    partitions = group([some.column(name) for name in spec.input_keys], len(hot))
    cells = None if cells_of is None else cells_of(partitions)
    choice = sampling.choose(units, partitions, spec, salt, lambda: _ranks(draws()[at], spec, salt), cells)
    if choice.keep is not None:
        needed[at[~choice.keep]] = False
    return needed, choice.cut_rows


def bound(
    batches: Iterable[pa.RecordBatch],
    spec: StageSpec,
    salt: bytes,
    seeds: Sequence[int],
    cells_of: CellsOf | None = None,
) -> Bounded:
    """Bounds one shard: all rows, from all batches, of the units that are routed to it. `seeds` name the shard.

    Guarantee: at most `linf` rows a (unit, partition), a uniform subset of exactly min(linf, n) of them; at most
    `l0` partitions a unit, a uniform subset of exactly min(l0, n); or at most `l1` rows a unit, a uniform subset of
    exactly min(l1, n). What is kept of one unit is a function of that
    unit's rows and of secret randomness only. Units and partitions are compared by value. The law does not depend
    on how rows were split into batches, or on their order. Assumes that all rows of a unit are here, and that all
    workers share one `salt` that is secret, random and independent of the data.
    """
    projected = [_project(batch, spec) for batch in batches if batch.num_rows]
    rows = sum(batch.num_rows for batch in projected)
    units = group([_chunked(projected, _unit(spec))], rows)
    partitions = group([_chunked(projected, name) for name in spec.input_keys], rows)
    cells = None if cells_of is None else cells_of(partitions)
    choice = sampling.choose(units, partitions, spec, salt, lambda: _priorities(projected, spec, salt, seeds), cells)
    values = {name: _numbers(projected, name) for name in spec.number_columns}
    words = {name: frequent.words(_chunked(projected, name), rows) for name in spec.word_columns} if rows else {}
    codes, row_pairs = partitions.codes, choice.row_pairs
    if choice.keep is not None:
        codes, row_pairs = codes[choice.keep], None if row_pairs is None else row_pairs[choice.keep]
        values = {name: column[choice.keep] for name, column in values.items()}
        words = {name: column.kept(choice.keep) for name, column in words.items()}
    ranks = None
    if words or spec.is_of_unit_rows:
        purpose = "values of a pair" if words else "a row of a unit"
        ranks = sampling.pair_priorities(units, partitions, choice.pair_units, choice.pairs, salt, purpose)
    return Bounded(
        keys=partitions.keys,
        partitions=partitions.size,
        rows=codes,
        pairs=choice.pairs,
        pair_units=choice.pair_units,
        row_pairs=row_pairs,
        values=values,
        words=words,
        ranks=ranks,
        cells=cells,
    )


def _priorities(batches: Sequence[pa.RecordBatch], spec: StageSpec, salt: bytes, seeds: Sequence[int]) -> U64:
    """Every row's priority in one stage: made from the draw that it carries, or else from a fresh one.

    Guarantee: the rows' priorities are independent and uniform, of those in any other stage of the job too: fresh draws
    come from a generator of the stage's own, carried ones pass through a keyed bijection of the stage's own.
    """
    rng = hashing.generator(salt, f"rows of a shard\0{spec.stream}", seeds)
    draws = [_draws(batch, rng) for batch in batches]
    together: U64 = np.concatenate(draws) if draws else np.empty(0, dtype=np.uint64)
    return _ranks(together, spec, salt)


def _draws(batch: pa.RecordBatch, rng: np.random.Generator) -> U64:
    """A uniform number for each row: the one it carries, or a fresh one."""
    if PRIORITY in batch.schema.names:
        carried: U64 = batch.column(PRIORITY).to_numpy()
        return carried
    drawn: U64 = rng.integers(0, 2**64, batch.num_rows, dtype=np.uint64)
    return drawn


def _ranks(draws: U64, spec: StageSpec, salt: bytes) -> U64:
    """The priorities that one stage makes from rows' draws: another bijection for each stage, by a secret key."""
    seed = hashing.seed_for(salt, f"priorities\0{spec.stream}")
    return hashing.mix64(hashing.mix64(draws, seed), seed ^ 0xA5A5A5A5A5A5A5A5)


def _crowded_rows(batch: pa.RecordBatch, spec: StageSpec, salt: bytes) -> I64 | None:
    """The rows of units that share a crowded hash bucket; None if there is none."""
    rows = batch.num_rows
    limit = spec.bounds.rows or 64 * spec.bounds.partitions
    if rows <= limit:
        return None
    hashes = hashing.hash_column(batch.column(_unit(spec)), hashing.seed_for(salt, "crowds"))
    bucket = (hashes >> np.uint64(52)).view(np.int64)
    counts = np.bincount(bucket, minlength=_BUCKETS)
    crowded = counts > 4 * limit + 4 * rows // _BUCKETS + 32  # chance alone doesn't reach 32
    if not crowded.any():
        return None
    hot: I64 = np.flatnonzero(crowded[bucket])
    return hot


def _unit(spec: StageSpec) -> str:
    if spec.unit is None:
        raise ValueError(f"stage {spec.name}: rows that are units of their own need no bounding; use accumulate_rows")
    return spec.unit


def _project(batch: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    carried = [PRIORITY] if PRIORITY in batch.schema.names else []
    names = [*input_columns(spec), *carried]
    return batch if batch.schema.names == names else batch.select(names)


def _chunked(batches: Sequence[pa.RecordBatch], name: str) -> pa.ChunkedArray | pa.Array:
    columns = [batch.column(name) for batch in batches]
    return pa.chunked_array(columns) if columns else pa.array([], type=pa.int64())


def _numbers(batches: Sequence[pa.RecordBatch], name: str) -> Numbers:
    columns: list[Any] = [numbers(batch.column(name)) for batch in batches]
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.float64)


def numbers(column: pa.Array) -> Numbers:
    """A column of numbers as it is, vectors as the rows of a matrix; of anything else, each value's identity
    (`dpbeam.engine.aggregation.distinct`)."""
    if pa.types.is_fixed_size_list(column.type):
        return vectors.matrix(column)
    if pa.types.is_floating(column.type):
        plain: F64 = column.to_numpy(zero_copy_only=False)
        return plain
    return distinct.identities(column)
