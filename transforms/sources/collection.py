"""Validated blocks of the rows of somebody's own pipeline, as `ReadBlocks` and `Validate` give them of files."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows

from dpbeam.queries.source import InputSpec
from dpbeam.reading import rows
from dpbeam.reading.formats import BATCH_ROWS
from dpbeam.transforms.sources.records import raw_of_batch, raw_of_values, values_of
from dpbeam.transforms.steps.read import label
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn, contained


class _Collect(ContainedDoFn):
    """Python rows are put together until they fill a batch, or their bundle ends.

    Guarantee: what is put together are values, taken as a row comes: a step before this one that fills one object anew
    for each row gives each row its own values.
    """

    step = "Rows"

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._rows: list[tuple[Any, ...]] = []

    def start_bundle(self) -> None:
        self._rows = []

    def work(self, element: Any) -> Iterator[pa.RecordBatch]:
        if isinstance(element, pa.RecordBatch | pa.Table):
            table = element if isinstance(element, pa.Table) else pa.Table.from_batches([element])
            for batch in table.to_batches(max_chunksize=BATCH_ROWS):
                yield self._block(raw_of_batch(batch, self._spec.columns))
            return
        self._rows.append(values_of(element, self._spec.columns))
        if len(self._rows) == BATCH_ROWS:
            yield self._taken()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield GlobalWindows.windowed_value(contained(self.step, self._taken))

    def _taken(self) -> pa.RecordBatch:
        taken, self._rows = self._rows, []
        return self._block(raw_of_values(taken, self._spec.columns))

    def _block(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        # Of its rows' content a block's place must say nothing: rows draw priorities by it.
        return label(rows.prepare(raw, self._spec), secrets.randbits(63), 0, last=True)


@dataclass(eq=False)
class CollectBlocks(beam.PTransform[beam.PCollection[Any], Batches]):
    """Rows that are dicts, named tuples, dataclasses, `beam.Row` or Arrow batches, validated as those of files are.

    Each block is the only one of a sender of its own, whose number is drawn: of a collection nobody knows the parts.
    """

    spec: InputSpec

    def expand(self, collection: beam.PCollection[Any]) -> Batches:
        blocks: Batches = collection | "Collect" >> beam.ParDo(_Collect(self.spec)).with_output_types(pa.RecordBatch)
        return blocks
