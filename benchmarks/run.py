"""`make bench`: each case's systems in turn, both orders; writes build/benchmarks.json and docs/benchmarks.md.

`make bench CASES="int skew"` measures these alone and keeps what is known of the others.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import accuracy, bounds, light, utility
from benchmarks.data import Shape, write_visits
from benchmarks.system import STRATEGIES

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "build" / "benchmarks.json"
TEXTS = ROOT / "build" / "benchmarks_sections.json"
PEERS = ROOT / "build" / "bench" / "bin" / "python"
REPEATS = 3
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One system on one table."""

    case: str
    system: str
    rows: int
    text: bool = False
    shape: Shape = "even"


def against_peers(kind: str) -> list[Entry]:
    """PipelineDP and OpenDP at sizes that they do in reasonable time, all others at 10M rows."""
    systems = {
        "dpbeam": 10 * MILLION,
        "pipelinedp": MILLION // 5,
        "opendp": MILLION,
        "opendp, coarse": 10 * MILLION,
        "polars, not private": 10 * MILLION,
    }
    case = f"count, sum, privacy_id_count; {kind} ids and keys"
    return [Entry(case=case, system=system, rows=rows, text=kind == "text") for system, rows in systems.items()]


def of_dpbeam(case: str, rows: int, shape: Shape = "even") -> Entry:
    return Entry(case=case, system="dpbeam", rows=rows, shape=shape)


def of_strategies(case: str, shape: Shape) -> list[Entry]:
    """Kept keys alone, by each strategy."""
    return [Entry(case=case, system=f"dpbeam, {name}", rows=10 * MILLION, shape=shape) for name in STRATEGIES]


CASES: dict[str, list[Entry]] = {
    "int": against_peers("int"),
    "text": against_peers("text"),
    "scale": [of_dpbeam("scale", size * MILLION) for size in (1, 10, 100)],
    "skew": [
        of_dpbeam("even, to compare", 10 * MILLION),
        of_dpbeam("half of all rows in one partition", 10 * MILLION, "half"),
        of_dpbeam("5 % of all rows of one unit", 10 * MILLION, "bot"),
        of_dpbeam("5M partitions", 10 * MILLION, "many"),
    ],
    "many": [of_dpbeam("even, 100M rows", 100 * MILLION), of_dpbeam("5M partitions, 100M rows", 100 * MILLION, "many")],
    "rounds": [
        *of_strategies("kept keys alone, even", "even"),
        *of_strategies("kept keys alone, 5M partitions", "many"),
    ],
    "plan": [Entry(case="plan of 1,000 mechanisms", system="dpbeam plan", rows=1000)],
}

SECTIONS = {
    "accuracy": accuracy.section,
    "selection": utility.section,
    "bounds": bounds.section,
    "light": light.section,
}
"""Cases that measure something else than time, each a part of the page by itself."""


def measure(system: str, path: Path) -> dict[str, float]:
    """One run of one system in a fresh process."""
    python = str(PEERS) if system.startswith("opendp") else sys.executable
    command = [python, "-m", "benchmarks.system", system, str(path)]
    # A user's machine keeps compiled modules; without them each run would compile what it imports.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(ROOT / "build" / "bench" / "compiled")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{system} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(entries: Sequence[Entry], folder: Path) -> list[dict[str, object]]:
    """The entries' rows of the result: medians of runs in turn."""
    inputs = {}
    for entry in entries:
        path = folder / f"{entry.shape}-{'text' if entry.text else 'int'}-{entry.rows}.parquet"
        if not path.exists() and entry.system != "dpbeam plan":
            write_visits(path, entry.rows, text=entry.text, shape=entry.shape)
        inputs[entry] = path
    runs: dict[Entry, list[dict[str, float]]] = {entry: [] for entry in entries}
    for repeat in range(REPEATS):
        for entry in entries if repeat % 2 == 0 else reversed(entries):
            runs[entry].append(measure(entry.system, inputs[entry]))
            print(f"{entry.case}, {entry.system}, {entry.rows:,} rows: {runs[entry][-1]}", flush=True)
    for path in set(inputs.values()):
        path.unlink(missing_ok=True)
    found = []
    for entry, times in runs.items():
        seconds = statistics.median(run["seconds"] for run in times)
        row = {"case": entry.case, "system": entry.system, "rows": entry.rows, "seconds": round(seconds, 3)}
        row |= {
            "rows_per_second": round(entry.rows / seconds),
            "peak_mib": round(max(run["peak_mib"] for run in times)),
        }
        found.append(row)
    return found


def main() -> None:
    names = sys.argv[1:] or [*CASES, *SECTIONS]
    unknown = [name for name in names if name not in CASES and name not in SECTIONS]
    if unknown:
        raise SystemExit(f"no case {unknown[0]}; the cases: {', '.join([*CASES, *SECTIONS])}")
    FOUND.parent.mkdir(exist_ok=True)
    known = json.loads(FOUND.read_text()) if FOUND.exists() and sys.argv[1:] else []
    texts = json.loads(TEXTS.read_text()) if TEXTS.exists() and sys.argv[1:] else {}
    with tempfile.TemporaryDirectory(dir=FOUND.parent) as folder:
        for name in names:
            if name in SECTIONS:
                texts[name] = SECTIONS[name]()
                continue
            fresh = measured(CASES[name], Path(folder))
            cases = {row["case"] for row in fresh}
            known = [row for row in known if row["case"] not in cases] + fresh
    FOUND.write_text(json.dumps(known, indent=2) + "\n")
    TEXTS.write_text(json.dumps(texts, indent=2) + "\n")
    whole = "\n".join([page(known), *texts.values()])
    (ROOT / "docs" / "benchmarks.md").write_text(whole, encoding="utf-8")
    print(whole)


def page(results: list[dict[str, object]]) -> str:
    """docs/benchmarks.md."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("apache-beam", "pipeline-dp", "python-dp", "pyarrow", "numpy", "polars")
    peers = (ROOT / "benchmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()[-1]
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench`; don't edit. Medians of {REPEATS} runs in turn, both orders, each in its own process.",
        "dpbeam and PipelineDP run on Beam's in-process runner. dpbeam's is a whole `dpbeam run` (plan, ledger, job,",
        "publishing); PipelineDP's the aggregation alone, from rows in memory; OpenDP's without its search for the",
        "noise scale. OpenDP keeps the first partitions where dpbeam samples; coarse: the first 30 rows of a unit.",
        "Polars gives the same figures with no privacy at all. Imports are not counted.",
        "Data: rows/20 users, Pareto-distributed partitions, l0 10, linf 3, private selection.",
        "",
        f"Machine: {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}; "
        + ", ".join(f"{package} {version(package)}" for package in packages)
        + f"; {peers}.",
        "",
        "| case | system | rows | seconds | rows/s | ns/row | peak MiB | dpbeam is faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = {row["case"]: row["rows_per_second"] for row in results if row["system"] == "dpbeam"}
    for row in results:
        ratio = "" if row["system"].startswith("dpbeam") else f"{ours[row['case']] / row['rows_per_second']:.3g}×"
        lines.append(
            f"| {row['case']} | {row['system']} | {row['rows']:,} | {row['seconds']} | {row['rows_per_second']:,} | "
            f"{1e9 * row['seconds'] / row['rows']:,.0f} | {row['peak_mib']:,} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
