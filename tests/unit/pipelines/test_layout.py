"""How a job goes about its rows follows from its options and the size of its files."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from dpbeam.pipelines.jobs import workers
from dpbeam.pipelines.lifecycle import inputs

LOCAL = "--runner=FnApiRunner"


def sized(size: int) -> inputs.Inputs:
    return inputs.Inputs(files=(inputs.File(path="a", size=size, changed=0),), splits=())


@pytest.mark.parametrize(
    ("flags", "alone"),
    [
        ([LOCAL], True),
        ([LOCAL, "--direct_running_mode=in_memory"], True),
        ([LOCAL, "--direct_num_workers=2"], False),
        ([LOCAL, "--direct_num_workers=0"], False),
        (["--runner=BundleBasedDirectRunner"], False),
        (["--runner=PortableRunner", "--job_endpoint=localhost:1"], False),
        (["--runner=FlinkRunner"], False),
        (["--runner=DataflowRunner"], False),
    ],
)
def test_one_worker_goes_through_all_rows_on_the_local_runner_alone(flags, alone):
    found = workers.one_worker(PipelineOptions(flags), 16)
    assert (found is not None) == alone
    if found is not None:
        assert (found.shards, found.threads >= 1) == (16, True)
        assert 0 < found.room_bytes <= workers.MAX_ROOM_BYTES


@pytest.mark.parametrize(
    ("size", "workers", "shards"),
    [
        (0, 1, 8),
        (100 << 20, 1, 64),
        (100 << 20, 40, 256),
        (4 << 30, 1, 1024),
        (64 << 30, 1, 1024),
        (256 << 30, 1, 4096),
        (1 << 44, 1, 8192),
    ],
)
def test_shards_follow_the_size_of_the_files_and_the_workers(size, workers, shards):
    assert sized(size).user_shards(workers) == shards


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        ([], 1),
        (["--direct_num_workers=4"], 4),
        (["--runner=FlinkRunner", "--parallelism=6"], 6),
        (["--runner=DataflowRunner", "--num_workers=3", "--max_num_workers=20"], 20),
    ],
)
def test_the_options_say_how_many_workers_there_are(flags, number):
    assert workers.workers(PipelineOptions(flags)) == number
