"""Bounded rows in, one row a partition out: counts and fixed-point sums that merge exactly, in any order.

An accumulator batch has the key columns, then `__count` (rows kept), `__users` (units) and `__sum_<i>` for each
quantity i of the stage that is a sum, in grid steps; all int64. It is sorted by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.mechanisms import hashing
from dpbeam.mechanisms.bounding import Bounded, split
from dpbeam.mechanisms.fixedpoint import Grid, checked_sum
from dpbeam.mechanisms.grouping import group, members
from dpbeam.mechanisms.spec import ColumnType, Quantity, StageSpec

I64 = npt.NDArray[np.int64]

COUNT = "__count"
USERS = "__users"

_ARROW: Mapping[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
_EXACT_ROWS = 2 ** (53 - 30)


def grid_of(quantity: Quantity) -> Grid:
    """The fixed-point grid of a sum; fixed by the policy, so every worker has the same."""
    return Grid.for_bounds(quantity.low, quantity.high, quantity.centre)


def sum_columns(spec: StageSpec) -> tuple[tuple[str, Quantity], ...]:
    """(accumulator column, quantity) of each sum, in the order of `spec.quantities`."""
    return tuple((f"__sum_{i}", q) for i, q in enumerate(spec.quantities) if q.kind == "sum")


def key_fields(spec: StageSpec) -> list[pa.Field]:
    return [pa.field(name, _ARROW[kind], nullable=False) for name, kind in zip(spec.keys, spec.key_types, strict=True)]


def accumulators_schema(spec: StageSpec) -> pa.Schema:
    """The schema of every batch that this module returns."""
    names = [COUNT, USERS, *(name for name, _ in sum_columns(spec))]
    return pa.schema([*key_fields(spec), *(pa.field(name, pa.int64(), nullable=False) for name in names)])


def accumulate(bounded: Bounded, spec: StageSpec) -> pa.RecordBatch:
    """One row for each partition that kept a row.

    Guarantee: adding or removing one unit changes `__users` by at most 1 and each other column by at most the
    quantity's `linf_sensitivity(linf)`, in at most `l0` partitions; exactly so, since no step rounds a sum.
    """
    users = np.bincount(bounded.pairs, minlength=bounded.partitions)
    return _accumulate(bounded.keys, bounded.rows, users, bounded.values, spec)


def accumulate_rows(batch: pa.RecordBatch, spec: StageSpec) -> pa.RecordBatch:
    """Accumulates rows that are units of their own (`spec.unit` None, `l0` = `linf` = 1): nothing to bound.

    Raises:
        ValueError: the stage has a unit column or other bounds.
    """
    if spec.unit is not None or spec.l0 != 1 or spec.linf != 1:
        raise ValueError(f"stage {spec.name}: only rows that are units of their own, with l0 and linf 1, go unbounded")
    found = group([batch.column(name) for name in spec.keys], batch.num_rows)
    values = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in spec.value_columns}
    users = np.bincount(found.codes, minlength=found.size)
    return _accumulate(found.keys, found.codes, users, values, spec)


def empty(spec: StageSpec) -> pa.RecordBatch:
    """Accumulators of no partition."""
    schema = accumulators_schema(spec)
    return pa.RecordBatch.from_arrays([pa.array([], type=field.type) for field in schema], schema=schema)


def zeros(keys: pa.Table, spec: StageSpec) -> pa.RecordBatch:
    """Accumulators of empty partitions, one for each row of `keys`: merged in, they make public partitions whole."""
    nothing = pa.array(np.zeros(keys.num_rows, dtype=np.int64))
    columns = [_flat(keys.column(name)) for name in spec.keys]
    return _batch(columns, [nothing] * (2 + len(sum_columns(spec))), spec)


def merge(batches: Iterable[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """The sum of accumulators, one row a partition, sorted by key: associative, commutative and exact.

    Raises:
        RunFailed: a sum beyond int64.
    """
    table = pa.Table.from_batches(list(batches), schema=accumulators_schema(spec))
    if not table.num_rows:
        return empty(spec)
    found = group([table.column(name) for name in spec.keys], table.num_rows)
    order = np.argsort(found.codes, kind="stable")
    starts = np.searchsorted(found.codes[order], np.arange(found.size))
    totals = [
        pa.array(checked_sum(table.column(name).to_numpy()[order], starts))
        for name in table.schema.names[len(spec.keys) :]
    ]
    return _batch(found.keys, totals, spec)


def filter_public(batch: pa.RecordBatch, spec: StageSpec, public: pa.Table) -> pa.RecordBatch:
    """The rows whose partition is public: row-local, and to be done *before* bounding, so that no unit spends its
    `l0` on partitions that are never released."""
    inside = members(
        [batch.column(name) for name in spec.keys], [_flat(public.column(name)) for name in spec.keys], batch.num_rows
    )
    return batch if inside.all() else batch.filter(pa.array(inside))


def split_by_partition(batch: pa.RecordBatch, spec: StageSpec, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(shard, its partitions) for each shard with any: by a fixed public hash of the key, the same in every run."""
    yield from split(batch, hashing.hash_rows(batch, spec.keys, hashing.ROUTE_SEED), shards)


def _accumulate(
    keys: Sequence[pa.Array],
    rows: I64,
    users: I64,
    values: Mapping[str, npt.NDArray[np.int64] | npt.NDArray[np.float64]],
    spec: StageSpec,
) -> pa.RecordBatch:
    if not len(users):
        return empty(spec)
    columns = [np.bincount(rows, minlength=len(users)), users]
    for _, quantity in sum_columns(spec):
        columns.append(_sums(rows, grid_of(quantity).encode_whole(values[str(quantity.column)]), len(users)))
    # A partition whose rows were all cut says no more than one that never was.
    seen = np.flatnonzero(users)
    if len(seen) < len(users):
        keys, columns = [key.take(pa.array(seen)) for key in keys], [column[seen] for column in columns]
    return _batch(keys, [pa.array(column.astype(np.int64, copy=False)) for column in columns], spec)


def _sums(rows: I64, steps: npt.NDArray[np.float64], partitions: int) -> I64:
    """Exact sums by partition: bincount adds floats, and whole numbers below 2**53 add up exactly in any order."""
    total = np.zeros(partitions, dtype=np.int64)
    for at in range(0, len(rows), _EXACT_ROWS):
        chunk = slice(at, at + _EXACT_ROWS)
        total += np.bincount(rows[chunk], weights=steps[chunk], minlength=partitions).astype(np.int64)
    return total


def _batch(keys: Sequence[pa.Array], columns: Sequence[pa.Array], spec: StageSpec) -> pa.RecordBatch:
    schema = accumulators_schema(spec)
    cast = [key.cast(field.type) for key, field in zip(keys, schema, strict=False)]
    batch = pa.RecordBatch.from_arrays([*cast, *columns], schema=schema)
    if not spec.keys or batch.num_rows < 2:
        return batch
    return batch.take(pc.sort_indices(batch, sort_keys=[(name, "ascending") for name in spec.keys]))


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    return column
