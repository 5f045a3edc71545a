"""Python rows and a user's extractors in, Arrow batches out: the user's code runs once a row, all else on batches.

Units and keys may be any value that Beam can group by. They become text that tells any two of them apart, which our
kernels group and hash by; keys come back as the values they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.coders import FastPrimitivesCoder

from dpbeam.errors import RunFailed
from dpbeam.mechanisms import vectors
from transforms.containment import ContainedDoFn

BATCH_ROWS = 20_000
_CODER = FastPrimitivesCoder().as_deterministic_coder("units and partition keys")


def to_text(value: Any) -> str:
    """Text that no other value has. Values that Beam's GroupByKey tells apart (1, True and 1.0) stay apart.

    Raises:
        TypeError: Beam can't encode the value so that equal values are equal.
    """
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind is str:
        return "s" + value
    if kind is int:
        return f"i{value}"
    encoded: bytes = _CODER.encode(value)
    return "b" + encoded.decode("latin-1")


def from_text(text: str) -> Any:
    """The value that `to_text` made this text from."""
    match text[0]:
        case "s":
            return text[1:]
        case "i":
            return int(text[1:])
        case "b":
            return _CODER.decode(text[1:].encode("latin-1"))
    raise RunFailed("a partition key came back as none that was sent; nothing can be released")


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

    Raises:
        Exception: whatever an extractor raises, which may quote the row: to be contained by the caller.
    """
    units, keys, values = [], [], []
    for row in rows:
        unit, key = extract.unit(row), extract.key(row)
        value = None if extract.value is None else extract.value(row)
        if _is_missing(unit) or _is_missing(key) or (extract.value is not None and value is None):
            continue
        units.append(to_text(unit))
        keys.append(to_text(key))
        values.append(value)
    columns = [pa.array(units, pa.string()), pa.array(keys, pa.string())]
    if extract.value is None:
        return pa.RecordBatch.from_arrays(columns, names=list(extract.columns))
    numbers = _numbers(values, extract.vector)
    columns.append(pa.array(numbers[:, 0]) if extract.vector is None else vectors.column(numbers))
    batch = pa.RecordBatch.from_arrays(columns, names=list(extract.columns))
    finite = np.isfinite(numbers).all(axis=1)
    return batch if finite.all() else batch.filter(pa.array(finite))


def _is_missing(value: Any) -> bool:
    """Whether a unit or key is none: None, NaN (which isn't equal to itself) or infinite."""
    return value is None or (isinstance(value, float | np.floating) and not np.isfinite(value))


def _numbers(values: Sequence[Any], vector: int | None) -> npt.NDArray[np.float64]:
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
class ExtractColumns(beam.PTransform):
    """Any rows in, batches of their columns out."""

    extract: Extract

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[pa.RecordBatch]:
        return (
            rows
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH_ROWS, max_batch_size=BATCH_ROWS)
            | "Extract" >> beam.ParDo(_Extract(self.extract)).with_output_types(pa.RecordBatch)
        )
