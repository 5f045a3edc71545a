"""The question that a policy becomes asks what the policy says: plans and their checks read nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.queries import selections
from dpbeam.queries.query import Public, Query, Stage
from tests.helpers.golden_plans import FILE

POLICIES = [made["policy"] for made in json.loads(gzip.decompress(FILE.read_bytes()))["policies"]]
KINDS = {
    "count": "Count", "privacy_id_count": "UnitCount", "distinct_count": "DistinctCount", "sum": "Sum", "mean": "Mean",
    "variance": "Variance", "stddev": "StdDev", "median": "Median", "quantiles": "Quantiles", "min": "Min",
    "histogram": "Histogram", "top_k": "TopK", "vector_sum": "VectorSum",
}  # fmt: skip
STRATEGIES = {
    "truncated_geometric": selections.TruncatedGeometric,
    "laplace_thresholding": selections.LaplaceThresholding,
    "gaussian_thresholding": selections.GaussianThresholding,
    "dp_sips": selections.DpSips,
    "mad": selections.Mad,
    "mad2r": selections.Mad2r,
}


def compiled(policy: dict[str, Any], folder: Path) -> Query:
    path = folder / "policy.yaml"
    path.write_text(json.dumps(policy, ensure_ascii=False), encoding="utf-8")
    return query(load_policy(path))


def most(bound: Any) -> Any:
    return bound["auto"]["max"] if isinstance(bound, dict) else bound


def check_stage(said: dict[str, Any], made: Stage, counted_by: str | None) -> None:
    assert (made.name, list(made.keys), made.noise) == (said["name"], said["group_by"], said["noise"])
    assert (made.weight, made.counted_by) == (said["weight"], counted_by)
    bounds = {name: most(said["bounds"].get(name)) for name in ("l0", "linf", "l1")}
    if counted_by:
        bounds["linf"] = None  # clips the counts instead
    assert {name: getattr(made.bounds, name) for name in bounds} == bounds
    found = [name for name in ("l0", "linf", "l1") if isinstance(said["bounds"].get(name), dict)]
    assert [(name, search.max) for name, search in made.searches] == [(name, bounds[name]) for name in found]
    check_partitions(said, made)
    assert len(made.metrics) == len(said["metrics"])
    for one, other in zip(said["metrics"], made.metrics, strict=True):
        check_metric(one, other, None if counted_by is None else said["bounds"]["linf"])


def check_partitions(said: dict[str, Any], made: Stage) -> None:
    match said.get("partitions"):
        case {"private": private}:
            assert type(made.partitions) is STRATEGIES[private["strategy"]]
            assert made.partitions.pre_threshold == private["pre_threshold"]
            assert (made.partitions.hierarchy is not None) == private.get("hierarchical", False)
        case {"public": {"product": product}}:
            assert isinstance(made.partitions, Public)
            table = made.partitions.table
            assert {name: set(map(str, table[name].to_pylist())) for name in table.column_names} == {
                name: set(map(str, values)) for name, values in product.items()
            }
        case None:
            assert made.partitions is None


def check_metric(said: dict[str, Any], made: Any, clip: int | None) -> None:
    ((kind, arguments),) = said.items()
    name = KINDS[kind] + ("OfTotals" if "low_total" in arguments else "")
    if clip is not None and kind == "count":
        name, arguments = "CountOfCounts", {**arguments, "low_total": 0.0, "high_total": float(most(clip))}
    assert type(made).__name__ == name
    searched = {side for side in ("low", "high") if isinstance(arguments.get(side), dict)}
    assert {side for side, _ in getattr(made, "searches", ())} == searched
    for field, value in arguments.items():
        if field in searched:
            search = dict(made.searches)[field]
            assert (search.least, search.most) == (value["auto"]["least"], value["auto"]["most"])
            # until the run has chosen: a power of two that is far enough
            value = -128.0 if field == "low" else 128.0
        assert getattr(made, field) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("place", range(0, len(POLICIES), 10))
def test_a_question_asks_what_its_policy_says(place: int, tmp_path: Path) -> None:
    for policy in POLICIES[place : place + 10]:
        made = compiled(policy, tmp_path)
        unit = policy["privacy_unit"]
        assert (made.dataset, made.unit) == (policy["dataset"], None if unit == "row" else unit)
        assert (made.epsilon, made.delta) == (policy["run"]["epsilon"], policy["run"]["delta"])
        read = {column.name: column.type for column in made.source.columns}
        assert read.items() <= {name: rules["type"] for name, rules in policy["columns"].items()}.items()
        assert {*read, *(item.name for item in made.source.derived), *made.source.unused} == {
            *policy["columns"], *policy.get("derive", ())
        }  # fmt: skip
        counted_by = policy["source"].get("pre_aggregated", {}).get("count")
        assert len(made.source.where) == len(policy.get("where", ())) + (counted_by is not None)
        assert len(made.stages) == len(policy["stages"])
        for one, other in zip(policy["stages"], made.stages, strict=True):
            check_stage(one, other, counted_by)
