"""Freezes a stage's results, within the pipeline: from then on they are one draw, whatever a runner executes again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from dpbeam.errors import RunFailed
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.control import Shuffle
from dpbeam.transforms.wire.staging import Area

Told = tuple[beam.PCollection[int], beam.PCollection[str]]


def _staged(part: int) -> tuple[None, str]:
    return None, f"shard {part}"


def _agreed(shuffle: str) -> tuple[None, str]:
    return None, f"shuffle {shuffle}"


class _Freeze(ContainedDoFn):
    step = "Freeze"

    def __init__(
        self, stage: str, keys: tuple[str, ...], result_shards: int, shuffles: tuple[Shuffle, ...], area: Area
    ) -> None:
        self._stage, self._keys, self._result_shards, self._area = stage, keys, result_shards, area
        self._awaited = {_staged(part)[1] for part in range(result_shards)} | {
            _agreed(each.name)[1] for each in shuffles
        }

    def work(self, element: tuple[None, Iterable[str]]) -> Iterator[dict[str, Any]]:
        _, told = element
        if set(told) != self._awaited:
            raise RunFailed(
                f"stage {self._stage} was not staged whole: the runner lost data, so nothing was published. Use "
                "another runner or running mode"
            )
        table: pa.Table = self._area.freeze(self._stage, self._result_shards)
        yield from (
            table.sort_by([(key, "ascending") for key in self._keys]).to_pylist() if self._keys else (table.to_pylist())
        )


@dataclass(eq=False)
class FreezeStage(beam.PTransform[Told, beam.PCollection[dict[str, Any]]]):
    """Reads a stage's released rows back once all of its shards are staged and all shuffles agreed.

    Guarantee: rows come out only when all shards are staged and the control totals of all shuffles agree; and all that
    ever come out, of however many executions, are of one draw of each value: the one that is published
    (`Area.freeze`).
    """

    stage: str
    keys: tuple[str, ...]
    result_shards: int
    shuffles: tuple[Shuffle, ...]
    area: Area

    def expand(self, told: Told) -> beam.PCollection[dict[str, Any]]:
        staged, agreed = told
        freeze = _Freeze(self.stage, self.keys, self.result_shards, self.shuffles, self.area)
        released: beam.PCollection[dict[str, Any]] = (
            (
                staged | "Staged" >> beam.Map(_staged).with_output_types(tuple[None, str]),
                agreed | "Agreed" >> beam.Map(_agreed).with_output_types(tuple[None, str]),
            )
            | "Together" >> beam.Flatten()
            | "WhenAllIsThere" >> beam.GroupByKey()
            | "Freeze" >> beam.ParDo(freeze).with_output_types(dict[str, Any])
            | "Spread" >> beam.Reshuffle().with_output_types(dict[str, Any])
        )
        return released
