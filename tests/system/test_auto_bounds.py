"""Whole runs that find their bounds: against a reference with exact noise, and under retries, repeats and kills."""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.accounting.plan import plan
from dpbeam.engine import automatic_bounds
from dpbeam.engine.aggregation import kernels
from dpbeam.engine.automatic_bounds import count_grid, magnitudes
from dpbeam.engine.stage import planned
from dpbeam.mechanisms import noise
from dpbeam.phases import bounds
from dpbeam.phases.phase import Parameters
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import aggregate, workers
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.queries.query import Query
from dpbeam.reporting.certify import certify
from dpbeam.reporting.manifest import read_manifest
from dpbeam.transforms.wire.staging import Area
from tests.helpers.queries import load_query

AUTO = {"auto": {}}


@pytest.fixture
def automatic(workspace, monkeypatch):
    """A policy that leaves all its bounds to the run. As shipped, noise passes for a count in a part 1e-6 of runs."""
    monkeypatch.setattr(automatic_bounds, "CHANCE", 1e-12)
    (stage,) = workspace.policy["stages"]
    stage["bounds"] = {"l0": {"auto": {"max": 8}}, "linf": {"auto": {"max": 6}}}
    stage["metrics"] = [
        "count",
        {"sum": {"column": "amount", "low": 0, "high": AUTO}},
        {"mean": {"column": "amount", "low": AUTO, "high": AUTO}},
    ]
    workspace.policy["budget"] = {"epsilon": 100.0, "delta": 1e-3}
    workspace.create_budget()
    return workspace


PLENTY = [f"p{i},inn,{1 + i % 3}" for i in range(3000)]
"""Rows of so many people that every histogram tells."""


def chosen(workspace) -> dict[tuple[str | None, str], float]:
    manifest = read_manifest(workspace.release_folder() / "manifest.json")
    return {(bound.metric, bound.parameter): bound.value for bound in manifest.chosen_bounds}


def test_with_exact_noise_every_plan_and_order_gives_the_same_bounds(automatic, exact, capsys, monkeypatch) -> None:
    """Other files and shards, too, with shuffles and without. No unit is in more than 8 places, and all its rows are
    alike, so that whichever row is looked at tells the same."""
    monkeypatch.setattr(automatic_bounds, "beyond_chance", lambda *_: 0.5)
    rng = random.Random(3)
    rows = [
        (f"p{i}", place, amount)
        for i in range(600)
        for amount in [rng.choice([-3.0, 0.0, 0.3, 5.0, 40.0])]
        for place in rng.sample("abcdefgh", rng.choice([1, 2, 2, 8]))
        for _ in range(1 + i % 3)
    ]
    chosen_of = set()
    for shards, files, plan_of in ((1, 1, workers.one_worker), (5, 3, workers.one_worker), (5, 3, lambda *_: None)):
        monkeypatch.setattr(inputs, "MIN_SHARDS", shards)
        monkeypatch.setattr(workers, "one_worker", plan_of)
        rng.shuffle(rows)
        for old in automatic.folder.glob("data*.csv"):
            old.unlink()
        for i in range(files):
            automatic.csv(*(f"{a},{b},{c}" for a, b, c in rows[i::files]), name=f"data{i}.csv")
        automatic.policy["source"]["path"] = "data*.csv"
        assert automatic.run("--release", f"{shards} {plan_of.__name__}") == 0, capsys.readouterr().err
        manifest = read_manifest(automatic.newest())
        found = {(b.metric, b.parameter): (b.value, b.kept) for b in manifest.chosen_bounds}
        assert {value for value, _ in found.values()} <= {*count_grid(8), *magnitudes(1e-6, 1e12)}
        assert found[None, "linf"] == (3, 1.0)
        assert not any(bound.fallback for bound in manifest.chosen_bounds)
        chosen_of.add(tuple(sorted(found.items(), key=str)))
    assert len(chosen_of) == 1


def test_the_main_job_keeps_to_what_was_found(automatic, exact, capsys) -> None:
    """Few people are in many places, often, with large amounts: all of that is cut to what most people have."""
    (stage,) = automatic.policy["stages"]
    stage["partitions"] = {"public": {"values": list("abcdefgh")}}
    most = [f"p{i},a,2" for i in range(400)]
    automatic.csv(*most, *(f"q{i},{place},1000" for i in range(3) for place in "abcdefgh" for _ in range(5)))
    assert automatic.run() == 0, capsys.readouterr().err
    found = chosen(automatic)
    assert (found[None, "l0"], found[None, "linf"], found["amount_sum", "high"]) == (1, 1, 2.0)
    table = pq.read_table(automatic.release_folder() / "by_place.parquet")
    assert sum(table["count"].to_pylist()) == 403
    assert sum(table["amount_sum"].to_pylist()) == 403 * 2


def test_what_was_found_is_in_manifest_report_files_and_on_the_screen(automatic, capsys) -> None:
    automatic.csv(*PLENTY)
    assert automatic.run() == 0, capsys.readouterr().err
    screen = capsys.readouterr().out
    folder = automatic.release_folder()
    found = chosen(automatic)
    assert found[None, "l0"] == found[None, "linf"] == 1
    assert (found["amount_sum", "high"], found["amount_mean", "low"], found["amount_mean", "high"]) == (4.0, 0.5, 4.0)
    document = json.loads((folder / "manifest.json").read_text())
    assert document["version"] == 4
    assert certify(folder / "manifest.json").epsilon <= 1.0
    listed = {(m["stage"], m["metric"]): m for m in document["mechanisms"]}
    assert {"by_place.values", "by_place.units"} <= {stage for stage, _ in listed}
    assert listed["by_place", "amount_sum"]["l2"] == 4.0
    assert listed["by_place", "partitions"]["l0"] == 1
    metadata = pq.read_schema(folder / "by_place.parquet").metadata
    assert json.loads(metadata[b"dpbeam.chosen_bounds"]) == document["chosen_bounds"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    kept = {(b["metric"], b["parameter"]): b["kept"] for b in document["chosen_bounds"]}
    assert kept == dict.fromkeys(found, 1.0)
    keeps = "keeps about 100 % of values as they are"
    assert f"high of <bdi>amount_sum</bdi> = 4 ({keeps})," in report
    assert f"found high of amount_sum = 4 (from a noisy histogram; {keeps})" in " ".join(screen.split())
    assert sorted(path.name for path in folder.iterdir()) == [
        "by_place.csv", "by_place.parquet", "manifest.json", "report.html"
    ]  # fmt: skip
    assert automatic.left_behind() == []


def test_asked_again_the_release_shows_what_it_found_at_no_cost(automatic, capsys) -> None:
    automatic.csv(*PLENTY)
    assert automatic.run() == 0
    first = capsys.readouterr().out
    spent = automatic.open_ledger().balance("visits").spent
    assert automatic.run() == 0
    again = capsys.readouterr().out
    assert automatic.open_ledger().balance("visits").spent == spent
    cost = "This release cost"
    assert again.split("This release was made before")[0] == first.split(cost)[0]
    assert "= 4 (from a noisy histogram; keeps about 100 % of values" in " ".join(again.split())


TOO_SMALL = pytest.mark.parametrize(
    "rows", [[], ["p1,,", "p2,,"], ["p1,inn,3", "p2,inn,5"]], ids=["none", "nulls", "two"]
)


@TOO_SMALL
def test_a_table_too_small_to_tell_gives_the_otherwise_that_is_stated_and_a_release(automatic, capsys, rows) -> None:
    (stage,) = automatic.policy["stages"]
    stage["partitions"] = {"public": {"values": ["inn"]}}
    stage["bounds"] = {"l0": {"auto": {"max": 8, "otherwise": 2}}, "linf": {"auto": {"max": 6, "otherwise": 3}}}
    ends = [{"auto": {"otherwise": value}} for value in (-8.0, 16.0)]
    stage["metrics"][1:] = [
        {"sum": {"column": "amount", "low": 0, "high": ends[1]}},
        {"mean": {"column": "amount", "low": ends[0], "high": ends[1]}},
    ]
    automatic.csv(*rows)
    assert automatic.run() == 0, capsys.readouterr().err
    screen = " ".join(capsys.readouterr().out.split())
    document = json.loads((automatic.release_folder() / "manifest.json").read_text())
    assert document["version"] == 2
    assert [(b["parameter"], b["value"], b["fallback"], "kept" in b) for b in document["chosen_bounds"]] == [
        ("high", 16.0, True, False), ("low", -8.0, True, False), ("high", 16.0, True, False),
        ("l0", 2, True, False), ("linf", 3, True, False),
    ]  # fmt: skip
    assert "found l0 = 2 (nothing stood out from the noise, so this is the fallback)" in screen


@TOO_SMALL
def test_a_table_too_small_to_tell_ends_the_run_before_a_metric_is_drawn(automatic, capsys, monkeypatch, rows) -> None:
    """The whole charge stays spent, and is closed: another attempt would draw the histograms again."""
    jobs = []
    run_job = aggregate.run

    def watched(job, options):
        jobs.append([spec.name for spec in job.stages])
        return run_job(job, options)

    monkeypatch.setattr(aggregate, "run", watched)
    automatic.csv(*rows)
    assert automatic.run() == 4
    said = " ".join(capsys.readouterr().err.split())
    assert jobs == [["by_place.values", "by_place.units"]]
    (charge,) = automatic.open_ledger().charges("visits")
    assert charge.state == "SPENT_UNPUBLISHED"
    assert (
        "dpbeam: the noisy histograms don't tell which high of amount_sum in stage by_place, low of amount_mean in "
        "stage by_place, high of amount_mean in stage by_place, l0 of stage by_place, linf of stage by_place to "
        "choose: too little stands out from their noise. No metric was drawn; state the bound, or what it is to be "
        "then (auto: {…, otherwise: 10}), or raise run.epsilon or auto's weight ε 1, δ 0.000001 of dataset visits "
        f"stays spent (charge {charge.id}, attempt 1 of 3, none left): this charge is closed; --refresh makes a new "
        "release and charges it anew."
    ) in said
    assert automatic.manifests() == []
    assert automatic.left_behind() == []
    assert automatic.run() == 3  # no second draw under the same charge
    assert "was closed without being published; what it cost stays spent" in " ".join(capsys.readouterr().err.split())
    assert len(jobs) == 1
    automatic.open_ledger().verify()


@pytest.mark.parametrize("shuffled", [False, True], ids=["in one worker", "through shuffles"])
def test_only_rows_of_public_partitions_count_for_l0(automatic, exact, capsys, monkeypatch, shuffled) -> None:
    if shuffled:
        monkeypatch.setattr(workers, "one_worker", lambda *_: None)
    (stage,) = automatic.policy["stages"]
    stage["partitions"] = {"public": {"values": ["inn"]}}
    automatic.csv(*(f"p{i},{place},1" for i in range(400) for place in ("inn", "zoo", "bar", "pub")))
    assert automatic.run() == 0, capsys.readouterr().err
    assert chosen(automatic)[None, "l0"] == 1
    assert "l0 = 1 (from a noisy histogram; keeps about 100 % of the partitions of units)" in " ".join(
        capsys.readouterr().out.split()
    )


def test_pipelinedps_engine_is_refused_before_anything_is_charged(automatic, capsys) -> None:
    assert automatic.run("--engine=pipelinedp") == 2
    assert "PipelineDP finds no bounds; state them, or run without --engine=pipelinedp" in capsys.readouterr().err
    assert automatic.open_ledger().balance("visits").spent.to_json()["epsilon"] == 0


def test_rows_that_are_units_find_their_clipping_bounds(automatic, capsys) -> None:
    (stage,) = automatic.policy["stages"]
    automatic.policy |= {"privacy_unit": "row", "dataset": "amounts"}
    stage["bounds"] = {"l0": 1, "linf": 1}
    automatic.create_budget()
    automatic.csv(*(f"x,inn,{-2 - i % 5}" for i in range(5000)))
    assert automatic.run() == 0, capsys.readouterr().err
    found = chosen(automatic)
    assert (found["amount_mean", "low"], found["amount_mean", "high"]) == (-8.0, -1.0)


def test_l1_is_found_by_all_rows_of_a_unit(automatic, capsys) -> None:
    (stage,) = automatic.policy["stages"]
    stage["bounds"] = {"l1": {"auto": {"max": 20}}}
    automatic.csv(*(f"p{i},{place},1" for i in range(900) for place in ("inn", "zoo", "bar", "inn")))
    assert automatic.run() == 0, capsys.readouterr().err
    assert chosen(automatic)[None, "l1"] == 4


def test_repeated_bundles_leave_one_draw_of_each_histogram(automatic, capsys, monkeypatch) -> None:
    """Each draw has noise that no other has: the bounds must follow from one draw of each value, the one taken."""
    automatic.csv(*PLENTY)
    (stage,) = automatic.policy["stages"]
    stage["partitions"] = {"public": {"values": ["inn"]}}
    draws, seen = [], []

    def numbered(self, counts):
        draws.extend(counts.tolist())
        return counts + np.arange(len(draws) - len(counts) + 1, len(draws) + 1) / 1024

    monkeypatch.setattr(noise.AdditiveNoise, "to_counts", numbered)
    learn = bounds.learn

    def watched(known, tables):
        seen.append({name: table.to_pylist() for name, table in tables.items()})
        return learn(known, tables)

    monkeypatch.setattr(bounds, "learn", watched)
    assert automatic.run("--direct_runner_bundle_repeat=3") == 0, capsys.readouterr().err
    histograms = len(magnitudes(1e-6, 1e12)) + len(count_grid(8)) + len(count_grid(6))
    assert len(draws) >= 3 * histograms  # the bundles really were repeated
    ((tables),) = seen
    values = [row[name] for (row,) in tables.values() for name in row if not name.endswith(("_low", "_high"))]
    numbers = sorted(round(value % 1 * 1024) for value in values)
    assert len(set(numbers)) == len(values) == histograms
    assert automatic.left_behind() == []


def test_a_run_that_fails_in_the_main_job_is_tried_again_from_the_bounds_on(automatic, capsys, monkeypatch) -> None:
    """Nothing of the first attempt was published, so its histograms are gone with its staging."""
    automatic.csv(*PLENTY)
    jobs = []
    run_job = aggregate.run

    def second_job_fails(job, options):
        jobs.append([spec.name for spec in job.stages])
        if len(jobs) == 2:
            raise OSError("the worker went away")
        return run_job(job, options)

    monkeypatch.setattr(aggregate, "run", second_job_fails)
    assert automatic.run() == 4
    assert automatic.left_behind() == []
    spent = automatic.open_ledger().balance("visits").spent
    assert automatic.run() == 0, capsys.readouterr().err
    assert jobs == [["by_place.values", "by_place.units"], ["by_place"]] * 2
    assert automatic.open_ledger().balance("visits").spent == spent
    assert automatic.left_behind() == []


@pytest.mark.parametrize("place", ["before the choice", "after the choice", "while it is staged"])
def test_a_kill_in_the_phase_leaves_nothing_and_stays_spent(automatic, capsys, place) -> None:
    automatic.csv(*PLENTY)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_learn(known, tables):
        learn(known, tables)
        die()

    learn = bounds.learn
    child = os.fork()
    if child == 0:
        match place:
            case "before the choice":
                bounds.learn = die
            case "after the choice":
                bounds.learn = dying_learn
            case "while it is staged":
                Area.write_shard = die
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        automatic.run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    ledger = automatic.open_ledger()
    spent = ledger.balance("visits").spent
    assert spent.to_json()["epsilon"] == 1.0
    assert automatic.run() == 0, capsys.readouterr().err  # again, under its own charge
    assert automatic.open_ledger().balance("visits").spent == spent
    assert automatic.left_behind() == []
    assert len(automatic.manifests()) == 1
    ledger.verify()


def test_a_plan_that_would_change_a_loss_ends_the_run_unpublished(automatic, capsys, monkeypatch) -> None:
    """A slip in the choice: the stage's weight is changed along with its bounds."""
    automatic.csv(*PLENTY)
    with_chosen = Query.with_chosen

    def slipped(query, found):
        done = with_chosen(query, found)
        (stage,) = done.stages
        metrics = (replace(stage.metrics[0], weight=3.0), *stage.metrics[1:])
        return replace(done, stages=(replace(stage, metrics=metrics),))

    monkeypatch.setattr(Query, "with_chosen", slipped)
    assert automatic.run() == 4  # no refusal: it was charged
    said = capsys.readouterr().err
    assert "must stay" in said
    assert "of dataset visits stays spent" in said
    assert automatic.manifests() == []
    assert automatic.left_behind() == []


def test_noise_that_fits_the_widest_bounds_only_is_refused_before_anything_is_charged(automatic, capsys) -> None:
    """Of the bounds [3, high], high up to 16, it is [3, 7] whose grid is finest against the noise."""
    (stage,) = automatic.policy["stages"]
    stage["partitions"] = {"public": {"values": ["inn"]}}
    stage["bounds"] = {"l0": 1, "linf": 1}
    mean = {"column": "amount", "low": 3, "high": {"auto": {"most": 9}}, "weight": 2e-5}
    stage["metrics"] = ["privacy_id_count", {"mean": mean}]
    epsilon, part = 0.5, 0.0
    for _ in range(4):  # noise goes roughly by 1 / ε: find that which fills 90 % of the widest bounds' grid
        automatic.policy["run"]["epsilon"] = epsilon
        made = load_query(automatic.policy_path)
        (spec,) = planned(made, plan(made).mechanisms)
        quantity = next(q for q in spec.quantities if q.kind == "sum")
        widest = kernels.grid_of(quantity.definition).step * 2.0**30
        part = spec.noise[quantity.name].sigma / widest / noise.MOST_OF_BOUNDS
        epsilon *= part / 0.9
    assert 0.85 < part < 1
    for refused in (automatic.run(), invoke(["plan", str(automatic.policy_path), "--ledger", automatic.ledger])):
        assert refused == 2
    assert capsys.readouterr().err.count("must be below 2**26 times its value bounds") == 2
    assert automatic.open_ledger().balance("visits").spent.to_json()["epsilon"] == 0


def test_the_plan_reads_nothing_and_says_what_is_not_known_yet(automatic, capsys) -> None:
    for file in automatic.folder.glob("*.csv"):
        file.unlink()
    assert invoke(["plan", str(automatic.policy_path), "--ledger", automatic.ledger]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "by_place: the run finds l0 (at most 8) and linf (at most 6). Not known yet" in shown
    assert "the run finds high of amount_sum, low and high of amount_mean. Not known yet." in shown
    assert "r is the most that one row may add" in shown
    assert invoke(["plan", str(automatic.policy_path), "--ledger", automatic.ledger, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["utility"]
    assert [(f["metric"], f["parameter"]) for f in figures["automatic"]] == [
        ("amount_sum", "high"), ("amount_mean", "low"), ("amount_mean", "high"), (None, "l0"), (None, "linf")
    ]  # fmt: skip


def test_the_jobs_histograms_have_the_sensitivity_that_the_plan_states(automatic) -> None:
    made = load_query(automatic.policy_path)
    found = plan(made)
    known = Parameters(query=made, plan=found, stages=planned(made, found.mechanisms), public={})
    found = bounds.stages(known)
    assert [spec.name for spec in found] == ["by_place.values", "by_place.units"]
    for spec in found:
        for quantity in spec.quantities:
            assert quantity.sensitivity(spec.bounds)[1] == spec.noise[quantity.name].l2 == 1.0


def test_the_histograms_are_what_a_phase_stages_and_nothing_else(automatic, capsys, monkeypatch) -> None:
    """The tables that the choice sees hold noisy numbers only: no key, no raw count."""
    automatic.csv(*PLENTY)
    seen: list[pa.Table] = []
    learn = bounds.learn

    def watched(known, tables):
        seen.extend(tables.values())
        return learn(known, tables)

    monkeypatch.setattr(bounds, "learn", watched)
    assert automatic.run() == 0, capsys.readouterr().err
    assert [table.num_rows for table in seen] == [1, 1]
    for table in seen:
        assert all(field.type == pa.float64() for field in table.schema)
        values = [value for name, value in table.to_pylist()[0].items() if not name.endswith(("_low", "_high"))]
        assert all(value != round(value) for value in values)
