"""Adds noise to the selected partitions, and makes metrics with their intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.release.releaser import Releaser
from dpbeam.engine.stage import StageSpec
from dpbeam.transforms.wire.beam_types import Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn


class _AddNoise(ContainedDoFn):
    step = "AddNoise"

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._releaser = Releaser(spec=self._spec)

    def work(self, element: tuple[int, pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
        part, rows = element
        released = self._releaser.released(rows)
        yield part, released


@dataclass(eq=False)
class AddNoise(beam.PTransform[Sharded, Sharded]):
    """Draws each quantity's noise once for each partition, then derives the metrics and their 95 % intervals.

    Guarantee: what comes out depends on the data only through the stage's mechanisms. A runner may execute this step
    more than once; that a release shows one draw only is the work of the staged sink and of the launcher.
    """

    spec: StageSpec

    def expand(self, selected: Sharded) -> Sharded:
        released: Sharded = selected | "Draw" >> beam.ParDo(_AddNoise(self.spec)).with_output_types(
            tuple[int, pa.RecordBatch]
        )
        return released
