"""Selects the partitions that may be released."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.release import results
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.selection import Selector
from dpbeam.transforms.wire.beam_types import Sharded
from dpbeam.transforms.wire.containment import ContainedDoFn


def selected(rows: pa.RecordBatch, spec: StageSpec, selector: Selector | None) -> pa.RecordBatch:
    """The accumulators of the partitions that are kept: all of them without a selector."""
    if selector is None:
        return rows
    users = rows.column(accumulate.USERS).to_numpy()
    if spec.shares_count:
        kept, noisy = selector.keep_noisy(users)
        rows = rows.append_column(results.NOISY_USERS, pa.array(noisy))
    else:
        kept = selector.keep(users)
    return rows.filter(pa.array(kept, pa.bool_()))


class _Select(ContainedDoFn):
    step = "Select"

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec
        self._selector: Selector | None = None

    def setup(self) -> None:
        if self._spec.selection is not None:
            self._selector = Selector(mechanism=self._spec.selection)

    def work(self, element: tuple[int, pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
        part, rows = element
        yield part, selected(rows, self._spec, self._selector)


@dataclass(eq=False)
class SelectPartitions(beam.PTransform[Sharded, Sharded]):
    """Keeps each partition by the stage's private selection mechanism; with public partitions, keeps all.

    Where the noisy unit count that decided is a metric too, it comes out beside the accumulators.

    Guarantee: which partitions come out, and their noisy unit counts, are private as the mechanism in the plan states.
    """

    spec: StageSpec

    def expand(self, merged: Sharded) -> Sharded:
        kept: Sharded = merged | "Select" >> beam.ParDo(_Select(self.spec)).with_output_types(
            tuple[int, pa.RecordBatch]
        )
        return kept
