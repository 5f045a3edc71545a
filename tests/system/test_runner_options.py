"""Before anything is charged: what isn't set up or doesn't answer is found, and nothing of ours listens on a port."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from dpbeam.pipelines.jobs import runners
from dpbeam.pipelines.jobs.options import beam_options
from dpbeam.transforms.steps import write_shards
from dpbeam.transforms.wire.staging import Area

SPARK = ("--spark_master_url=spark://h:1", "--spark_rest_url=http://h:2")
WORKERS = ("direct_num_workers", "num_workers", "max_num_workers", "sdk_worker_parallelism")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        *[([f"--{name}={count}"], f"--{name} must be from ") for name in WORKERS for count in (-1, -3, 10**9)],
        (["--direct_running_mode=multi_processing"], "multi_processing is refused: Beam's local runner then listens"),
        (["--direct_running_mode=multi_threading"], "multi_threading is refused"),
        (["--runner=DataflowRunner"], "Missing required option: project; Missing required option: region"),
        (["--runner=PortableRunner"], "needs --job_endpoint"),
        (["--runner=PortableRunner", "--job_endpoint=embed"], "--job_endpoint=embed is refused"),
        (["--runner=FlinkRunner"], "needs a cluster to run on"),
        (["--runner=FlinkRunner", "--flink_master=[local]"], "needs a cluster to run on"),
        (["--runner=SparkRunner", "--spark_master_url=local[2]"], "needs a cluster to run on"),
        (["--runner=PrismRunner"], "needs a cluster to run on"),
        (
            ["--runner=FlinkRunner", "--job_endpoint=h:1"],
            "--environment_type=LOOPBACK, which this runner has where none",
        ),
        (["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=loopback"], "LOOPBACK"),
        (["--runner=FlinkRunner", "--flink_master=h:1", "--flink_submit_uber_jar"], "--flink_submit_uber_jar is re"),
        (["--runner=SparkRunner", *SPARK, "--spark_submit_uber_jar"], "--spark_submit_uber_jar is refused"),
        (["--runner=InteractiveRunner"], "InteractiveRunner"),
        (["--runner=apache_beam.runners.render.RenderRunner"], "what it opens to other machines isn't known here"),
        (["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"], "DaskRunner"),
        (["--runner=TestDirectRunner"], "what it opens to other machines isn't known here"),
    ],
)
def test_options_that_can_not_work_or_open_ports_are_refused_before_the_charge(workspace, capsys, flags, said) -> None:
    workspace.create_budget()
    assert workspace.run(*flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "multi_processing." not in error.replace("=multi_processing", "")  # no message recommends it
    assert workspace.uncharged()
    assert workspace.open_charges() == []


def test_a_runner_by_its_whole_name_is_the_same_runner() -> None:
    named = beam_options(["--runner=apache_beam.runners.direct.direct_runner.DirectRunner"])
    assert named.get_all_options()["runner"] == "FnApiRunner"


@contextlib.contextmanager
def silent():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def dead():
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    yield place


@contextlib.contextmanager
def answering():
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


ENDPOINTS = {
    "--job_endpoint": "--runner=PortableRunner --environment_type=DOCKER --job_endpoint={}",
    "--flink_master": "--runner=FlinkRunner --flink_master={}",
    "--spark_master_url": "--runner=SparkRunner --spark_master_url=spark://{}",
}


@pytest.mark.parametrize("flag", ENDPOINTS)
@pytest.mark.parametrize("state", [silent, dead])
def test_a_cluster_that_does_not_answer_is_named_before_the_charge(workspace, capsys, monkeypatch, flag, state) -> None:
    if (flag, state) == ("--spark_master_url", silent):
        pytest.skip("of Spark's own protocol no more is asked than that it takes a connection")
    monkeypatch.setattr(runners, "ANSWER_S", 0.2)
    workspace.create_budget()
    with state() as place:
        assert workspace.run(*ENDPOINTS[flag].format(place).split()) == 2
    assert re.search(f"{flag}=.*{place} doesn't answer within 0.2 s", capsys.readouterr().err)
    assert workspace.uncharged()


def test_a_cluster_that_answers_is_not_refused() -> None:
    with answering() as place:
        runners.check_answers(beam_options(ENDPOINTS["--job_endpoint"].format(place).split()))


def test_a_release_that_is_out_is_given_again_without_its_cluster(workspace, capsys, monkeypatch) -> None:
    monkeypatch.setattr(runners, "ANSWER_S", 0.2)
    workspace.create_budget()
    assert workspace.run() == 0
    with dead() as place:
        assert workspace.run(*ENDPOINTS["--job_endpoint"].format(place).split()) == 0


def listening_here() -> set[str]:
    """The addresses, in hexadecimal, at which this process listens."""
    sockets = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(f"/proc/self/fd/{number}")))
    tables = [Path(f"/proc/self/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()]
    return {line[1] for line in lines if line[3] == "0A" and line[9] in sockets}


@pytest.mark.parametrize("flags", [(), ("--direct_num_workers=2",), ("--runner=BundleBasedDirectRunner",)])
def test_nothing_listens_while_a_run_works(workspace, capsys, monkeypatch, flags) -> None:
    if not Path("/proc/self/net/tcp").exists():
        pytest.skip("needs /proc")
    work, found = write_shards._WriteShard.work, []

    def looks(self, element):
        found.append(listening_here() - before)
        yield from work(self, element)

    before = listening_here()
    monkeypatch.setattr(write_shards._WriteShard, "work", looks)
    workspace.create_budget()
    assert workspace.run(*flags) == 0
    assert found
    assert set().union(*found) == set()
    with socket.create_server(("127.0.0.1", 0)):  # the look would have found it
        assert len(listening_here() - before) == 1


def test_staging_that_can_not_be_made_is_found_before_the_charge(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    make = os.mkdir

    def refuses(path, *rest, **named):
        if str(path).endswith(".staging"):
            raise PermissionError(13, "Permission denied", str(path))
        make(path, *rest, **named)

    monkeypatch.setattr(os, "mkdir", refuses)
    assert workspace.run() == 2
    assert "its staging can't be made" in capsys.readouterr().err
    assert workspace.uncharged()


def test_a_cluster_that_died_since_leaves_a_broken_charge_as_it_is(workspace, capsys, monkeypatch) -> None:
    monkeypatch.setattr(runners, "ANSWER_S", 0.2)
    workspace.create_budget()
    with monkeypatch.context() as broken:
        broken.setattr(Area, "has_marker", lambda *_: False)
        assert workspace.run() == 4
    with dead() as place:
        assert workspace.run(*ENDPOINTS["--job_endpoint"].format(place).split()) == 2
    (charge,) = workspace.open_charges()
    assert charge.attempt == 1
