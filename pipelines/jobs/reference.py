"""The reference job: a policy's stages answered by PipelineDP's own engine, and staged as any others.

Reading, validation and staging are the main job's; what lies between is PipelineDP's engine on Beam.
"""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from dpbeam.adapters.reference.plan import PlannedBudgets, ReferenceStage
from dpbeam.adapters.reference.transform import PipelineDPAggregate
from dpbeam.pipelines.jobs.aggregate import Job
from dpbeam.transforms.steps.read import ReadBlocks
from dpbeam.transforms.steps.validate import Validate
from dpbeam.transforms.steps.write_shards import StageResults
from dpbeam.transforms.wire import arrow_coder
from dpbeam.transforms.wire.control import Shuffle


def build(pipeline: beam.Pipeline, job: Job, stages: Sequence[ReferenceStage]) -> tuple[Shuffle, ...]:
    """Adds the job to a pipeline. PipelineDP's shuffles carry no control totals, so there are none to wait for."""
    arrow_coder.register()
    blocks = pipeline | "Read" >> ReadBlocks(job.input, job.portions) | "Validate" >> Validate(job.input)
    for stage in stages:
        spec = stage.spec
        aggregate = PipelineDPAggregate(
            spec=spec,
            params=stage.call.params,
            grid=stage.call.grid,
            steps=stage.steps,
            accountant=PlannedBudgets(stage.budgets),
            public=job.public.get(spec.name),
            result_shards=job.result_shards,
        )
        (
            blocks
            | f"{spec.name}.PipelineDP" >> aggregate
            | f"{spec.name}.Stage" >> StageResults(spec.name, job.result_shards, job.area)
        )
    return ()


def run(job: Job, stages: Sequence[ReferenceStage], options: PipelineOptions) -> tuple[Shuffle, ...]:
    """Runs the job to its end, as `dpbeam.pipelines.jobs.aggregate.run` does its own."""
    pipeline = beam.Pipeline(options=options)
    shuffles = build(pipeline, job, stages)
    pipeline.run().wait_until_finish()
    return shuffles
