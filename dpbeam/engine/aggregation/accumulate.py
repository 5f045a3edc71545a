"""Accumulators, one row a partition: counts and fixed-point sums that merge exactly, in any order.

An accumulator batch has the key columns, then `__count` (rows kept), `__users` (units), and `__q_<i>` for each other
quantity i of the stage, as its kernel in `dpbeam.engine.metrics` lays it out: all of it int64. It is sorted by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.engine.aggregation import frequent
from dpbeam.engine.aggregation.long_lists import spread
from dpbeam.engine.arrays import hashing
from dpbeam.engine.arrays.grouping import group, members
from dpbeam.engine.bounding.contributions import Bounded, numbers, split
from dpbeam.engine.metrics import kernel_of
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.fixedpoint import checked_sum
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.quantities import Count, Quantity, UnitCount
from dpbeam.reading.casting import ARROW_TYPES

I64 = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]

COUNT = "__count"
USERS = "__users"


def quantity_column(spec: StageSpec, quantity: Quantity) -> str:
    """The accumulator column of one of the stage's quantities."""
    if isinstance(quantity, Count):
        return COUNT
    if isinstance(quantity, UnitCount):
        return USERS
    return f"__q_{[q.name for q in spec.quantities].index(quantity.name)}"


def own_columns(spec: StageSpec) -> dict[str, Quantity]:
    """The accumulator columns beyond the counts, in the order of `spec.quantities`."""
    return {f"__q_{i}": q for i, q in enumerate(spec.quantities) if not isinstance(q, Count | UnitCount)}


def key_fields(spec: StageSpec) -> list[pa.Field]:
    return [
        pa.field(name, ARROW_TYPES[kind], nullable=False) for name, kind in zip(spec.keys, spec.key_types, strict=True)
    ]


def accumulators_schema(spec: StageSpec) -> pa.Schema:
    """The schema of every batch that this module returns."""
    counts = [pa.field(name, pa.int64(), nullable=False) for name in (COUNT, USERS)]
    own = [pa.field(name, kernel_of(q).arrow_type(q), nullable=False) for name, q in own_columns(spec).items()]
    return pa.schema([*key_fields(spec), *counts, *own])


def accumulate(bounded: Bounded, spec: StageSpec) -> pa.RecordBatch:
    """One row for each partition that kept a row.

    Guarantee: adding or removing one unit changes `__users` by at most 1 and each other column by at most the
    quantity's `sensitivity` for one partition, in at most `l0` partitions; exactly so, since no step rounds a sum.
    """
    if not bounded.partitions:
        return empty(spec)
    rows, partitions = bounded.rows, bounded.partitions
    users = np.bincount(bounded.pairs, minlength=partitions)
    own = [kernel_of(quantity).of_kept(quantity, bounded) for quantity in own_columns(spec).values()]
    counts = [
        pa.array(count.astype(np.int64, copy=False)) for count in (np.bincount(rows, minlength=partitions), users)
    ]
    batch = _batch(bounded.keys, [*counts, *own], spec)
    # A partition whose rows were all cut says no more than one that never was.
    return batch if users.all() else batch.filter(pa.array(batch.column(USERS).to_numpy() > 0))


def accumulate_rows(batch: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    """Accumulates rows that are units of their own (`spec.unit` None, `l0` = `linf` = 1): nothing to bound.

    Raises:
        ValueError: the stage has a unit column or other bounds.
    """
    if spec.unit is not None or spec.bounds != Bounds(l0=1, linf=1):
        raise ValueError(f"stage {spec.name}: only rows that are units of their own, with l0 and linf 1, go unbounded")
    partitions = group([batch.column(name) for name in spec.input_keys], batch.num_rows)
    alone = Bounded(
        keys=partitions.keys,
        partitions=partitions.size,
        rows=partitions.codes,
        pairs=partitions.codes,
        pair_units=np.arange(batch.num_rows),
        row_pairs=np.arange(batch.num_rows),
        values={name: numbers(batch.column(name)) for name in spec.number_columns},
        words={name: frequent.words(batch.column(name), batch.num_rows) for name in spec.word_columns},
    )
    return accumulate(alone, spec)


def empty(spec: StageSpec) -> pa.RecordBatch:
    """Accumulators of no partition."""
    schema = accumulators_schema(spec)
    return pa.RecordBatch.from_arrays([pa.array([], type=field.type) for field in schema], schema=schema)


def zeros(keys: pa.Table, spec: StageSpec) -> pa.RecordBatch:
    """Accumulators of empty partitions, one for each row of `keys`: merged in, they make public partitions whole."""
    nothing = pa.array(np.zeros(keys.num_rows, dtype=np.int64))
    own = [kernel_of(quantity).zeros(quantity, keys.num_rows) for quantity in own_columns(spec).values()]
    return _batch([_flat(keys.column(name)) for name in spec.keys], [nothing, nothing, *own], spec)


def whole(spec: StageSpec) -> pa.RecordBatch:
    """Accumulators of the one partition of a stage without keys, empty: it is public, so it is there in any case.

    Raises:
        ValueError: the stage has keys.
    """
    if spec.keys:
        raise ValueError(f"stage {spec.name}: only a stage without keys has the whole table as its partition")
    nothing = pa.array(np.zeros(1, dtype=np.int64))
    return _batch([], [nothing, nothing, *(kernel_of(q).zeros(q, 1) for q in own_columns(spec).values())], spec)


def merge(batches: Iterable[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """The sum of accumulators, one row a partition, sorted by key: associative, commutative and exact.

    Raises:
        RunFailed: a sum beyond int64.
    """
    table = pa.Table.from_batches(list(batches), schema=accumulators_schema(spec))
    if not table.num_rows:
        return empty(spec)
    partitions = group([table.column(name) for name in spec.keys], table.num_rows)
    order, starts = partitions.order()
    counts = [pa.array(checked_sum(table.column(name).to_numpy()[order], starts)) for name in (COUNT, USERS)]
    own = [
        kernel_of(quantity).merge(quantity, table.column(name).combine_chunks(), partitions.codes, order, starts)
        for name, quantity in own_columns(spec).items()
    ]
    return _batch(partitions.keys, [*counts, *own], spec)


def filter_public(batch: pa.RecordBatch, spec: StageSpec, public: pa.Table) -> pa.RecordBatch:
    """The rows whose partition is public: row-local, and to be done *before* bounding, so that no unit spends its
    `l0` on partitions that are never released."""
    inside = of_public(batch, spec, public)
    return batch if inside.all() else batch.filter(pa.array(inside))


def of_public(batch: pa.RecordBatch, spec: StageSpec, public: pa.Table) -> npt.NDArray[np.bool_]:
    """Marks the rows whose partition is public."""
    return members(
        [batch.column(name) for name in spec.input_keys],
        [_flat(public.column(name)) for name in spec.keys],
        batch.num_rows,
    )


def split_by_partition(batch: pa.RecordBatch, spec: StageSpec, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(shard, its partitions) for each shard with any: by a fixed public hash of the key, the same in every run.

    A partition with long lists comes as several rows, which `merge` makes one again, so that a message can be cut.
    """
    batch = spread(batch)
    yield from split(batch, hashing.hash_rows(batch, spec.keys, hashing.ROUTE_SEED), shards)


def _batch(keys: Sequence[pa.Array], totals: Sequence[pa.Array], spec: StageSpec) -> pa.RecordBatch:
    schema = accumulators_schema(spec)
    cast = [key.cast(field.type) for key, field in zip(keys, schema, strict=False)]
    batch = pa.RecordBatch.from_arrays([*cast, *totals], schema=schema)
    if not spec.keys or batch.num_rows < 2 or _is_sorted(batch.column(0)):
        return batch
    return batch.take(pc.sort_indices(batch, sort_keys=[(name, "ascending") for name in spec.keys]))


def _is_sorted(keys: pa.Array) -> bool:
    """Whether the first key alone says that rows are in order; looked at only where that is cheap."""
    if keys.type != pa.int64():
        return False
    numbers = keys.to_numpy()
    return bool((numbers[1:] > numbers[:-1]).all())


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    return column
