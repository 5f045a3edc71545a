"""What can't be kept in somebody's own pipeline is refused before anything is charged."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import dpbeam
from dpbeam.beam import PrivateAggregate, PrivateKeys
from dpbeam.errors import UsageError
from dpbeam.policy.load import load_policy
from tests.helpers.beam_pipelines import (
    HERE,
    charge_of,
    pipeline,
    public_policy,
    release_of,
    visits,
)


@pytest.fixture
def policy(workspace):
    return public_policy(workspace)


def aggregate_of(workspace, asked) -> PrivateAggregate:
    return PrivateAggregate(asked, charge=charge_of(workspace))


def refused(workspace, asked, match: str, *, rows=None, p=None, make=None) -> None:
    p = p or pipeline()
    collection = p | beam.Create(visits()) if rows is None else rows(p)
    with pytest.raises(UsageError, match=match):
        _ = collection | (make or (lambda: release_of(workspace, asked)))()
    assert workspace.uncharged()


def test_rows_in_windows_are_refused(workspace, policy) -> None:
    def windowed(p):
        return p | beam.Create(visits()) | beam.WindowInto(beam.window.FixedWindows(60))

    refused(workspace, policy(), "must end, and be in the global window", rows=windowed)


def test_rows_as_units_are_refused(workspace, policy) -> None:
    workspace.policy["privacy_unit"] = "row"
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": 1, "linf": 1}
    refused(workspace, policy(), "the privacy unit can't be the row within a pipeline of your own")


def test_coverage_is_refused(workspace, policy) -> None:
    workspace.policy["coverage"] = {"share": 0.02}
    refused(workspace, policy(), "coverage is counted where dpbeam reads rows, and these come from a pipeline")


@pytest.mark.parametrize("strategy", ["mad", "dp_sips", "mad2r"])
def test_selections_in_rounds_are_refused(workspace, strategy) -> None:
    (only,) = workspace.policy["stages"]
    only["partitions"] = {"private": {"strategy": strategy}}
    workspace.create_budget()
    refused(workspace, load_policy(workspace.policy_path), "go over the rows several times")


def test_bounds_that_the_run_finds_are_refused(workspace, policy) -> None:
    (only,) = workspace.policy["stages"]
    only["bounds"] = {"l0": {"auto": {"max": 10}}, "linf": 2}
    refused(workspace, policy(), "go over the rows several times")


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--runner=DirectRunner"], "the pipeline's runner is DirectRunner"),
        ([HERE, "--direct_running_mode=multi_processing"], "multi_processing is refused"),
        ([HERE, "--direct_running_mode=multi_threading"], "multi_threading is refused"),
        ([HERE, "--streaming"], "a release is of rows that end"),
    ],
)
def test_runners_that_lose_rows_or_open_the_machine_are_refused(workspace, policy, flags, match) -> None:
    refused(workspace, policy(), match, p=beam.Pipeline(options=PipelineOptions(flags)))


PRISM = (
    "--runner=prismrunner needs a cluster to run on, named with --job_endpoint, --flink_master or --spark_master_url: "
    "what Beam would start here listens on every interface of this machine. Leave --runner out to run here"
)


@pytest.mark.parametrize("make", [release_of, aggregate_of])
def test_prism_on_this_machine_is_refused_before_the_charge(workspace, policy, make) -> None:
    asked = policy()
    rows = beam.Pipeline(options=PipelineOptions(["--runner=PrismRunner"])) | beam.Create(visits())
    with pytest.raises(UsageError) as refused:
        _ = rows | make(workspace, asked)
    assert str(refused.value) == PRISM
    assert workspace.uncharged()


def test_rows_of_a_frame_are_refused_where_the_pipeline_has_its_own(workspace, policy) -> None:
    frame = pa.Table.from_pylist(visits())
    asked = dpbeam.query("visits", source=frame, unit="person", epsilon=1.0, delta=1e-6)
    refused(workspace, asked.group_by("place").private().bounds(l0=3, linf=1).count(), "a frame in memory")


def test_a_query_that_is_built_in_python_is_taken(workspace, policy) -> None:
    columns = {"person": "string", "place": "string"}
    asked = dpbeam.query("visits", source="v.csv", unit="person", columns=columns, epsilon=2.0, delta=1e-6)
    asked = asked.group_by("place").public(["inn", "zoo"]).bounds(l0=3, linf=1).count()
    with release_of(workspace, asked, source="bigquery:project.visits") as release, pipeline() as p:
        _ = p | beam.Create(visits()) | release
    assert release.published.table().column("place").to_pylist() == ["inn", "zoo"]
    assert workspace.open_ledger().budget("visits").sources == ("bigquery:project.visits",)


def test_transforms_are_for_queries_of_their_kind(workspace, policy) -> None:
    charge = charge_of(workspace)
    refused(workspace, None, "has metrics: use PrivateAggregate", make=lambda: PrivateKeys(policy(), charge=charge))
    workspace.policy["stages"] *= 2
    workspace.policy["stages"][1] = dict(workspace.policy["stages"][0], name="other")
    two = policy()
    refused(workspace, None, "must have one stage here, got 2", make=lambda: PrivateAggregate(two, charge=charge))


def test_a_file_system_without_hard_links_is_refused(workspace, policy, monkeypatch) -> None:
    from dpbeam.beam import charge

    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(charge.os, "link", no_links)
    refused(workspace, policy(), "has no hard links")
    assert not list(workspace.output.rglob("*.*"))
