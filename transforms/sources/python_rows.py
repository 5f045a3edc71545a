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
from apache_beam.transforms.window import GlobalWindows

from dpbeam.array_types import F64
from dpbeam.errors import RunFailed
from dpbeam.reading import vectors
from dpbeam.transforms.sources.python_keys import NotAKey, key_text, unit_text
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn, contained

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


Taken = tuple[str, str, "float | F64 | None"]
"""A row as text of its unit and its key, and its number or vector."""


def taken(row: Any, extract: Extract) -> Taken | None:
    """What the extractors get of a row; None if its unit, key or value is None, NaN or infinite (or has such a number).

    Guarantee: row-local, and as of now: what a row becomes depends on it alone, if the extractors do, whatever a step
    that uses one object for many rows does to it afterwards. Rows whose units Python calls equal are of one unit, and
    no two units or keys fall together, in whatever process a row is read.

    Raises:
        RunFailed: a unit or key is of a type whose values can't be told apart so (see `python_keys`).
        Exception: whatever an extractor raises, which may quote the row: to be contained by the caller.
    """
    unit, key = _told_apart(extract.unit(row), extract.key(row))
    value = None if extract.value is None else extract.value(row)
    if unit is None or key is None or (extract.value is not None and value is None):
        return None
    if extract.value is None:
        return unit, key, None
    number = _number(value, extract.vector)
    return (unit, key, number) if np.isfinite(number).all() else None


def batch_of(rows: Sequence[Taken], extract: Extract) -> pa.RecordBatch:
    """Rows, as `taken` gives them, as columns."""
    columns = [pa.array([unit for unit, _, _ in rows], pa.string()), pa.array([key for _, key, _ in rows], pa.string())]
    if extract.value is not None:
        numbers = np.array([number for _, _, number in rows], dtype=np.float64).reshape(len(rows), extract.vector or 1)
        columns.append(pa.array(numbers[:, 0]) if extract.vector is None else vectors.column(numbers))
    return pa.RecordBatch.from_arrays(columns, names=list(extract.columns))


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


def _number(value: Any, vector: int | None) -> float | F64:
    if vector is None:
        return float(value)
    if np.shape(value) != (vector,):
        raise RunFailed(f"every value must be a vector of vector_size {vector} numbers, and one is not")
    return np.array(value, dtype=np.float64)


class _Extract(ContainedDoFn):
    """Rows are taken as they come, and put together until they fill a batch, or their bundle ends."""

    step = "ExtractColumns"

    def __init__(self, extract: Extract) -> None:
        self._extract = extract
        self._rows: list[Taken] = []

    def start_bundle(self) -> None:
        self._rows = []

    def work(self, element: Any) -> Iterator[pa.RecordBatch]:
        row = taken(element, self._extract)
        if row is not None:
            self._rows.append(row)
        if len(self._rows) == BATCH_ROWS:
            yield self._batch()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield GlobalWindows.windowed_value(contained(self.step, self._batch))

    def _batch(self) -> pa.RecordBatch:
        rows, self._rows = self._rows, []
        return batch_of(rows, self._extract)


@dataclass(eq=False)
class ExtractColumns(beam.PTransform[beam.PCollection[Any], Batches]):
    """Batches the columns of any rows."""

    extract: Extract

    def expand(self, rows: beam.PCollection[Any]) -> Batches:
        batches: Batches = rows | "Extract" >> beam.ParDo(_Extract(self.extract)).with_output_types(pa.RecordBatch)
        return batches
