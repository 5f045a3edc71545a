"""Python rows as Arrow batches: people's extractors run once a row, all else on batches.

Units and keys become text that tells any two of them apart (`dpbeam.transforms.sources.python_keys`), which our kernels
group and hash by; keys come back as the values they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dpbeam.array_types import F64
from dpbeam.errors import RunFailed
from dpbeam.reading import vectors
from dpbeam.transforms.sources.python_keys import NotAKey, key_text, unit_text
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn

BATCH_ROWS = 20_000
_TAKEN = (
    "str, int, bool, float, bytes, UUID, date, datetime without a time zone, or tuples of these (parts may be None)"
)


@dataclass(frozen=True, kw_only=True)
class Extract:
    """How columns come of a row. `value` is None where no metric reads values; `vector` is the length of a value that
    is a vector, else None."""

    unit: Callable[[Any], Any]
    key: Callable[[Any], Any]
    value: Callable[[Any], Any] | None
    vector: int | None
    columns: Sequence[str]
    """Names of the columns: unit, key, then those of the value."""


def batch_of(rows: Sequence[Any], extract: Extract) -> pa.RecordBatch:
    """The rows as columns, without those whose unit, key or value is None, NaN or infinite (or has such a number).

    Guarantee: row-local: whether a row stays, and what it becomes, depends on that row alone, if the extractors do.
    Rows whose units Python calls equal are of one unit, and no two units or keys fall together, in whatever process a
    row is read.

    Raises:
        RunFailed: a unit or key is of a type whose values can't be told apart so (see `python_keys`).
        Exception: whatever an extractor raises, which may quote the row: to be contained by the caller.
    """
    units, keys, values = [], [], []
    for row in rows:
        unit, key = _told_apart(extract.unit(row), extract.key(row))
        value = None if extract.value is None else extract.value(row)
        if unit is None or key is None or (extract.value is not None and value is None):
            continue
        units.append(unit)
        keys.append(key)
        values.append(value)
    columns = [pa.array(units, pa.string()), pa.array(keys, pa.string())]
    if extract.value is None:
        return pa.RecordBatch.from_arrays(columns, names=list(extract.columns))
    numbers = _numbers(values, extract.vector)
    columns.append(pa.array(numbers[:, 0]) if extract.vector is None else vectors.column(numbers))
    batch = pa.RecordBatch.from_arrays(columns, names=list(extract.columns))
    finite = np.isfinite(numbers).all(axis=1)
    return batch if finite.all() else batch.filter(pa.array(finite))


def _told_apart(unit: Any, key: Any) -> tuple[str | None, str | None]:
    what = "privacy ids"
    try:
        unit = unit_text(unit)
        what = "partition keys"
        return unit, key_text(key)
    except NotAKey as other:
        refused = refusal(what, other)
    raise RunFailed(refused)


def refusal(what: str, other: NotAKey) -> str:
    """What is said of values of a type that isn't taken."""
    return (
        f"{what} must be {_TAKEN}, got {other}; have the extractor return text or a number, such as str(value), or "
        "ascii(value) for text that UTF-8 can't hold"
    )


def _numbers(values: Sequence[Any], vector: int | None) -> F64:
    if vector is None:
        return np.array([float(value) for value in values], dtype=np.float64).reshape(-1, 1)
    if any(np.shape(value) != (vector,) for value in values):
        raise RunFailed(f"every value must be a vector of vector_size {vector} numbers, and one is not")
    return np.array(values, dtype=np.float64).reshape(-1, vector)


class _Extract(ContainedDoFn):
    step = "ExtractColumns"

    def __init__(self, extract: Extract) -> None:
        self._extract = extract

    def work(self, element: Sequence[Any]) -> Iterator[pa.RecordBatch]:
        yield batch_of(element, self._extract)


@dataclass(eq=False)
class ExtractColumns(beam.PTransform[beam.PCollection[Any], Batches]):
    """Batches the columns of any rows."""

    extract: Extract

    def expand(self, rows: beam.PCollection[Any]) -> Batches:
        batches: Batches = (
            rows
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH_ROWS, max_batch_size=BATCH_ROWS)
            | "Extract" >> beam.ParDo(_Extract(self.extract)).with_output_types(pa.RecordBatch)
        )
        return batches
