"""Rolls rows up: blocks of typed rows go in; the same rows come out under their cell's keys, given the kept leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.mechanisms import hierarchy
from dpbeam.mechanisms.spec import StageSpec
from transforms.containment import ContainedDoFn
from transforms.read import label, place


class _RollUp(ContainedDoFn):
    step = "RollUp"

    def __init__(self, spec: StageSpec, kept: pa.Table) -> None:
        self._spec, self._kept = spec, kept

    def work(self, element: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        split, block, last = place(element)
        rows = hierarchy.roll_up(element, self._spec.leaf_keys, self._kept)
        rows = label(rows, split, block, last=last)
        yield rows


@dataclass(eq=False)
class RollUp(beam.PTransform):
    """A row whose leaf isn't among the kept ones goes to the `other` below the longest prefix that is.

    Guarantee: row-local, since the kept leaves are public.
    """

    spec: StageSpec
    kept: pa.Table

    def expand(self, blocks: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        return blocks | "Rows" >> beam.ParDo(_RollUp(self.spec, self.kept)).with_output_types(pa.RecordBatch)
