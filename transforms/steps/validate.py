"""Row-local steps: blocks of raw rows become typed rows that keep every column's rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.queries.source import InputSpec
from dpbeam.reading import rows
from dpbeam.transforms.steps.read import label, place
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn


class _Prepare(ContainedDoFn):
    step = "Validate"

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec

    def work(self, element: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        split, block, last = place(element)
        if element.num_rows:
            prepared = rows.prepare(element, self._spec)
        else:  # of no known raw type: the split has no rows at all
            prepared = pa.RecordBatch.from_pylist([], schema=rows.output_schema(self._spec))
        prepared = label(prepared, split, block, last=last)
        yield prepared


@dataclass(eq=False)
class Validate(beam.PTransform[Batches, Batches]):
    """Types, rules for null, NaN, infinity and invalid values, derived columns, then `where`.

    Guarantee: each row's fate depends on that row and the policy alone, so one unit more or less changes no other
    unit's rows.
    """

    spec: InputSpec

    def expand(self, blocks: Batches) -> Batches:
        typed: Batches = blocks | "Prepare" >> beam.ParDo(_Prepare(self.spec)).with_output_types(pa.RecordBatch)
        return typed
