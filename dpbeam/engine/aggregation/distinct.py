"""Sets of the different values in each partition, as sorted 64-bit identities, and their union.

An identity is a function of the value alone. Those of int64, bool, date and timestamp values are exact; those of text
are 64-bit hashes under a fixed seed.

Guarantee: adding rows never takes an identity out of a set and adds at most one each, so one unit moves the size of a
partition's set by no more than its rows there, whatever the hash does: hashing first is a step on single rows, and
what is counted is a set of its results. Two texts that collide (n texts do with probability n²/2⁶⁵) are counted as one,
which costs exactness, not privacy; who makes up colliding texts only keeps his own from being counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpbeam.engine.arrays import hashing

I64 = npt.NDArray[np.int64]

TYPE = pa.list_(pa.int64())
_SEED = 0x6A09E667F3BCC908


def identities(column: pa.Array | pa.ChunkedArray) -> I64:
    """One int64 a value of a string, int64, bool, date32 or timestamp column without nulls: equal for equal values.

    Raises:
        TypeError: a column of another type; of floats it isn't clear which are equal (−0.0, NaN).
    """
    if isinstance(column, pa.ChunkedArray):
        chunks = [identities(chunk) for chunk in column.chunks]
        return np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int64)
    kind = column.type
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        exact: I64 = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        return exact
    return hashing.hash_column(column, _SEED).view(np.int64)


def sets(partition: I64, identity: I64, partitions: int) -> pa.Array:
    """The column of sets: of `partitions` partitions, row i being of partition `partition[i]`."""
    order = np.lexsort((identity, partition))
    partition, identity = partition[order], identity[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (partition[1:] != partition[:-1]) | (identity[1:] != identity[:-1])
    offsets = np.searchsorted(partition[first], np.arange(partitions + 1))
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(identity[first]))


def union(column: pa.Array, codes: I64, partitions: int) -> pa.Array:
    """The sets of merged partitions, from a column whose row i belongs to partition `codes[i]`."""
    return sets(np.repeat(codes, lengths(column)), column.flatten().to_numpy(), partitions)


def lengths(column: pa.Array) -> I64:
    """The size of each list."""
    sizes: I64 = np.diff(column.offsets.to_numpy()).astype(np.int64)
    return sizes
