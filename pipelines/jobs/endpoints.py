"""Refuses endpoints and environments in a run's options that can't be what they name, before the charge.

Beam looks at most of them when the job starts. A name without a port is then asked for minutes, or fails the run.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
)

from dpbeam.errors import UsageError

ENVIRONMENTS = ("DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK")
_GRPC_SCHEMES = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:")
_FLINK_HERE = ("[auto]", "[local]", "[collection]")


def check(options: PipelineOptions) -> None:
    """Looks at the form of endpoints and of the workers' environment; asks nobody.

    Raises:
        UsageError: one can't be what it is to be.
    """
    portable = options.view_as(PortableOptions)
    for flag in ("job_endpoint", "artifact_endpoint"):
        place = getattr(portable, flag)
        if place and place != "embed" and not place.startswith(_GRPC_SCHEMES) and not _is_host_and_port(place):
            raise _refused(flag, place, "be HOST:PORT", f"--{flag}=localhost:8099, say")
    flink = str(options.view_as(FlinkRunnerOptions).flink_master).strip()
    if flink not in _FLINK_HERE and not _is_host_and_port(flink.removeprefix("http://").removeprefix("https://")):
        raise _refused("flink_master", flink, "be HOST:PORT of Flink's REST server, or its URL", "localhost:8081, say")
    spark = str(options.view_as(SparkRunnerOptions).spark_master_url).strip()
    if spark.startswith("spark://") and not _is_host_and_port(spark.removeprefix("spark://")):
        raise _refused("spark_master_url", spark, "be spark://HOST:PORT", "spark://localhost:7077, say")
    _check_environment(portable)


def _check_environment(portable: PortableOptions) -> None:
    kind, config = str(portable.environment_type or ""), str(portable.environment_config or "")
    if kind and not kind.startswith("beam:env:") and kind.upper() not in ENVIRONMENTS:
        raise _refused("environment_type", kind, f"be one of {', '.join(ENVIRONMENTS[:3])}", "Beam knows no other")
    if kind.upper() == "EXTERNAL" and config and not _is_host_and_port(config.removeprefix("http://")):
        raise _refused("environment_config", config, "be HOST:PORT of the worker pool", "localhost:50000, say")
    if kind.upper() == "PROCESS" and config and not _is_command(config):
        raise _refused(
            "environment_config", config, "be a JSON object with a command", '\'{"command": "/opt/apache/beam/boot"}\''
        )


def _is_host_and_port(place: str) -> bool:
    try:
        parts = urlsplit(f"//{place}")
        return bool(parts.hostname) and parts.port is not None and parts.port > 0 and "@" not in place
    except ValueError:
        return False


def _is_command(config: str) -> bool:
    try:
        found = json.loads(config)
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("command"), str)


def _refused(flag: str, value: str, rule: str, remedy: str) -> UsageError:
    return UsageError(f"--{flag} must {rule}, got {value!r}. Nothing was charged", remedy=remedy)
