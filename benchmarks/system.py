"""One measurement in a process of its own: a system's name, a file and a runner go in; one JSON line comes out.

Started by `benchmarks.run`, so that imports, memory and caches of one system never reach another's figures. Seconds
are those of the aggregation alone, from building the pipeline to its last result; imports are not counted.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

EPSILON, DELTA, L0, LINF = 1.0, 1e-6, 10, 3
RUNNER = "FnApiRunner"


def dpbeam(path: Path) -> float:
    """A whole `dpbeam run`: plan, ledger, Beam job, publishing."""
    import yaml

    import pipelines.release  # noqa: F401  (imported before the clock starts)
    from pipelines.cli import invoke

    with tempfile.TemporaryDirectory() as folder:
        text = "text" in path.name
        policy = {
            "version": 1,
            "dataset": "bench",
            "source": {"format": "parquet", "path": str(path.absolute())},
            "privacy_unit": "user",
            "columns": {
                "user": {"type": "string" if text else "int64"},
                "place": {"type": "string" if text else "int64"},
                "amount": {"type": "float64"},
            },
            "budget": {"epsilon": 10.0, "delta": 1e-5},
            "run": {"epsilon": EPSILON, "delta": DELTA},
            "stages": [
                {
                    "name": "by_place",
                    "group_by": ["place"],
                    "partitions": {"private": {"strategy": "truncated_geometric"}},
                    "bounds": {"l0": L0, "linf": LINF},
                    "metrics": ["count", "privacy_id_count", {"sum": {"column": "amount", "low": 0.0, "high": 10.0}}],
                    "noise": "gaussian",
                }
            ],
        }
        file, ledger = Path(folder) / "policy.yaml", f"sqlite:///{folder}/ledger.sqlite"
        file.write_text(yaml.safe_dump(policy))
        invoke(["budget", "create", str(file), "--ledger", ledger])
        started = time.perf_counter()
        command = ["run", str(file), "--ledger", ledger, "--output", folder, f"--runner={RUNNER}", "--json"]
        if invoke(command):
            raise SystemExit("the run failed")
        return time.perf_counter() - started


def pipelinedp(path: Path) -> float:
    """Stock PipelineDP on the same Beam runner, as its users write it; rows come as tuples from memory."""
    import apache_beam as beam
    import pipeline_dp
    import pyarrow.parquet as pq
    from apache_beam.options.pipeline_options import PipelineOptions

    table = pq.read_table(path)
    rows = list(zip(*(table[name].to_pylist() for name in ("user", "place", "amount")), strict=True))
    accountant = pipeline_dp.NaiveBudgetAccountant(total_epsilon=EPSILON, total_delta=DELTA)
    metrics = pipeline_dp.Metrics
    params = pipeline_dp.AggregateParams(
        metrics=[metrics.COUNT, metrics.SUM, metrics.PRIVACY_ID_COUNT],
        noise_kind=pipeline_dp.NoiseKind.GAUSSIAN,
        max_partitions_contributed=L0,
        max_contributions_per_partition=LINF,
        min_value=0.0,
        max_value=10.0,
    )
    extractors = pipeline_dp.DataExtractors(
        privacy_id_extractor=lambda row: row[0],
        partition_extractor=lambda row: row[1],
        value_extractor=lambda row: row[2],
    )
    started = time.perf_counter()
    with beam.Pipeline(options=PipelineOptions([f"--runner={RUNNER}"])) as pipeline:
        source = pipeline | "Rows" >> beam.Create(rows)
        engine = pipeline_dp.DPEngine(accountant, pipeline_dp.BeamBackend())
        result = engine.aggregate(source, params, extractors)
        accountant.compute_budgets()
        _ = result | "Count" >> beam.combiners.Count.Globally()
    return time.perf_counter() - started


SYSTEMS = {"dpbeam": dpbeam, "pipelinedp": pipelinedp}


def main() -> None:
    logging.basicConfig(level=logging.CRITICAL)
    system, path = sys.argv[1], Path(sys.argv[2])
    report = os.dup(1)
    os.dup2(2, 1)  # what the systems print goes to stderr; stdout carries the measurement alone
    seconds = SYSTEMS[system](path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    os.write(report, json.dumps({"seconds": seconds, "peak_mib": peak}).encode() + b"\n")


if __name__ == "__main__":
    main()
