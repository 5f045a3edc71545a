"""Lists of a source as vectors of the declared length, one a row, and what breaks a rule in them.

A row's list is found by its own offsets and copied into its own row of a matrix. Rows whose list has another length are
taken out before anything is laid side by side: lists of 3 and of 1 numbers make two rows of 2 together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64, I64, Mask
from dpbeam.reading.casting import accepts, to_type

MAX_LENGTH = 2**14
"""The most numbers of a policy's vector: each has three columns in the files of a release (docs/decisions.md)."""

MEANS: Mapping[str, str] = {
    "on_invalid": "A list is not of the column's length, or not of numbers",
    "on_null": "A list, or a number in one, is missing",
    "on_nan": "A number in a list is NaN",
    "on_inf": "A number in a list is infinite",
}
"""What it means that a rule is broken. The rules hold for each number: all numbers of a missing list are missing, and
all of a list of another length are invalid."""


def arrow_type(length: int) -> pa.DataType:
    """The type of a validated column."""
    return pa.list_(pa.float64(), length)


def holds(arrow: pa.DataType, length: int) -> bool:
    """Whether a column of Arrow type `arrow` may hold vectors of `length` numbers, as float64s or the ones nearest."""
    if pa.types.is_null(arrow):
        return True
    if pa.types.is_fixed_size_list(arrow):
        return arrow.list_size == length and _is_numeric(arrow.value_type)
    return is_list(arrow) and _is_numeric(arrow.value_type)


def stated_length(arrow: pa.DataType) -> int | None:
    """The length that an Arrow type of lists of numbers states, 0 where it leaves it to each row; None for any other
    type, and for lists of nothing."""
    if not is_list(arrow) or pa.types.is_null(arrow.value_type):
        return None
    length = arrow.list_size if pa.types.is_fixed_size_list(arrow) else 0
    return length if holds(arrow, length) and not (length == 0 and pa.types.is_fixed_size_list(arrow)) else None


def is_list(arrow: pa.DataType) -> bool:
    """Whether `arrow` is an Arrow type whose rows are lists."""
    types = pa.types
    return bool(types.is_list(arrow) or types.is_large_list(arrow) or types.is_fixed_size_list(arrow))


def read(raw: pa.Array, length: int) -> tuple[F64, Mapping[str, Mask]]:
    """The vectors as a matrix of `length` columns, and for each rule that a number breaks a mask of these numbers.

    What is no number is 0 in the matrix. A number is in one mask at most.

    Guarantee: row i of the matrix and of each mask depends on row i of `raw` and on `length` alone, and their width on
    `length` alone. A list of another length never gives a number: all of its row is in the mask `on_invalid`, also
    where the lists' lengths add up to what they should. What lies beneath a missing list is never looked at.

    Raises:
        TypeError: an Arrow type that holds no numbers, see `holds`.
    """
    rows = len(raw)
    missing = raw.is_null().to_numpy(zero_copy_only=False)
    if missing.all():
        return np.zeros((rows, length)), {"on_null": np.ones((rows, length), dtype=np.bool_)} if rows else {}
    if not is_list(raw.type) or not _is_numeric(raw.type.value_type):
        raise TypeError(f"a column of Arrow type {raw.type} can't be read as a vector")
    starts, sizes = _extents(raw)
    fits = ~missing & (sizes == length)
    flat = _picked(raw.values, starts[fits], length)
    values = _float64(flat)
    plain = values.fill_null(0.0).to_numpy()
    if fits.all() and not values.null_count and np.isfinite(plain).all():
        return plain.reshape(rows, length), {}
    lacking = flat.is_null().to_numpy(zero_copy_only=False)
    by_column = {
        "on_null": (missing, lacking),
        "on_invalid": (~missing & ~fits, values.is_null().to_numpy(zero_copy_only=False) & ~lacking),
        "on_nan": (None, np.isnan(plain)),
        "on_inf": (None, np.isinf(plain)),
    }
    numbers, broken = np.zeros((rows, length)), {}
    numbers[fits] = plain.reshape(-1, length)
    for name, (whole_rows, cells) in by_column.items():
        mask = np.zeros((rows, length), dtype=np.bool_)
        mask[fits] = cells.reshape(-1, length)
        if whole_rows is not None:
            mask[whole_rows] = True
        if mask.any():
            broken[name] = mask
    return numbers, broken


def column(numbers: F64) -> pa.Array:
    """The matrix as a column of `arrow_type`."""
    flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])


def matrix(vectors: pa.Array) -> F64:
    """A validated column as a matrix again.

    Raises:
        ValueError: a missing vector, which validation lets none through with; without it rows would move up.
    """
    if vectors.null_count:
        raise ValueError("a validated column has no missing vector")
    flat: F64 = vectors.flatten().to_numpy()
    return flat.reshape(len(vectors), vectors.type.list_size)


def _extents(raw: pa.Array) -> tuple[I64, I64]:
    """Where each row's numbers start in `raw.values`, and how many there are."""
    if pa.types.is_fixed_size_list(raw.type):
        size = raw.type.list_size
        return (raw.offset + np.arange(len(raw))) * size, np.full(len(raw), size)
    offsets = raw.offsets.to_numpy().astype(np.int64)
    return offsets[:-1], np.diff(offsets)


def _picked(values: pa.Array, starts: I64, length: int) -> pa.Array:
    """`length` values from each start on, one run after another."""
    if len(starts) and (np.diff(starts) == length).all():
        return values.slice(int(starts[0]), len(starts) * length)
    return values.take(pa.array((starts[:, np.newaxis] + np.arange(length)).reshape(-1)))


def _float64(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_integer(values.type):  # as a vector_sum of int64 columns reads them, so those of 64 bits may be too
        return values.cast(pa.float64(), safe=False)
    return to_type(values, "float64")


def _is_numeric(arrow: pa.DataType) -> bool:
    kind = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
    return bool(pa.types.is_integer(kind)) or accepts(kind, "float64")
