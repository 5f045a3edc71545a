"""By every door of our engine, on neighbouring tables: what is released are whole steps that the plan fixes, and PyDP
is asked for nothing but these. What the steps' low bits are like: tests/statistical/test_released_bits.py."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import apache_beam as beam
import numpy as np
import pipeline_dp
import pyarrow.parquet as pq
import pytest
from pydp.algorithms import numerical_mechanisms

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import DPEngine
from dpbeam.mechanisms import noise, noise_step
from dpbeam.mechanisms.events import from_json, in_others

VALUES = {"column": "amount", "low": 0.0, "high": 10.0}
DIRECT = {
    "count": "count",
    "privacy_id_count": "privacy_id_count",
    "amount_sum": {"sum": VALUES},
    "total": {"sum": {"column": "amount", "low_total": 0.0, "high_total": 15.0, "name": "total"}},
    "amount_histogram": {"histogram": {"column": "amount", "edges": [0, 4, 8]}},
    "vector": {"vector_sum": {"columns": ["amount"], "norm": "l2", "max_norm": 10.0, "name": "vector"}},
    "place_distinct_count": {"distinct_count": {"column": "place"}},
    "place_top_k": {"top_k": {"column": "place", "k": 1, "max_values": 2}},
}
"""Metrics whose released numbers are noisy quantities as they are, and the quantities' names."""
MADE_FROM_THEM = [{"mean": VALUES}, {"variance": VALUES}, {"median": VALUES}]


@pytest.fixture
def asked(monkeypatch) -> list[object]:
    """Everything that PyDP's mechanisms were handed to add noise to."""
    found: list[object] = []

    class Watched:
        def __init__(self, own) -> None:
            self.own = own

        def add_noise(self, value):
            found.append(value)
            return self.own.add_noise(value)

    laplace, gaussian = numerical_mechanisms.LaplaceMechanism, numerical_mechanisms.GaussianMechanism

    class Gaussian:
        @staticmethod
        def create_from_standard_deviation(std):
            return Watched(gaussian.create_from_standard_deviation(std))

    monkeypatch.setattr(numerical_mechanisms, "LaplaceMechanism", lambda *args: Watched(laplace(*args)))
    monkeypatch.setattr(numerical_mechanisms, "GaussianMechanism", Gaussian)
    return found


def stages(kind: str) -> list[dict[str, object]]:
    places = {"public": {"values": [f"x{i}" for i in range(40)]}}
    common = {"bounds": {"l0": 2, "linf": 2}, "noise": kind}
    listed = list(DIRECT.values())
    threshold, by_rounds = ({"private": {"strategy": strategy}} for strategy in (f"{kind}_thresholding", "mad2r"))
    found = {"l1": {"auto": {"max": 4, "otherwise": 2}}}
    return [
        common | {"name": "public", "group_by": ["place"], "partitions": places, "metrics": listed + MADE_FROM_THEM},
        common | {"name": "whole", "group_by": [], "metrics": listed, "bounds": found},
        common | {"name": "shown", "group_by": ["place"], "partitions": threshold, "metrics": listed},
        common | {"name": "rounds", "group_by": ["place"], "partitions": by_rounds, "metrics": ["count"]},
        common
        | {
            "name": "tree",
            "group_by": ["group", "place"],
            "partitions": {"private": {"strategy": "truncated_geometric", "hierarchical": True}},
            "metrics": ["count", "privacy_id_count", DIRECT["amount_sum"]],
        },
    ]


def table(people: int) -> list[str]:
    return [f"p{i},{place},{i % 11},g" for i in range(people) for place in (f"x{i % 3}", f"x{i % 40}")]


def released(workspace, kind: str, people: int) -> dict[tuple[str, str], list[float]]:
    """{(stage, quantity): all its released numbers} of a run on a table of so many people; the steps are those of the
    manifest's mechanisms."""
    workspace.policy["columns"]["group"] = {"type": "string"}
    workspace.policy["stages"] = stages(kind)
    workspace.policy["run"]["epsilon"] = 4.0
    workspace.csv(*table(people), header="person,place,amount,group")
    workspace.output.mkdir(exist_ok=True)
    before = set(workspace.manifests())
    assert workspace.run() == 0
    (manifest,) = set(workspace.manifests()) - before
    found: dict[tuple[str, str], list[float]] = {}
    for path in manifest.parent.glob("*.parquet"):
        rows = pq.read_table(path)
        for name in rows.column_names:
            quantity = next((q for q in DIRECT if name == q or (name.startswith(f"{q}_") and q != "count")), None)
            numbers = rows.column(name).drop_null()
            if quantity and not name.endswith(("_low", "_high", "_bias")) and str(numbers.type) == "double":
                found.setdefault((path.stem, quantity), []).extend(numbers.to_pylist())
    return found


def planned_steps(workspace) -> dict[tuple[str, str], set[float]]:
    """{(stage, quantity): the steps that its noise may have}, by the manifests: the same in all of them."""
    found: dict[tuple[str, str], set[float]] = {}
    for path in workspace.manifests():
        for fields in json.loads(path.read_text(encoding="utf-8"))["mechanisms"]:
            mechanism = from_json(fields)
            if hasattr(mechanism, "epsilon") or hasattr(mechanism, "strategy"):
                continue
            name = "privacy_id_count" if mechanism.kind.endswith("thresholding") else mechanism.metric
            name = mechanism.metric if mechanism.metric in DIRECT else name
            both = {mechanism, in_others(mechanism) if "thresholding" not in mechanism.kind else mechanism}
            found.setdefault((mechanism.stage, name), set()).update(map(noise_step.step_of, both))
    return found


def off_the_steps(numbers: dict, planned: dict) -> list[tuple[str, str]]:
    return [
        key
        for key, values in numbers.items()
        if not any((np.array(values) / step == np.rint(np.array(values) / step)).all() for step in planned[key])
    ]


@pytest.mark.parametrize(("kind", "flow"), [("laplace", "one"), ("gaussian", "one"), ("gaussian", "shuffled")])
def test_a_run_releases_steps_of_its_plan_whoever_is_there(workspace, asked, kind, flow, request, capsys) -> None:
    if flow == "shuffled":
        request.getfixturevalue("shuffled")
    workspace.policy["budget"] = {"epsilon": 10.0, "delta": 1e-4}
    workspace.create_budget()
    for people in (120, 121):
        found = released(workspace, kind, people)
        planned = planned_steps(workspace)
        assert {quantity for stage, quantity in found if stage == "public"} == set(DIRECT)
        assert len({key for key in found if key[0] in ("whole", "shown", "tree")}) >= 2 * len(DIRECT) + 3
        assert off_the_steps(found, planned) == []
        assert all(len(planned[key]) <= 2 for key in found)  # of leaves, and of others
    assert set(asked) == {2**33}
    assert {type(value) for value in asked} == {int}


def test_a_run_with_one_path_of_floats_is_caught(workspace, asked, monkeypatch) -> None:
    def old(self, counts):
        add = numerical_mechanisms.GaussianMechanism.create_from_standard_deviation(self.mechanism.sigma).add_noise
        return np.array([add(float(count)) for count in counts.tolist()])

    workspace.policy["budget"] = {"epsilon": 10.0, "delta": 1e-4}
    workspace.create_budget()
    monkeypatch.setattr(noise.AdditiveNoise, "to_counts", old)
    found = released(workspace, "gaussian", 120)
    assert ("public", "count") in off_the_steps(found, planned_steps(workspace))
    assert float in {type(value) for value in asked}


M = pipeline_dp.Metrics
KINDS = [pipeline_dp.NoiseKind.LAPLACE, pipeline_dp.NoiseKind.GAUSSIAN]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("partitions", [None, list(range(40))])
def test_a_job_written_for_pipelinedp_releases_steps_of_its_plan(asked, kind, partitions) -> None:
    params = pipeline_dp.AggregateParams(
        metrics=[M.COUNT, M.PRIVACY_ID_COUNT, M.SUM],
        noise_kind=kind,
        max_partitions_contributed=2,
        max_contributions_per_partition=2,
        min_value=0.0,
        max_value=10.0,
    )
    for people in (400, 401):
        accountant = SharedBudgetAccountant(10.0, 1e-6)
        rows = [(i, i % 40 if at else i % 3, float(i % 11)) for i in range(people) for at in (0, 1)]
        found = released_by_pipelinedp(accountant, params, rows, partitions)
        assert found
        step_of = {
            m.metric: noise_step.step_of(m) for m in accountant.mechanisms if hasattr(m, "l1") or hasattr(m, "l2")
        }
        for name in ("count", "privacy_id_count", "sum"):
            step = next(step for metric, step in step_of.items() if metric in (name, f"value_{name}"))
            whole = np.array([getattr(metrics, name) for _, metrics in found]) / step
            assert (whole == np.rint(whole)).all()
            assert (whole % 2**30 != 0).any()
    assert set(asked) == {2**33}


def released_by_pipelinedp(accountant, params, rows, partitions) -> list[tuple[object, object]]:
    """What a job gives that was written for PipelineDP, on our engine."""
    extractors = pipeline_dp.DataExtractors(
        privacy_id_extractor=lambda row: row[0],
        partition_extractor=lambda row: row[1],
        value_extractor=lambda row: row[2],
    )
    with tempfile.NamedTemporaryFile() as file:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            engine = DPEngine(accountant, pipeline_dp.BeamBackend())
            result = engine.aggregate(pipeline | beam.Create(rows), params, extractors, partitions)
            result | beam.combiners.ToList() | beam.Map(_dump, file.name)
            accountant.compute_budgets()
        return pickle.loads(Path(file.name).read_bytes())  # noqa: S301


def _dump(found, path) -> None:
    Path(path).write_bytes(pickle.dumps(found))


def test_sums_with_so_much_noise_that_their_grid_is_coarser_are_those_sums_all_the_same(workspace, exact) -> None:
    """Whoever adds up knows the grid that whoever adds noise reads it on."""
    workspace.policy["columns"]["group"] = {"type": "string"}
    workspace.policy["stages"] = stages("laplace")[:1]
    workspace.policy["stages"][0]["metrics"] = [DIRECT["amount_sum"], DIRECT["total"], DIRECT["vector"]]
    workspace.policy["run"]["epsilon"] = 1e-4
    workspace.create_budget()
    workspace.csv(*table(120), header="person,place,amount,group")
    assert workspace.run() == 0
    fields = json.loads(workspace.manifests()[0].read_text(encoding="utf-8"))["mechanisms"]
    assert all(noise_step.step_of(from_json(each)) > 10 * 2.0**-30 for each in fields)
    found = {row["place"]: row for row in pq.read_table(workspace.release_folder() / "public.parquet").to_pylist()}
    assert found["x7"]["amount_sum"] == found["x7"]["total"] == pytest.approx(7 + 3 + 10)  # p7, p47, p87
    (vector,) = (name for name in found["x7"] if name.startswith("vector") and not name.endswith(("_low", "_high")))
    assert found["x7"][vector] == pytest.approx(20, rel=1e-3)


def test_a_job_written_for_pipelinedp_reads_sums_on_the_grid_that_they_were_made_on(exact) -> None:
    params = pipeline_dp.AggregateParams(
        metrics=[M.SUM],
        noise_kind=pipeline_dp.NoiseKind.LAPLACE,
        max_partitions_contributed=50,
        max_contributions_per_partition=50,
        min_value=0.0,
        max_value=10.0,
    )
    accountant = SharedBudgetAccountant(1e-3, 1e-6)
    found = released_by_pipelinedp(accountant, params, [(i, i % 2, float(i)) for i in range(8)], [0, 1])
    assert all(noise_step.step_of(mechanism) > 10 * 2.0**-30 for mechanism in accountant.mechanisms)
    assert {key: metrics.sum for key, metrics in found} == pytest.approx({0: 12.0, 1: 16.0}, rel=1e-3)
