"""A private vocabulary within a pipeline of your own: the keys that are kept of blocks of typed rows.

`dpbeam run` with `metrics: []` does this with a ledger, a certificate and a release. Here the caller pays: it takes the
mechanism from a plan, charges what that costs, and uses what comes out of one execution only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.rounds.earlier_rounds import KEPT
from dpbeam.engine.stage import Flat, Round, StageSpec
from dpbeam.errors import UsageError
from dpbeam.queries.bounds import Bounds
from dpbeam.transforms.steps.accumulate import AccumulateByPartition
from dpbeam.transforms.steps.bound import BoundContributions
from dpbeam.transforms.steps.select import SelectPartitions
from dpbeam.transforms.steps.weigh import WeighPartitions
from dpbeam.transforms.wire.beam_types import Batches, Reports
from dpbeam.transforms.wire.containment import ContainedDoFn
from dpbeam.transforms.wire.control import Shuffle


class _KeysAlone(ContainedDoFn):
    """The kept keys of one shard; of a round's table, which may hold more, the kept rows."""

    step = "Keys"

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec

    def work(self, element: tuple[int, pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _, batch = element
        if KEPT in batch.schema.names:
            batch = batch.filter(batch.column(KEPT))
        keys = batch.select(list(self._spec.keys))
        yield keys


@dataclass(eq=False)
class SelectKeys(beam.PTransform[Batches, tuple[Batches, Reports]]):
    """The partitions of a stage that its selection keeps: one batch of keys a shard, and the reports of the shuffles.

    Blocks are those of `ReadBlocks` and `Validate`. Every strategy of one round will do: truncated geometric, both
    thresholdings, MAD, DP-SIPS of one round. Of more rounds each must be taken from staging before the next.

    Guarantee: private as the stage's one mechanism states, for one execution: a runner may repeat a bundle and draw
    anew, so what leaves the pipeline must come from one draw (a sink with fixed names), and only if
    `CheckControlTotals` on the reports finds `shuffles` to agree.

    Raises:
        UsageError: the stage selects in several rounds, or doesn't select.
    """

    spec: StageSpec
    shards: int
    parts: int
    salt: bytes
    splits: int
    schema: pa.Schema
    """Schema of a validated block."""

    shuffles: tuple[Shuffle, ...] = field(init=False)

    def __post_init__(self) -> None:
        where = f"stage {self.spec.name}"
        if len(self.spec.rounds) > 1:
            raise UsageError(
                f"{where}: a selection within a pipeline must have one round, got {len(self.spec.rounds)}; select with "
                "`dpbeam run`, where each round is a job of its own, or by mad or dp_sips with rounds: 1"
            )
        if not self.spec.rounds and self.spec.selection is None:
            raise UsageError(f"{where}: there must be a selection, and its partitions are known beforehand")
        name = f"{self.spec.name}.keys"
        mode = Round(number=1, stage=self.spec.name) if self.spec.rounds else Flat()
        spec = replace(self.spec, name=name, metrics=(), noise={}, mode=mode)
        if spec.rounds:
            spec = replace(spec, bounds=Bounds(l0=spec.bounds.partitions))
            self._weigh = WeighPartitions(
                spec=spec,
                shards=self.shards,
                parts=self.parts,
                salt=self.salt,
                known=None,
                splits=self.splits,
                schema=self.schema,
            )
            self.shuffles = self._weigh.shuffles
            return
        self._bound = BoundContributions(
            spec=spec, shards=self.shards, salt=self.salt, public=None, splits=self.splits, schema=self.schema
        )
        self._accumulate = AccumulateByPartition(spec=spec, parts=self.parts, public=None, senders=self._bound.senders)
        self._select = SelectPartitions(spec)
        self.shuffles = (*self._bound.shuffles, self._accumulate.shuffle)

    def expand(self, blocks: Batches) -> tuple[Batches, Reports]:
        if self.spec.rounds:
            kept, reports = blocks | "Weigh" >> self._weigh
        else:
            accumulators, bound_reports = blocks | "Bound" >> self._bound
            merged, merge_reports = accumulators | "Accumulate" >> self._accumulate
            kept, reports = merged | "Select" >> self._select, (*bound_reports, *merge_reports)
        keys = kept | "Keys" >> beam.ParDo(_KeysAlone(self.spec)).with_output_types(pa.RecordBatch)
        return keys, reports
