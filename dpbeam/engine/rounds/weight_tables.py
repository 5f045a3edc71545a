"""The weights that user shards give partitions, added up into the few rows that a round needs.

A row has the key columns, `__share`, `__units` and `__sum` as `weights.WeightTable` has them, and `__high`, `__low`,
two limbs of what is sent on to the partition. Several rows are one partition's, in any order: all of them count.
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
    """Rows of weight tables in as few rows as can be: of a partition at most as many as its round's pre-threshold.

    Guarantee: what a round makes of such rows is what it makes of them folded, in any parts and any order (see
    `weights.folded`; what is sent on is added up exactly). So they may be folded where they are made, and wherever they
    meet, and what is held doesn't depend on how many units a partition has, or how many shards they are in.
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
