"""Weight tables as record batches: the shares that units give partitions, in as few rows as a round needs.

The columns are the keys; `__share`, `__units` and `__sum`, as in `weights.WeightTable`; and `__high` and `__low`, the
two limbs of the weight that is sent on to the partition. A partition may have several rows, in any order. What it is
given is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64
from dpbeam.engine.aggregation.accumulate import key_fields
from dpbeam.engine.arrays.grouping import Groups, group, runs
from dpbeam.engine.rounds import weights
from dpbeam.engine.rounds.weights import WeightTable
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.fixedpoint import checked_sum

SHARE, UNITS, SUM, HIGH, LOW = "__share", "__units", "__sum", "__high", "__low"


def weight_schema(spec: StageSpec) -> pa.Schema:
    """The schema of these rows."""
    return pa.schema([*key_fields(spec), *(pa.field(name, pa.int64()) for name in (SHARE, UNITS, SUM, HIGH, LOW))])


def sums_schema(spec: StageSpec) -> pa.Schema:
    """The schema of sums of shares, which is all that a partition is asked for before weight is sent on."""
    return pa.schema([*key_fields(spec), pa.field(SUM, pa.int64())])


def rows(keys: Sequence[pa.Array], numbers: Sequence[I64], schema: pa.Schema) -> pa.RecordBatch:
    """Keys and numbers as a batch."""
    columns = [column.cast(field.type) for column, field in zip([*keys, *map(pa.array, numbers)], schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def read(
    batches: Sequence[pa.RecordBatch], spec: StageSpec
) -> tuple[tuple[pa.Array, ...], WeightTable, tuple[I64, I64]]:
    """The partitions' keys, their weight table, and what was sent on to each, as limbs."""
    table = pa.Table.from_batches(list(batches), schema=weight_schema(spec))
    partitions = group([table.column(name) for name in spec.keys], table.num_rows)
    order, starts = partitions.order()
    share, units, sums, high, low = (table.column(name).to_numpy() for name in (SHARE, UNITS, SUM, HIGH, LOW))
    sent = checked_sum(high[order], starts), checked_sum(low[order], starts)
    return partitions.keys, WeightTable(partitions=partitions.codes, shares=share, units=units, sums=sums), sent


def folded(batches: Sequence[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """The same table in as few rows as can be. A partition has at most as many rows as its pre-threshold.

    Guarantee: a round gives the same result for the folded table. It doesn't matter which batches are folded
    together, or in which order (see `weights.folded`; weight that is sent on is added up exactly). So a worker may
    fold what it sends, and fold again what it receives. The memory that a partition needs doesn't grow with its units,
    or with the shards that they are in.
    """
    keys, shares, (high, low) = read(batches, spec)
    size = len(keys[0])
    fewest = weights.folded(shares, size, spec.weighing.pre_threshold - 1)
    limbs = np.zeros((2, len(fewest.partitions)), dtype=np.int64)
    limbs[:, runs(fewest.partitions)] = high, low
    partitions = pa.array(fewest.partitions)
    numbers = [fewest.shares, fewest.units, fewest.sums, *limbs]
    return rows([key.take(partitions) for key in keys], numbers, weight_schema(spec))


def summed(batches: Sequence[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """Sums of shares, or rows of weight tables, as sums of shares: one row a partition."""
    schema = sums_schema(spec)
    table = pa.Table.from_batches([batch.select(schema.names) for batch in batches], schema=schema)
    partitions = group([table.column(name) for name in spec.keys], table.num_rows)
    return rows(partitions.keys, [_summed(table.column(SUM), partitions)], schema)


def _summed(column: pa.ChunkedArray, partitions: Groups) -> I64:
    order, starts = partitions.order()
    return checked_sum(column.to_numpy()[order], starts)
