"""Row-local steps: blocks of raw rows become typed rows that keep every column's rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.queries.source import InputSpec
from dpbeam.reading import rows, tallies
from dpbeam.transforms.steps.read import label, place
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn


class _Prepare(ContainedDoFn):
    step = "Validate"

    def __init__(self, spec: InputSpec, counting: Counting | None) -> None:
        self._spec, self._counting = spec, counting

    def work(self, element: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        split, block, last = place(element)
        if not element.num_rows:  # of no known raw type: the split has no rows at all
            prepared = pa.RecordBatch.from_pylist([], schema=rows.output_schema(self._spec))
            if self._counting is not None:
                prepared = tallies.joined(prepared, self._counting.none)
        elif self._counting is None:
            prepared = rows.prepare(element, self._spec)
        else:
            prepared = tallies.joined(*tallies.prepare_counted(element, self._spec, self._counting.unit))
        prepared = label(prepared, split, block, last=last)
        yield prepared


@dataclass(frozen=True, kw_only=True)
class Counting:
    """That rows are counted by `unit`, where they are read; None where each is a unit of its own."""

    unit: str | None

    @property
    def none(self) -> pa.RecordBatch:
        """The tallies of no rows."""
        return pa.RecordBatch.from_pydict({name: pa.array([], pa.int64()) for name in (tallies.READ, tallies.PASSED)})


class _WithoutTallies(ContainedDoFn):
    step = "WithoutTallies"

    def __init__(self, counting: Counting) -> None:
        self._unit = counting.unit

    def work(self, element: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        prepared, _ = tallies.apart(element, self._unit)
        yield prepared


@dataclass(eq=False)
class WithoutTallies(beam.PTransform[Batches, Batches]):
    """The rows of blocks that came with tallies."""

    counting: Counting

    def expand(self, blocks: Batches) -> Batches:
        alone: Batches = blocks | "Rows" >> beam.ParDo(_WithoutTallies(self.counting)).with_output_types(pa.RecordBatch)
        return alone


@dataclass(eq=False)
class Validate(beam.PTransform[Batches, Batches]):
    """Types, rules for null, NaN, infinity and invalid values, derived columns, then `where`.

    Guarantee: each row's fate depends on that row and the policy alone, so one unit more or less changes no other
    unit's rows. With `counting`, a block's last rows are the tallies of its units (`dpbeam.reading.tallies`), each of
    which depends on that unit's rows alone.
    """

    spec: InputSpec
    counting: Counting | None = None

    def expand(self, blocks: Batches) -> Batches:
        typed: Batches = blocks | "Prepare" >> beam.ParDo(_Prepare(self.spec, self.counting)).with_output_types(
            pa.RecordBatch
        )
        return typed
