"""A private vocabulary as a step of somebody's own pipeline, by every strategy of one round."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that

from dpbeam.accounting.plan import plan
from dpbeam.engine.stage import planned_stage
from dpbeam.errors import UsageError
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.reading import rows
from dpbeam.transforms.private_keys import SelectKeys
from dpbeam.transforms.steps.read import ReadBlocks
from dpbeam.transforms.steps.validate import Validate
from dpbeam.transforms.wire import arrow_coder
from dpbeam.transforms.wire.control import CheckControlTotals
from dpbeam.transforms.wire.staging import Area
from tests.helpers.queries import load_query


def selecting(workspace, strategy, **private):
    (stage,) = workspace.policy["stages"]
    stage["partitions"] = {"private": {"strategy": strategy, **private}}
    stage["metrics"] = []
    del stage["noise"]
    workspace.policy["run"] = {"epsilon": 8.0, "delta": 6e-12}  # 800 people each alone in a place: none shows it
    workspace.csv(*(f"p{i},{place},1" for i in range(800) for place in ("inn", "zoo", f"own{i}")))
    policy = load_query(workspace.policy_path)
    found = inputs.resolve(policy.source)
    spec = planned_stage(policy.unit, policy.stages[0], plan(policy).mechanisms)
    return (
        policy,
        found,
        SelectKeys(
            spec=spec,
            shards=4,
            result_shards=2,
            salt=b"a secret of this run",
            splits=len(found.splits),
            schema=rows.output_schema(policy.source),
        ),
    )


@pytest.mark.parametrize(
    ("strategy", "private"),
    [
        ("truncated_geometric", {}),
        ("laplace_thresholding", {}),
        ("gaussian_thresholding", {"pre_threshold": 5}),
        ("mad", {}),
        ("dp_sips", {"rounds": 1}),
    ],
)
def test_the_kept_keys_come_out_and_the_control_totals_agree(workspace, strategy, private) -> None:
    policy, found, select = selecting(workspace, strategy, **private)
    area = Area(path=str(workspace.folder / "area"), attempt="a")
    area.create()
    arrow_coder.register()

    def are_kept(batches) -> None:
        assert sorted(key for batch in batches for key in batch.column("place").to_pylist()) == ["inn", "zoo"]

    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        blocks = pipeline | ReadBlocks(policy.source, found.splits) | Validate(policy.source)
        keys, reports = blocks | select
        _ = reports | beam.Flatten() | CheckControlTotals(select.shuffles, area)
        assert_that(keys, are_kept)
    assert all(area.has_marker(shuffle.name) for shuffle in select.shuffles)


@pytest.mark.parametrize("strategy", ["dp_sips", "mad2r"])
def test_several_rounds_within_a_pipeline_are_refused(workspace, strategy) -> None:
    with pytest.raises(UsageError, match="a selection within a pipeline must have one round, got"):
        selecting(workspace, strategy)
