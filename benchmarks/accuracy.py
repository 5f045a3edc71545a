"""How far released values lie from the truth: a policy of ten stages goes in, the RMSE of dpbeam and of PipelineDP out.

Both release the same counts and sums of the same table, with the same bounds and partitions, at the same (ε, δ): dpbeam
with its plan of all mechanisms together, PipelineDP with its naive accountant, the sound one of its two.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

EPSILON, DELTA, L0, LINF = 1.0, 1e-6, 4, 1
STAGES, USERS, PLACES, HIGH = 10, 20_000, 40, 10.0


def table(seed: int = 7) -> pa.Table:
    """Users with a place in every stage's column, and an amount: no bound bites, so the noise is all that errs."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"user": np.arange(USERS), "amount": rng.uniform(0, HIGH, USERS)}
    return pa.table(columns | {f"key{i}": rng.integers(0, PLACES, USERS) for i in range(STAGES)})


def truth(data: pa.Table, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and sums by place."""
    places = data[f"key{stage}"].to_numpy()
    amounts = data["amount"].to_numpy()
    return np.bincount(places, minlength=PLACES), np.bincount(places, weights=amounts, minlength=PLACES)


def dpbeam(data: pa.Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """A whole `dpbeam run`."""
    from dpbeam.pipelines.cli.main import invoke

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(data, folder / "data.parquet")
        stages = [
            {
                "name": f"stage{i}",
                "group_by": [f"key{i}"],
                "partitions": {"public": {"values": list(range(PLACES))}},
                "bounds": {"l0": L0, "linf": LINF},
                "metrics": ["count", {"sum": {"column": "amount", "low": 0.0, "high": HIGH}}],
                "noise": "gaussian",
            }
            for i in range(STAGES)
        ]
        policy = {
            "version": 1,
            "dataset": "bench",
            "source": {"format": "parquet", "path": "data.parquet"},
            "privacy_unit": "user",
            "columns": {"user": {"type": "int64"}, "amount": {"type": "float64"}}
            | {f"key{i}": {"type": "int64"} for i in range(STAGES)},
            "budget": {"epsilon": 10.0, "delta": 1e-5},
            "run": {"epsilon": EPSILON, "delta": DELTA},
            "stages": stages,
        }
        file, ledger = folder / "policy.yaml", f"sqlite:///{folder}/ledger.sqlite"
        file.write_text(yaml.safe_dump(policy))
        invoke(["budget", "create", str(file), "--ledger", ledger])
        if invoke(["run", str(file), "--ledger", ledger, "--output", name, "--json"]):
            raise SystemExit("the run failed")
        found = []
        for i in range(STAGES):
            (path,) = folder.glob(f"bench/*/stage{i}.parquet")
            released = pq.read_table(path).sort_by(f"key{i}")
            found.append((released["count"].to_numpy(), released["amount_sum"].to_numpy()))
        return found


def pipelinedp(data: pa.Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stock PipelineDP in memory: the backend doesn't change what is released."""
    import pipeline_dp

    accountant = pipeline_dp.NaiveBudgetAccountant(total_epsilon=EPSILON, total_delta=DELTA)
    engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
    users, amounts = data["user"].to_pylist(), data["amount"].to_pylist()
    results = []
    for i in range(STAGES):
        params = pipeline_dp.AggregateParams(
            metrics=[pipeline_dp.Metrics.COUNT, pipeline_dp.Metrics.SUM],
            noise_kind=pipeline_dp.NoiseKind.GAUSSIAN,
            max_partitions_contributed=L0,
            max_contributions_per_partition=LINF,
            min_value=0.0,
            max_value=HIGH,
        )
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=lambda row: row[0],
            partition_extractor=lambda row: row[1],
            value_extractor=lambda row: row[2],
        )
        rows = list(zip(users, data[f"key{i}"].to_pylist(), amounts, strict=True))
        results.append(engine.aggregate(rows, params, extractors, public_partitions=list(range(PLACES))))
    accountant.compute_budgets()
    found = []
    for result in results:
        released = dict(result)
        found.append(
            (
                np.array([released[place].count for place in range(PLACES)]),
                np.array([released[place].sum for place in range(PLACES)]),
            )
        )
    return found


def measure() -> list[dict[str, float | str]]:
    """The root mean square error of counts and of sums, by system; over 400 values each."""
    data = table()
    rows: list[dict[str, float | str]] = []
    for system, release in (("dpbeam", dpbeam), ("pipelinedp", pipelinedp)):
        released = release(data)
        for place, metric in enumerate(("count", "sum")):
            errors = [released[i][place] - truth(data, i)[place] for i in range(STAGES)]
            rmse = math.sqrt(float(np.mean(np.concatenate(errors) ** 2)))
            rows.append({"system": system, "metric": metric, "rmse": rmse})
    return rows


def section() -> str:
    """This page's part of docs/benchmarks.md."""
    found = {(row["system"], row["metric"]): float(row["rmse"]) for row in measure()}
    lines = [
        "## Error of released values",
        "",
        f"Counts and sums of {STAGES} stages of {PLACES} public partitions each, Gaussian noise, l0 {L0}, linf {LINF},",
        f"all at ε {EPSILON:g}, δ {DELTA:g} together; root mean square error over {STAGES * PLACES} values. PipelineDP",
        "has its naive accountant, the sound one of its two.",
        "",
        "| metric | dpbeam | PipelineDP | ratio |",
        "|---|---|---|---|",
    ]
    for metric in ("count", "sum"):
        ours, theirs = found["dpbeam", metric], found["pipelinedp", metric]
        lines.append(f"| {metric} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(section())
