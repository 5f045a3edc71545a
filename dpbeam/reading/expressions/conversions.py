"""Values of one type as those of another, read from text as columns are; null where that can't be."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.queries.column_types import ColumnType
from dpbeam.reading.casting import to_type
from dpbeam.reading.expressions.numbers import finite, floats, ints, whole
from dpbeam.reading.expressions.times import US_PER_DAY, dates, days_of, timestamps


def _read(kind: ColumnType, convert: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Array], pa.Array]:
    """Text as a CSV column of this type is read; other types as `convert` says."""
    return lambda values: to_type(values, kind) if pa.types.is_string(values.type) else convert(values)


def _int64(values: pa.Array) -> pa.Array:
    if pa.types.is_boolean(values.type):
        return values.cast(pa.int64())
    numbers = floats(values)
    found = whole(numbers)
    return pc.if_else(pa.array(numbers == np.floor(numbers)), found, pa.scalar(None, pa.int64()))


def _float64(values: pa.Array) -> pa.Array:
    return pa.array(ints(values).astype(np.float64))


def _string(values: pa.Array) -> pa.Array:
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, "true", "false")
    return values.cast(pa.string())


def _finite_float64(values: pa.Array) -> pa.Array:
    """Text may say that it is infinite or no number; an expression has no use for either."""
    found = to_type(values, "float64") if pa.types.is_string(values.type) else _float64(values)
    return pc.if_else(found.is_null(), found, finite(floats(found)))


KERNELS: Mapping[str, Callable[..., pa.Array]] = {
    "string": _string,
    "int64": _read("int64", _int64),
    "float64": _finite_float64,
    "bool": lambda values: to_type(values, "bool"),
    "date": _read("date", lambda values: dates(days_of(values))),
    "timestamp": _read("timestamp", lambda values: timestamps(days_of(values) * US_PER_DAY)),
}
