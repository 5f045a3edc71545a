"""Whole runs that select partitions in rounds: what is kept, what is counted, what is published, what is repeated."""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from dpbeam.engine.rounds import weighing
from dpbeam.phases import rounds as phases
from dpbeam.pipelines.jobs import aggregate
from dpbeam.reporting.certify import certify
from dpbeam.transforms.steps import write_shards
from dpbeam.transforms.wire import control
from tests.helpers import weighing as helpers

STRATEGIES = ("dp_sips", "mad", "mad2r")


def select(workspace, strategy, metrics=("count", "privacy_id_count"), epsilon=8.0, delta=6e-12, **private):
    """Each of 900 people who are alone in some places shows one of them with probability `delta` at most: none does,
    but in a part 1e-7 of all runs of this file."""
    (only,) = workspace.policy["stages"]
    only["partitions"] = {"private": {"strategy": strategy, **private}}
    only["metrics"] = list(metrics)
    if not metrics:
        del only["noise"]
    workspace.policy["run"] = {"epsilon": epsilon, "delta": delta}
    workspace.policy["budget"] = {"epsilon": 2 * epsilon, "delta": 2 * delta}
    workspace.create_budget()


def rows_of(workspace):
    return pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_release_counts_in_the_kept_partitions_and_certifies(workspace, capsys, strategy) -> None:
    select(workspace, strategy)
    workspace.csv(*(f"p{i},{place},1" for i in range(900) for place in ("inn", "zoo", "x", f"own{i}")))
    assert workspace.run() == 0, capsys.readouterr().err
    found = {row["place"]: row["count"] for row in rows_of(workspace)}
    assert set(found) == {"inn", "zoo", "x"}
    # l0 is 4, but nobody's own place takes any of it: all 900 are counted, where a sample of 4 would lose none either
    assert all(abs(count - 900) < 60 for count in found.values())
    (manifest,) = workspace.manifests()
    kinds = [m.metric for m in certify(manifest).manifest.mechanisms if m.kind == "weighted_thresholding"]
    assert kinds == [f"partitions.round{i + 1}" for i in range({"dp_sips": 3, "mad": 1, "mad2r": 2}[strategy])]
    assert "own7" not in (workspace.release_folder() / "report.html").read_text(encoding="utf-8")
    assert workspace.left_behind() == []


def test_no_unit_wastes_its_l0_on_what_is_not_released(workspace, capsys) -> None:
    select(workspace, "dp_sips", ["privacy_id_count"])
    workspace.policy["stages"][0]["bounds"] = {"l0": 2}
    workspace.csv(*(f"p{i},{place},1" for i in range(900) for place in ("inn", *(f"own{i}-{j}" for j in range(6)))))
    assert workspace.run() == 0, capsys.readouterr().err
    (row,) = rows_of(workspace)
    assert abs(row["privacy_id_count"] - 900) < 60  # a sample of 2 of 7 places would have left about 257


@pytest.mark.parametrize(
    "strategy", [*STRATEGIES, "truncated_geometric", "laplace_thresholding", "gaussian_thresholding"]
)
def test_kept_keys_alone_are_a_release(workspace, capsys, strategy) -> None:
    select(workspace, strategy, ())
    assert workspace.run() == 0, capsys.readouterr().err
    rows = rows_of(workspace)
    assert {"inn", "zoo"} <= {row["place"] for row in rows}
    assert all(set(row) == {"place"} for row in rows)
    assert "partitions released" in capsys.readouterr().out
    certify(workspace.manifests()[0])
    assert (workspace.release_folder() / "by_place.csv").read_text(encoding="utf-8").startswith('"place"\n')


@pytest.mark.parametrize(
    "strategy", [*STRATEGIES, "truncated_geometric", "laplace_thresholding", "gaussian_thresholding"]
)
def test_a_place_below_its_pre_threshold_never_appears(workspace, capsys, request, strategy) -> None:
    """With next to no noise: 400 people are in two places, some 133 in each of the others, of which 150 are needed.

    MAD leaves the heaviest but three standard deviations above the threshold whatever ε is, so there with none at all.
    """
    if strategy.startswith("mad"):
        request.getfixturevalue("exact")
    select(workspace, strategy, (), pre_threshold=150, epsilon=90.0, delta=0.4)
    assert workspace.run() == 0, capsys.readouterr().err
    assert [row["place"] for row in rows_of(workspace)] == ["inn", "zoo"]
    workspace.policy["stages"][0]["partitions"]["private"]["pre_threshold"] = 100
    assert workspace.run("--refresh") == 0, capsys.readouterr().err
    assert pq.read_table(workspace.newest().parent / "by_place.parquet").num_rows == 5


@pytest.mark.parametrize("strategy", ["mad", "mad2r"])
def test_the_result_does_not_depend_on_the_sharding(workspace, capsys, exact, monkeypatch, strategy) -> None:
    from dpbeam.pipelines.lifecycle import inputs

    select(workspace, strategy)
    seen = set()
    for shards in (1, 5):
        monkeypatch.setattr(inputs, "MIN_SHARDS", shards)
        monkeypatch.setattr(inputs, "MAX_SHARDS", shards)
        assert workspace.run("--release", f"r{shards}") == 0, capsys.readouterr().err
        newest = workspace.newest()
        seen.add(tuple(tuple(r.items()) for r in pq.read_table(newest.parent / "by_place.parquet").to_pylist()))
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["users", "shares", "returns", "partitions"])
@pytest.mark.parametrize("change", [lambda found: found[1:], lambda found: [*found, found[0]]], ids=["less", "more"])
def test_a_wrong_delivery_in_a_round_fails_the_run(workspace, capsys, monkeypatch, name, change) -> None:
    select(workspace, "mad")
    wrong = (f"by_place.round1.{name}", 0)
    original = control.Inbox.open

    def corrupt(self, batches):
        found = list(batches)
        return original(self, change(found) if (self._shuffle, self._destination) == wrong else found)

    monkeypatch.setattr(control.Inbox, "open", corrupt)
    assert workspace.run() == 4
    assert "the runner lost or doubled data" in capsys.readouterr().err
    assert workspace.manifests() == []
    assert workspace.left_behind() == []


def test_a_repeated_draw_of_a_round_is_not_mixed_with_another(workspace, capsys, monkeypatch) -> None:
    """Each bundle is executed three times and draws anew; the main job must see exactly what the last phase staged."""
    select(workspace, "dp_sips", (), rounds=2)
    taken, told = [], []
    original_learn, original_build = phases.replace, aggregate.build

    def learned(known, **changes):
        if "public" in changes:
            taken.append(changes["public"]["by_place"].sort_by("place").column("place").to_pylist())
        return original_learn(known, **changes)

    def built(pipeline, job):
        if "by_place" in job.public:
            told.append(sorted(job.public["by_place"].column("place").to_pylist()))
        return original_build(pipeline, job)

    monkeypatch.setattr(phases, "replace", learned)
    monkeypatch.setattr(aggregate, "build", built)
    assert workspace.run("--direct_runner_bundle_repeat=2") == 0, capsys.readouterr().err
    assert [row["place"] for row in rows_of(workspace)] == taken[-1] == told[-1]


def test_a_run_that_fails_between_rounds_publishes_nothing_and_stays_charged(workspace, capsys, monkeypatch) -> None:
    select(workspace, "dp_sips")
    original = write_shards._WriteShard.work

    def fails(self, element):
        if self._stage.endswith("round2"):
            raise OSError("no")
        yield from original(self, element)

    with monkeypatch.context() as broken:
        broken.setattr(write_shards._WriteShard, "work", fails)
        assert workspace.run() == 4
    assert workspace.manifests() == []
    assert workspace.left_behind() == []
    spent = workspace.open_ledger().balance("visits").spent
    assert workspace.run() == 0
    assert workspace.open_ledger().balance("visits").spent == spent


def test_a_partition_of_a_known_weight_is_kept_as_often_as_its_law_says(workspace) -> None:
    """A whole round's draw, 20,000 partitions of one weight: binomial, fails by chance with probability 1e-9."""
    made = helpers.spec(helpers.event("dp_sips", l0=1))
    people, places = 5, 20_000
    sets = {i * people + j: {i} for i in range(places) for j in range(people)}
    weighed = helpers.weigh_whole(helpers.table(sets), made, helpers.SALT)
    kept = weighing.draw(weighed, made, weighing.noise_of(made)).num_rows
    chance = stats.norm.sf(made.weighing.threshold - people * (1 - 2**-15))
    assert stats.binomtest(kept, places, chance).pvalue > 1e-9
    assert stats.binomtest(kept, places, stats.norm.sf(made.weighing.threshold - people + 0.1)).pvalue < 1e-9
    assert math.isfinite(np.float64(chance))


def test_stages_with_different_numbers_of_rounds_run_together(workspace, capsys) -> None:
    select(workspace, "dp_sips", epsilon=30.0)
    (first,) = workspace.policy["stages"]
    second = {**first, "name": "second", "partitions": {"private": {"strategy": "mad"}}}
    third = {**first, "name": "third", "partitions": {"private": {"strategy": "truncated_geometric"}}}
    fourth = {**first, "name": "fourth", "partitions": {"public": {"values": ["inn", "nowhere"]}}}
    workspace.policy["stages"] = [first, second, third, fourth]
    assert workspace.run() == 0, capsys.readouterr().err
    folder = workspace.release_folder()
    names = {stage: pq.read_table(folder / f"{stage}.parquet").column("place").to_pylist() for stage in
             ("by_place", "second", "third", "fourth")}  # fmt: skip
    assert {"inn", "zoo"} <= set(names["by_place"]) & set(names["second"])
    assert names["fourth"] == ["inn", "nowhere"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "manifest.json",
            "report.html",
            *(f"{write_shards}.{kind}" for write_shards in names for kind in ("csv", "parquet")),
        ]
    )


def test_noise_beyond_the_weights_grid_is_refused_before_anything_is_charged(workspace, capsys) -> None:
    select(workspace, "mad", epsilon=2e-5, delta=1e-9)
    assert workspace.run() == 2
    assert "the noise of partitions.round1 must be below 65536" in capsys.readouterr().err
    assert [entry.kind for entry in workspace.open_ledger().history("visits")] == ["budget_created"]
