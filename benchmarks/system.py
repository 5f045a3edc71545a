"""One measurement in a process of its own: a system's name, a file and a runner go in; one JSON line comes out.

Started by `benchmarks.run`, so that imports, memory and caches of one system never reach another's figures. Seconds
are those of the aggregation alone, from building the pipeline to its last result; imports are not counted.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.data import write_visits
from benchmarks.peers import DELTA, EPSILON, L0, LINF

RUNNER = "FnApiRunner"
_LISTING = "DPBEAM_BENCHMARK_LISTS_MODULES"
MECHANISMS = 1_000
STRATEGIES = ("truncated_geometric", "gaussian_thresholding", "dp_sips", "mad2r")


def dpbeam(path: Path, runner: str) -> float:
    """A whole `dpbeam run`: plan, ledger, Beam job, publishing."""
    metrics = ["count", "privacy_id_count", {"sum": {"column": "amount", "low": 0.0, "high": 10.0}}]
    return _run(path, runner, "truncated_geometric", {"metrics": metrics, "noise": "gaussian"})


def keys_alone(path: Path, runner: str, strategy: str) -> float:
    """A whole `dpbeam run` that releases kept keys and nothing of them."""
    return _run(path, runner, strategy, {"metrics": []})


def _run(path: Path, runner: str, strategy: str, released: dict[str, object]) -> float:
    import pyarrow.parquet as pq
    import yaml

    from dpbeam.pipelines.cli.main import invoke

    _import_what_a_run_imports()
    kind = "int64" if str(pq.read_schema(path).field("user").type) == "int64" else "string"
    with tempfile.TemporaryDirectory() as folder:
        policy = {
            "version": 1,
            "dataset": "bench",
            "source": {"format": "parquet", "path": str(path.absolute())},
            "privacy_unit": "user",
            "columns": {"user": {"type": kind}, "place": {"type": kind}, "amount": {"type": "float64"}},
            "budget": {"epsilon": 10.0, "delta": 1e-5},
            "run": {"epsilon": EPSILON, "delta": DELTA},
            "stages": [
                {
                    "name": "by_place",
                    "group_by": ["place"],
                    "partitions": {"private": {"strategy": strategy}},
                    "bounds": {"l0": L0, "linf": LINF},
                    **released,
                }
            ],
        }
        file, ledger = Path(folder) / "policy.yaml", f"sqlite:///{folder}/ledger.sqlite"
        file.write_text(yaml.safe_dump(policy))
        invoke(["budget", "create", str(file), "--ledger", ledger])
        started = time.perf_counter()
        command = ["run", str(file), "--ledger", ledger, "--output", folder, f"--runner={runner}", "--json"]
        if invoke(command):
            raise SystemExit("the run failed")
        return time.perf_counter() - started


def _import_what_a_run_imports() -> None:
    """Commands import most of what they need while they run: a run of a few rows in another process tells what."""
    if os.environ.get(_LISTING):
        return
    with tempfile.TemporaryDirectory() as folder:
        rows, listed = Path(folder) / "rows.parquet", Path(folder) / "modules.json"
        write_visits(rows, 1_000, text=False, shape="even")
        program = (
            "import json, sys; from pathlib import Path; from benchmarks import system\n"
            "system.dpbeam(Path(sys.argv[1]), system.RUNNER)\n"
            "Path(sys.argv[2]).write_text(json.dumps(list(sys.modules)))"
        )
        command = [sys.executable, "-c", program, str(rows), str(listed)]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {_LISTING: "1"})
        for module in json.loads(listed.read_text()):
            with contextlib.suppress(ImportError):  # what only looks like a module
                importlib.import_module(module)


def plan(path: Path, runner: str) -> float:
    """Solving and certifying a plan of a thousand mechanisms, all kinds, no two of one weight."""
    from dpbeam.accounting.certify import certify_events
    from dpbeam.accounting.plan import solve
    from dpbeam.accounting.requests import Request

    kinds = ("laplace", "gaussian", "truncated_geometric", "laplace_thresholding", "gaussian_thresholding")
    requests = [
        Request(
            stage=f"stage_{i}",
            metric="m",
            kind=kind,
            weight=1 + i / MECHANISMS,
            **({"l1": 30.0, "l2": 10.0} if kind in ("laplace", "gaussian") else {"l0": 10}),
        )
        for i, kind in zip(range(MECHANISMS), itertools.cycle(kinds), strict=False)
    ]
    started = time.perf_counter()
    solve(requests, lambda found: certify_events(found, epsilon=EPSILON, delta=DELTA), EPSILON, DELTA)
    return time.perf_counter() - started


SYSTEMS = {
    "dpbeam": dpbeam,
    **{f"dpbeam, {strategy}": partial(keys_alone, strategy=strategy) for strategy in STRATEGIES},
    "dpbeam plan": plan,
    "pipelinedp": peers.pipelinedp,
    "polars, not private": peers.polars,
    "opendp": peers.opendp,
    "opendp, coarse": peers.opendp_coarse,
}


def main() -> None:
    logging.basicConfig(level=logging.CRITICAL)
    system, path = sys.argv[1], Path(sys.argv[2])
    report = os.dup(1)
    os.dup2(2, 1)  # what the systems print goes to stderr; stdout carries the measurement alone
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = SYSTEMS[system](path, RUNNER)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": used.ru_maxrss / 1024}
    os.write(report, json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
