"""`make bench`: every case of every system in turn, both orders; writes build/benchmarks.json and the docs' table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.data import write_visits

ROOT = Path(__file__).parents[1]
REPEATS = 3
CASES = {"int": (10_000_000, 200_000), "text": (2_000_000, 200_000)}
"""Case → rows for dpbeam, rows for the peer: each at a size that it does in reasonable time."""


def measure(system: str, path: Path) -> dict[str, float]:
    """One run of one system in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.system", system, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for case, sizes in CASES.items():
            inputs = {}
            for system, rows in zip(("dpbeam", "pipelinedp"), sizes, strict=True):
                inputs[system] = (Path(folder) / f"{case}-{rows}.parquet", rows)
                write_visits(*inputs[system], text=case == "text")
            runs: dict[str, list[dict[str, float]]] = {system: [] for system in inputs}
            for repeat in range(REPEATS):
                order = list(inputs) if repeat % 2 == 0 else list(inputs)[::-1]
                for system in order:
                    runs[system].append(measure(system, inputs[system][0]))
                    print(f"{case} {system}: {runs[system][-1]}", flush=True)
            for system, found in runs.items():
                rows, seconds = inputs[system][1], statistics.median(run["seconds"] for run in found)
                results.append(
                    {
                        "case": f"count, sum, privacy_id_count; {case} ids and keys",
                        "system": system,
                        "rows": rows,
                        "seconds": round(seconds, 3),
                        "rows_per_second": round(rows / seconds),
                        "peak_mib": round(max(run["peak_mib"] for run in found)),
                    }
                )
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    (ROOT / "docs" / "benchmarks.md").write_text(page(results), encoding="utf-8")
    print(page(results))


def page(results: list[dict[str, object]]) -> str:
    """docs/benchmarks.md."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("apache-beam", "pipeline-dp", "python-dp", "pyarrow", "numpy", "polars")
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench`; don't edit. Medians of {REPEATS} runs in turn, both orders, each in its own process,",
        "on Beam's in-process runner. dpbeam's is a whole `dpbeam run` (plan, ledger, job, publishing); PipelineDP's",
        "is the aggregation alone, from rows in memory. Imports are not counted.",
        "Data: rows/20 users, Pareto-distributed partitions, l0 10, linf 3, private selection.",
        "",
        f"Machine: {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}; "
        + ", ".join(f"{package} {version(package)}" for package in packages)
        + ".",
        "",
        "| case | system | rows | seconds | rows/s | peak MiB | times the peer |",
        "|---|---|---|---|---|---|---|",
    ]
    peers = {row["case"]: row["rows_per_second"] for row in results if row["system"] == "pipelinedp"}
    for row in results:
        ratio = row["rows_per_second"] / peers[row["case"]]
        lines.append(
            f"| {row['case']} | {row['system']} | {row['rows']:,} | {row['seconds']} | {row['rows_per_second']:,} | "
            f"{row['peak_mib']:,} | {ratio:.0f}× |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
