"""The main job: from the source to staged, noisy results of all stages.

`build` is the data flow on one screen: read → validate → bound → accumulate → select → add noise → stage. Started as
`python -m dpbeam.pipelines.aggregate --policy … --runner …` it is the same command as `dpbeam run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from dpbeam.engine.bounding.hierarchy import Hierarchy
from dpbeam.engine.stage import StageSpec
from dpbeam.phases import rounds
from dpbeam.pipelines.jobs.notebooks import sparing_ipython
from dpbeam.queries.source import InputSpec
from dpbeam.reading import rows
from dpbeam.reading.formats import Portion
from dpbeam.transforms.steps.accumulate import AccumulateByPartition
from dpbeam.transforms.steps.bound import BoundContributions
from dpbeam.transforms.steps.noise import AddNoise
from dpbeam.transforms.steps.one_worker import AggregateInOneWorker, OneWorker
from dpbeam.transforms.steps.read import ReadBlocks
from dpbeam.transforms.steps.select import SelectPartitions
from dpbeam.transforms.steps.validate import Counting, Validate, WithoutTallies
from dpbeam.transforms.steps.weigh import WeighPartitions
from dpbeam.transforms.steps.write_shards import StageResults
from dpbeam.transforms.wire import arrow_coder
from dpbeam.transforms.wire.beam_types import Batches, Sharded
from dpbeam.transforms.wire.control import CheckControlTotals, Shuffle
from dpbeam.transforms.wire.staging import Area


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that the Beam job needs. `salt` is a secret of this run: 16 random bytes, part of its randomness."""

    input: InputSpec
    splits: tuple[Portion, ...] | None
    """What is read by one worker each; None where rows come from steps of somebody's own pipeline."""
    stages: tuple[StageSpec, ...]
    public: Mapping[str, pa.Table]
    """The public partitions of each stage that has them, by stage name."""
    earlier_rounds: Mapping[str, pa.Table]
    """What earlier rounds of a stage's selection found, or the kept leaves of hierarchical keys; by stage name."""
    user_shards: int
    result_shards: int
    """Result files a stage; from the policy, never from the data."""
    salt: bytes = field(repr=False)
    area: Area
    one_worker: OneWorker | None = None
    """How one worker aggregates all rows by itself; None where rows go to several, through the runner's shuffles."""

    @property
    def portions(self) -> tuple[Portion, ...]:
        """The splits of a job that reads its input.

        Raises:
            ValueError: it doesn't.
        """
        if self.splits is None:
            raise ValueError("rows come from steps of somebody's own pipeline, which has no splits that are known")
        return self.splits


@dataclass(frozen=True, kw_only=True)
class Built:
    """A job that was added to a pipeline: the shuffles whose control totals must agree before publishing, and what is
    put out once: the name of each shuffle that does agree, and of each stage the numbers of its staged shards."""

    shuffles: tuple[Shuffle, ...]
    agreed: beam.PCollection[str]
    staged: Mapping[str, beam.PCollection[int]]


def build(pipeline: beam.Pipeline, job: Job) -> Built:
    """Adds the job to a pipeline, from the source on."""
    arrow_coder.register()
    # Rounds go through shuffles on every runner.
    worker = None if any(spec.is_round for spec in job.stages) else job.one_worker
    if worker is not None:
        return _staged(pipeline, job, _in_one_worker(pipeline, job, worker))
    units = [spec.unit for spec in job.stages if spec.votes]
    counting = Counting(unit=units[0]) if units else None
    blocks = pipeline | "Read" >> ReadBlocks(job.input, job.portions) | "Validate" >> Validate(job.input, counting)
    return _staged(pipeline, job, _through_shuffles(blocks, job, counting))


def build_on(blocks: Batches, job: Job) -> Built:
    """Adds the job to a pipeline that gives the validated blocks itself.

    Raises:
        ValueError: units vote on what became of their rows: what was dropped before isn't known here.
    """
    if any(spec.votes for spec in job.stages):
        raise ValueError("coverage is counted where rows are read, and these rows were read elsewhere")
    arrow_coder.register()
    return _staged(blocks.pipeline, job, _through_shuffles(blocks, job))


def _staged(pipeline: beam.Pipeline, job: Job, flow: Flow) -> Built:
    merged, shuffles, reports = flow
    staged = {}
    for spec in job.stages:
        released = merged[spec.name]
        if not spec.is_round:
            released = (
                released | f"{spec.name}.Select" >> SelectPartitions(spec) | f"{spec.name}.AddNoise" >> AddNoise(spec)
            )
        staged[spec.name] = released | f"{spec.name}.Stage" >> StageResults(spec.name, job.result_shards, job.area)
    agreed = (
        tuple(reports)
        | "Reports" >> beam.Flatten(pipeline=pipeline)
        | "ControlTotals" >> CheckControlTotals(tuple(shuffles), job.area)
    )
    return Built(shuffles=tuple(shuffles), agreed=agreed, staged=staged)


Merged = dict[str, Sharded]
"""By stage, its merged accumulators as (result shard, batch); of a round, what it tells the next."""


Flow = tuple[Merged, list[Shuffle], list[beam.PCollection[object]]]


def _in_one_worker(pipeline: beam.Pipeline, job: Job, worker: OneWorker) -> Flow:
    aggregate = AggregateInOneWorker(
        plan=worker,
        source=job.input,
        splits=job.portions,
        stages=job.stages,
        public=job.public,
        result_shards=job.result_shards,
        salt=job.salt,
        kept_leaves=_kept_leaves(job),
    )
    merged, reports = pipeline | "Aggregate" >> aggregate
    return merged, [aggregate.shuffle], [reports]


def _through_shuffles(counted_blocks: Batches, job: Job, counting: Counting | None = None) -> Flow:
    """With `counting`, blocks come with tallies, which are for votes alone."""
    blocks = counted_blocks
    if counting is not None:
        blocks = counted_blocks | "Rows" >> WithoutTallies(counting)
    splits = None if job.splits is None else len(job.splits)
    merged: Merged = {}
    shuffles: list[Shuffle] = []
    reports: list[beam.PCollection[object]] = []
    for spec in job.stages:
        if spec.is_round:
            weigh = WeighPartitions(
                spec=spec,
                shards=job.user_shards,
                result_shards=job.result_shards,
                salt=job.salt,
                known=rounds.known_to(spec, job.earlier_rounds),
                splits=len(job.portions),
                schema=rows.output_schema(job.input),
            )
            merged[spec.name], weigh_reports = blocks | f"{spec.name}.Weigh" >> weigh
            shuffles += weigh.shuffles
            reports += weigh_reports
            continue
        # Every row has a cell among those of hierarchical keys: none is left out.
        kept_leaves = _kept_leaves(job).get(spec.of_input.name)
        bound = BoundContributions(
            spec=spec,
            shards=job.user_shards,
            salt=job.salt,
            public=job.public.get(spec.of_input.name) if kept_leaves is None else None,
            splits=splits,
            schema=rows.output_schema(job.input),
            sealed=job.area if splits is None else None,
            kept_leaves=kept_leaves,
        )
        accumulate = AccumulateByPartition(
            spec=spec, result_shards=job.result_shards, public=job.public.get(spec.name), senders=bound.senders
        )
        source = counted_blocks if spec.votes else blocks
        accumulators, bound_reports = source | f"{spec.name}.Bound" >> bound
        merged[spec.name], merge_reports = accumulators | f"{spec.name}.Accumulate" >> accumulate
        shuffles += [*bound.shuffles, accumulate.shuffle]
        reports += [*bound_reports, *merge_reports]
    return merged, shuffles, reports


def _kept_leaves(job: Job) -> dict[str, Hierarchy]:
    """The kept leaves of the stages with hierarchical keys, by stage."""
    hierarchical = [spec for spec in job.stages if spec.hierarchical]
    return {spec.name: Hierarchy(keys=spec.leaf_keys, kept=job.earlier_rounds[spec.name]) for spec in hierarchical}


def run(job: Job, options: PipelineOptions) -> tuple[Shuffle, ...]:
    """Runs the job to its end on the options' runner. Whatever the runner raises is raised; see `containment`."""
    with sparing_ipython():
        pipeline = beam.Pipeline(options=options)
        built = build(pipeline, job)
        result = pipeline.run()
        result.wait_until_finish()
        return built.shuffles
