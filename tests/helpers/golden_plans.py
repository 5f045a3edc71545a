"""Writes plans.json.gz anew: plans of 300 random policies and 60 random PipelineDP jobs, as this checkout makes them.

The file was made before policies and jobs shared one value in the middle (`Query`), and shows that they have had the
same plans since. Make it anew only where a plan is meant to change, and say so in docs/decisions.md:

    .venv/bin/python -m tests.helpers.golden_plans
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pipeline_dp
import pyarrow as pa
from pipeline_dp.aggregate_params import NormKind

from dpbeam.accounting.plan import plan
from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.parameters import aggregate_stage, select_stage
from dpbeam.errors import DpbeamError
from dpbeam.mechanisms.events import to_json
from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.queries.query import Stage
from tests.helpers import random_policies

HERE = Path(__file__).parent
FILE = HERE / "plans.json.gz"
METRICS = ("COUNT", "PRIVACY_ID_COUNT", "SUM", "MEAN", "VARIANCE", "PERCENTILE", "VECTOR_SUM")


def of_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """Digest and mechanisms, in order; or the refusal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(json.dumps(policy, ensure_ascii=False), encoding="utf-8")
        loaded = load_policy(path)
    try:
        made = plan(query(loaded))
    except DpbeamError as error:
        return {"digest": loaded.digest, "refused": str(error)}
    return {"digest": loaded.digest, "mechanisms": [to_json(mechanism) for mechanism in made.mechanisms]}


def of_jobs(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """The mechanisms of jobs that share one accountant, in order; or the refusal."""
    accountant = SharedBudgetAccountant(total_epsilon=1.0, total_delta=1e-6)
    try:
        for number, job in enumerate(jobs):
            accountant.add_stage(stage_of(job, f"stage{number}"))
        accountant.compute_budgets()
    except DpbeamError as error:
        return {"refused": str(error)}
    return {"mechanisms": [to_json(mechanism) for mechanism in accountant.mechanisms]}


def stage_of(job: dict[str, Any], name: str) -> Stage:
    """The stage of our engine that does what a job does, as `random_job` makes them."""
    named = dict(job)
    public = named.pop("public")
    strategy = getattr(pipeline_dp.PartitionSelectionStrategy, named.pop("strategy"))
    if "metrics" not in named:
        return select_stage(
            pipeline_dp.SelectPartitionsParams(partition_selection_strategy=strategy, **named), name=name
        ).stage
    metrics = [
        pipeline_dp.Metrics.PERCENTILE(50) if metric == "PERCENTILE" else getattr(pipeline_dp.Metrics, metric)
        for metric in named.pop("metrics")
    ]
    noise = getattr(pipeline_dp.NoiseKind, named.pop("noise"))
    if "vector_norm_kind" in named:
        named["vector_norm_kind"] = getattr(NormKind, named["vector_norm_kind"])
    params = pipeline_dp.AggregateParams(
        metrics=metrics, noise_kind=noise, partition_selection_strategy=strategy, **named
    )
    table = pa.table({"partition_key": ["a"]}) if public else None
    return aggregate_stage(params, name=name, public=table).stage


def random_job(rng: Random) -> dict[str, Any]:
    strategy = rng.choice(("TRUNCATED_GEOMETRIC", "LAPLACE_THRESHOLDING", "GAUSSIAN_THRESHOLDING"))
    job: dict[str, Any] = {"strategy": strategy, "public": False, "budget_weight": rng.choice((1, 2, 0.5))}
    if rng.random() < 0.2:
        return job | {"max_partitions_contributed": rng.randint(1, 5)}
    job["public"] = rng.random() < 0.4
    metrics = rng.sample(METRICS[:6], rng.randint(1, 4)) if rng.random() < 0.85 else ["VECTOR_SUM"]
    job |= {"metrics": metrics, "noise": rng.choice(("LAPLACE", "GAUSSIAN"))}
    if metrics == ["VECTOR_SUM"]:
        job |= {"vector_size": rng.randint(1, 4), "vector_max_norm": 2.0, "vector_norm_kind": rng.choice(("L1", "L2"))}
    if rng.random() < 0.2:
        job["max_contributions"] = rng.randint(1, 5)
    else:
        job |= {"max_partitions_contributed": rng.randint(1, 5), "max_contributions_per_partition": rng.randint(1, 3)}
    if set(metrics) & {"SUM", "MEAN", "VARIANCE", "PERCENTILE"}:
        low, high = sorted(rng.sample((-3.0, -1.0, 0.0, 0.5, 1.0, 10.0), 2))
        job |= {"min_value": low, "max_value": high}
    return job


def main() -> None:
    rng = Random(20261129)
    policies = [random_policies.policy(rng, stages=(1, 1, 2, 3)) for _ in range(300)]
    jobs = [[random_job(rng) for _ in range(rng.choice((1, 1, 2)))] for _ in range(60)]
    made = {
        "policies": [{"policy": policy} | of_policy(policy) for policy in policies],
        "pipelinedp": [{"jobs": each} | of_jobs(each) for each in jobs],
    }
    FILE.write_bytes(gzip.compress(json.dumps(made, sort_keys=True, indent=1).encode(), mtime=0))


if __name__ == "__main__":
    main()
