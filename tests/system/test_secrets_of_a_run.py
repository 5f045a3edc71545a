"""What bounding rests on: every job has a salt that nobody else learns, and no two batches share priorities."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pytest

from dpbeam.engine.bounding import contributions
from dpbeam.engine.stage import StageSpec
from dpbeam.pipelines.jobs import aggregate
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.counts import Count
from dpbeam.transforms import private_aggregate

SPEC = StageSpec(
    name="s",
    unit="u",
    keys=("k",),
    key_types=("string",),
    bounds=Bounds(l0=1, linf=1),
    metrics=(Count(name="count"),),
    noise={},
    selection=None,
)


@pytest.fixture
def salts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The salts of all jobs that are run."""
    found: list[bytes] = []
    run = aggregate.run

    def looking(job, options):
        found.append(job.salt)
        return run(job, options)

    monkeypatch.setattr(aggregate, "run", looking)
    return found


def test_each_job_of_each_run_has_a_salt_of_its_own_that_no_file_holds(workspace, salts) -> None:
    private = workspace.policy["stages"][0]["partitions"]["private"]
    private |= {"strategy": "dp_sips", "rounds": 2}
    workspace.create_budget()
    assert [workspace.run("--refresh") for _ in range(2)] == [0, 0]
    assert len(salts) == len(set(salts)) == 6  # two rounds and the main job, twice
    assert {len(salt) for salt in salts} == {16}
    files = [path for path in workspace.folder.rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert len(files) > 8
    assert [salt for salt in salts if salt in written or salt.hex().encode() in written] == []


def test_each_aggregation_within_a_pipeline_has_a_salt_of_its_own(monkeypatch) -> None:
    drawn: list[bytes] = []
    routing = private_aggregate._Route

    def looking(spec, salt, public):
        drawn.append(salt)
        return routing(spec, salt, public)

    monkeypatch.setattr(private_aggregate, "_Route", looking)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    rows = pipeline | beam.Create([pa.RecordBatch.from_pylist([{"u": "a", "k": "b"}])])
    for label in ("one", "two"):
        _ = rows | label >> private_aggregate.AggregatePrivately(SPEC, None)
    assert len(set(drawn)) == 2
    assert {len(salt) for salt in drawn} == {16}


def test_batches_within_a_pipeline_draw_priorities_that_no_other_shares(monkeypatch) -> None:
    seeds: list[tuple[int, ...]] = []
    prebound = contributions.prebound

    def looking(batch, spec, salt, given):
        seeds.append(tuple(given))
        return prebound(batch, spec, salt, given)

    monkeypatch.setattr(contributions, "prebound", looking)
    route = private_aggregate._Route(SPEC, b"salt", None)
    batch = pa.RecordBatch.from_pylist([{"u": "a", "k": "b"}])
    for _ in range(100):
        list(route.work(batch))
    numbers = [number for pair in seeds for number in pair]
    # Of 200 numbers of 63 bits two are equal with probability 2e-15.
    assert len(set(numbers)) == 200
