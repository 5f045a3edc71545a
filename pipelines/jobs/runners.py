"""Refuses a runner that isn't set up, can't be reached, or would open this machine to others, before anything is
charged.

Guarantee: no part of Beam that runs in this process, or that the local runner starts, listens on a port. Beam's gRPC
servers in Python have no authentication and listen on every interface: who connects to one is given the job's elements,
raw rows among them, or what its workers are to run. So the modes, runners and options that start one are refused. For
Flink and Spark Beam may start a job server in Java, which gets the job and no rows; its default is to listen on the
loopback address alone. What a cluster that the user runs listens on is the user's.
"""

from __future__ import annotations

import importlib
import re
import shutil
import socket
from collections.abc import Sequence
from contextlib import closing
from urllib.parse import urlsplit

import apache_beam as beam
import grpc
import requests
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)

from dpbeam.errors import UsageError
from dpbeam.pipelines.jobs.notebooks import is_in_ipython

ANSWER_S = 20.0
"""How long a cluster may take to answer before the run is charged."""
RUNNERS = (
    *("fnapirunner", "bundlebaseddirectrunner"),
    *("portablerunner", "flinkrunner", "sparkrunner", "prismrunner", "dataflowrunner"),
)
"""Whose listening was looked through, in lower case: local ones, then those of clusters."""
MAX_LOCAL_WORKERS = 256
MAX_WORKERS = 100_000
_LOCAL_SPARK = re.compile(r"local(\[.+\])?")
_POOL = (
    "Start a worker pool of Beam's on the cluster and name it with --environment_type=EXTERNAL "
    "--environment_config=HOST:PORT, or use --environment_type=DOCKER or PROCESS"
)


def check(options: PipelineOptions, flags: Sequence[str]) -> None:
    """What the options alone tell.

    Raises:
        UsageError: a mode, a runner or a number of workers that is refused, or an option that the runner lacks.
    """
    _check_workers(options)
    _check_listeners(options)
    _check_notebook()
    name = str(options.view_as(StandardOptions).runner)
    try:  # of options of its own, for a pipeline adds to those that it is given
        beam.Pipeline(runner=name, options=PipelineOptions(list(flags)))
        if name.lower().endswith("dataflowrunner"):
            from apache_beam.runners.dataflow.internal import apiclient  # noqa: F401  # the run would only then
    except ImportError:
        raise UsageError(f"--runner={name}: its optional parts aren't installed (apache-beam[gcp], say)") from None
    except ValueError as error:
        lines = [line.rstrip(".") for line in str(error).splitlines()[1:] if line] or ["Beam has no such runner here"]
        raise UsageError(f"--runner={name} isn't set up: {'; '.join(lines)}. Nothing was charged") from None


def _check_notebook() -> None:
    """In IPython Beam loads its own notebook parts as a pipeline is built, which would be after the charge."""
    if not is_in_ipython():
        return
    try:
        importlib.import_module("apache_beam.runners.interactive.interactive_environment")
    except Exception as error:
        raise UsageError(
            f"Apache Beam can't work in this notebook ({type(error).__name__} as it loads its notebook parts): it "
            "needs pandas, of a version below 3; `pip install 'pandas<3'`, and start the kernel again. Nothing was "
            "charged"
        ) from None


def check_pipeline(pipeline: beam.Pipeline) -> None:
    """What the runner and the options of somebody's own pipeline tell.

    Raises:
        UsageError: a mode, a runner or a number of workers that is refused, or a pipeline of streams.
    """
    name = type(pipeline.runner).__name__
    options = PipelineOptions.from_dictionary(pipeline.options.get_all_options(drop_default=True))
    options.view_as(StandardOptions).runner = name
    if name in ("DirectRunner", "SwitchingDirectRunner"):
        raise UsageError(
            "the pipeline's runner is DirectRunner, which may start another that listens on every interface of this "
            "machine; name FnApiRunner, Beam's own within this process: --runner=FnApiRunner. Nothing was charged"
        )
    if options.view_as(StandardOptions).streaming:
        raise UsageError("the pipeline has --streaming, and a release is of rows that end. Nothing was charged")
    _check_workers(options)
    _check_listeners(options)


def _check_workers(options: PipelineOptions) -> None:
    stated = options.get_all_options(drop_default=True)
    for name, least, most in (
        ("direct_num_workers", 0, MAX_LOCAL_WORKERS),
        ("num_workers", 1, MAX_WORKERS),
        ("max_num_workers", 1, MAX_WORKERS),
        ("parallelism", 1, MAX_WORKERS),
        ("max_parallelism", 1, MAX_WORKERS),
        ("sdk_worker_parallelism", 0, MAX_WORKERS),
        ("number_of_worker_harness_threads", 1, MAX_WORKERS),
    ):
        if name in stated and stated[name] is not None and not least <= int(stated[name]) <= most:
            raise UsageError(f"--{name} must be from {least} to {most:,}, got {stated[name]}. Nothing was charged")


def _check_listeners(options: PipelineOptions) -> None:
    mode = options.view_as(DirectOptions).direct_running_mode
    if mode == "multi_threading":
        raise UsageError(
            "--direct_running_mode=multi_threading is refused: Beam's local runner silently loses data in this mode, "
            "and its ports are open to other machines. Use in_memory (the default): one worker uses all cores."
        )
    if mode == "multi_processing":
        raise UsageError(
            "--direct_running_mode=multi_processing is refused: Beam's local runner then listens on every interface of "
            "this machine, and gives the job's rows to whoever connects. Use in_memory (the default): one worker uses "
            "all cores. For more than one machine holds, use a cluster."
        )
    name, portable = _name(options), options.view_as(PortableOptions)
    if name not in RUNNERS:
        stated = options.view_as(StandardOptions).runner
        raise UsageError(
            f"--runner={stated} is refused: what it opens to other machines isn't known here. Leave --runner out to "
            "run on this machine, or name PortableRunner, FlinkRunner, SparkRunner, PrismRunner or DataflowRunner"
        )
    if portable.job_endpoint == "embed":
        raise UsageError(
            "--job_endpoint=embed is refused: Beam then starts a server here that listens on every interface of this "
            "machine. Leave --runner and --job_endpoint out to run here"
        )
    here = name == "prismrunner" or (name == "flinkrunner" and _flink(options) in ("[auto]", "[local]"))
    here = here or (name == "sparkrunner" and _LOCAL_SPARK.fullmatch(_spark(options)) is not None)
    if here and not portable.job_endpoint:
        raise UsageError(
            f"--runner={name} needs a cluster to run on, named with --job_endpoint, --flink_master or "
            "--spark_master_url: what Beam would start here listens on every interface of this machine. Leave --runner "
            "out to run here"
        )
    for flag, of in (("flink_submit_uber_jar", FlinkRunnerOptions), ("spark_submit_uber_jar", SparkRunnerOptions)):
        if getattr(options.view_as(of), flag):
            raise UsageError(
                f"--{flag} is refused: Beam then starts a server here that listens on every interface of this machine "
                "for what the job's workers are to run. Leave it out, and Beam starts a job server in Java; or name "
                "one of yours with --job_endpoint"
            )
    kind = (portable.environment_type or ("LOOPBACK" if here else "")).upper()
    if kind == "LOOPBACK":
        raise UsageError(
            "--environment_type=LOOPBACK, which this runner has where none is stated, is refused: this process would "
            f"then listen on every interface of this machine, and run what whoever connects sends it. {_POOL}"
        )
    if name == "portablerunner" and not portable.job_endpoint:
        raise UsageError("--runner=PortableRunner needs --job_endpoint=HOST:PORT. Nothing was charged")


def check_answers(options: PipelineOptions) -> None:
    """Whether the cluster that the options name answers, within `ANSWER_S`: else a run that is charged would wait for
    it for minutes, or for good.

    Raises:
        UsageError: it doesn't.
    """
    name, portable = _name(options), options.view_as(PortableOptions)
    if portable.job_endpoint:
        _answers_grpc("--job_endpoint", portable.job_endpoint)
    elif name == "flinkrunner":
        master = _flink(options)
        _answers_http("--flink_master", master if "://" in master else f"http://{master}")
        _check_java(options)
    elif name == "sparkrunner":
        _answers("--spark_master_url", _spark(options))
        _check_java(options)


def _answers_grpc(flag: str, endpoint: str) -> None:
    with closing(grpc.insecure_channel(endpoint)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
        except grpc.FutureTimeoutError:
            raise _silent(flag, endpoint) from None


def _answers_http(flag: str, url: str) -> None:
    try:
        requests.get(f"{url.rstrip('/')}/v1/config", timeout=ANSWER_S).close()
    except (requests.RequestException, ValueError):
        raise _silent(flag, url) from None


def _answers(flag: str, url: str) -> None:
    try:
        where = urlsplit(url)
        socket.create_connection((where.hostname or "", where.port or 7077), timeout=ANSWER_S).close()
    except (OSError, ValueError):
        raise _silent(flag, url) from None


def _silent(flag: str, place: str) -> UsageError:
    return UsageError(
        f"{flag}={place} doesn't answer within {ANSWER_S:g} s; is the cluster running, and the address right? "
        "Nothing was charged"
    )


def _check_java(options: PipelineOptions) -> None:
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    if shutil.which(launcher) is None:
        raise UsageError(
            f"the runner starts a job server by {launcher}, which isn't found here; install Java, or name the program "
            "with --job_server_java_launcher. Nothing was charged"
        )


def _name(options: PipelineOptions) -> str:
    return str(options.view_as(StandardOptions).runner).rsplit(".", maxsplit=1)[-1].lower()


def _flink(options: PipelineOptions) -> str:
    return str(options.view_as(FlinkRunnerOptions).flink_master).strip()


def _spark(options: PipelineOptions) -> str:
    return str(options.view_as(SparkRunnerOptions).spark_master_url).strip()
