"""One released row a partition of a Beam job's own rows, for the job to go on with.

The data flow and kernels are those of the main job: bound, accumulate, select, add noise. What it lacks of a release is
all that a launcher does: the ledger, control totals, and the protocol that shows one draw of each value whatever a
runner repeats. A job that needs those is a policy, for `dpbeam run`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import apache_beam as beam
import pyarrow as pa

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.bounding import contributions
from dpbeam.engine.release import releaser, results
from dpbeam.engine.release.noises import noises
from dpbeam.engine.stage import StageSpec, by_use
from dpbeam.mechanisms.events import Mechanism
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.mechanisms.selection import Selector
from dpbeam.transforms.steps.select import selected
from dpbeam.transforms.wire import arrow_coder
from dpbeam.transforms.wire.beam_types import Batches
from dpbeam.transforms.wire.containment import ContainedDoFn, contained

UNIT_SHARDS = 64
PARTS = 16


class Budget(Protocol):
    """The stage's mechanisms, known by the time that the job runs."""

    @property
    def mechanisms(self) -> Sequence[Mechanism]: ...


def with_mechanisms(spec: StageSpec, mechanisms: Sequence[Mechanism]) -> StageSpec:
    """The stage with its noise and selection filled in.

    Raises:
        ValueError: a mechanism that selects in rounds, which are jobs of their own.
    """
    own = by_use(mechanisms)
    if own.rounds:
        raise ValueError(f"stage {spec.name}: a selection in rounds must be made by jobs of its own")
    return replace(spec, noise=own.noise, thresholds=own.thresholds, selection=own.selection)


class _Route(ContainedDoFn):
    """Routes a batch's rows to unit shards, after dropping or cutting what needs no other batches."""

    step = "BoundAtSource"

    def __init__(self, spec: StageSpec, salt: bytes, public: pa.Table | None) -> None:
        self._spec, self._salt, self._public = spec, salt, public

    def work(self, element: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        rows = element
        if self._public is not None:
            rows = accumulate.filter_public(rows, self._spec, self._public)
        # Batches of any collection have no place of their own, so each draws priorities that no other shares.
        rows = contributions.prebound(rows, self._spec, self._salt, (secrets.randbits(63), secrets.randbits(63)))
        for shard, part in contributions.split_by_unit(rows, self._spec, UNIT_SHARDS, self._salt):
            for piece in arrow_coder.sized(part):
                yield shard, piece


class _Bound(ContainedDoFn):
    """Bounds and accumulates all rows of a unit shard; accumulators go to result shards.

    Sums are on the grid that the noise asks for (`StageSpec.quantities`), so the mechanisms are needed here too.
    """

    step = "Bound"

    def __init__(self, spec: StageSpec, salt: bytes, budget: Budget) -> None:
        self._bare, self._salt, self._budget = spec, salt, budget

    def setup(self) -> None:
        self._spec = contained(self.step, lambda: with_mechanisms(self._bare, self._budget.mechanisms))
        contained(self.step, lambda: releaser.check(self._spec))

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[tuple[int, pa.RecordBatch]]:
        shard, batches = element
        bounded = contributions.bound(batches, self._spec, self._salt, (shard,))
        accumulators = accumulate.accumulate(bounded, self._spec)
        for part, rows in accumulate.split_by_partition(accumulators, self._spec, PARTS):
            for piece in arrow_coder.sized(rows):
                yield part, piece


class _Release(ContainedDoFn):
    """Releases the rows of a result shard, from its accumulators. Draws all randomness that is released."""

    step = "Release"

    def __init__(self, spec: StageSpec, budget: Budget) -> None:
        self._bare, self._budget = spec, budget

    def setup(self) -> None:
        self._spec = contained(self.step, lambda: with_mechanisms(self._bare, self._budget.mechanisms))
        self._noises: dict[str, AdditiveNoise] = noises(self._spec)
        mechanism = self._spec.selection
        self._selector = None if mechanism is None else Selector(mechanism=mechanism)

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        _, batches = element
        kept = selected(accumulate.merge(batches, self._spec), self._spec, self._selector)
        yield results.metrics(results.noisy_quantities(kept, self._spec, self._noises), self._spec)


@dataclass(eq=False)
class AggregatePrivately(beam.PTransform[Batches, Batches]):
    """Aggregates rows privately: at most what the stage's bounds say of each unit, accumulated, selected and noised.

    `public` are the partitions to show (a table with the key column, distinct), None where they are selected privately.

    Guarantee: what comes out of one execution depends on the rows only through `budget`'s mechanisms, each applied
    once to each partition. A runner that executes a step again may draw again: the results are put through a
    Reshuffle, which is a barrier on some runners and not on all.

    Raises:
        UsageError: (inside the job) the budget's mechanisms aren't known when the job runs.
    """

    spec: StageSpec
    budget: Any
    public: pa.Table | None = None

    def expand(self, batches: Batches) -> Batches:
        arrow_coder.register()
        salt = secrets.token_bytes(16)
        routed = batches | "BoundAtSource" >> beam.ParDo(_Route(self.spec, salt, self.public)).with_output_types(
            tuple[int, pa.RecordBatch]
        )
        accumulators = (
            routed
            | "ByUnitShard" >> beam.GroupByKey()
            | "Bound" >> beam.ParDo(_Bound(self.spec, salt, self.budget)).with_output_types(tuple[int, pa.RecordBatch])
        )
        seeds = (
            batches.pipeline
            | "Partitions" >> beam.Create(self._skeleton(), reshuffle=False).with_output_types(
                tuple[int, pa.RecordBatch]
            )
        )  # fmt: skip
        released: Batches = (
            (accumulators, seeds)
            | "Together" >> beam.Flatten()
            | "ByResultShard" >> beam.GroupByKey()
            | "Release" >> beam.ParDo(_Release(self.spec, self.budget)).with_output_types(pa.RecordBatch)
            | "OneDraw" >> beam.Reshuffle().with_output_types(pa.RecordBatch)
        )
        return released

    def _skeleton(self) -> list[tuple[int, pa.RecordBatch]]:
        """The public partitions as zero rows, by result shard."""
        if self.public is None:
            return []
        zeros = accumulate.zeros(self.public, self.spec)
        return [
            (part, piece)
            for part, rows in accumulate.split_by_partition(zeros, self.spec, PARTS)
            for piece in arrow_coder.sized(rows)
        ]
