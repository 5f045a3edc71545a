"""Stages results: writes the released rows of each result shard to its file in the staging area.

This is the only sink of a stage. The number of files comes from the plan and each has a fixed name, so a repeated
bundle replaces its own file, and the launcher, which reads each file once after the job, sees one draw of each value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.transforms.wire.beam_types import Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.staging import Area


class _WriteShard(ContainedDoFn):
    step = "Stage"

    def __init__(self, stage: str, result_shards: int, area: Area) -> None:
        self._stage, self._result_shards, self._area = stage, result_shards, area

    def work(self, element: tuple[int, pa.RecordBatch]) -> Iterator[int]:
        part, rows = element
        self._area.write_shard(self._stage, part, self._result_shards, rows)
        yield part


@dataclass(eq=False)
class StageResults(beam.PTransform[Sharded, beam.PCollection[int]]):
    """Writes each result shard under its fixed name; puts out the shards' numbers."""

    stage: str
    result_shards: int
    area: Area

    def expand(self, released: Sharded) -> beam.PCollection[int]:
        numbers: beam.PCollection[int] = released | "WriteShard" >> beam.ParDo(
            _WriteShard(self.stage, self.result_shards, self.area)
        )
        return numbers
