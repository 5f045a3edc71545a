"""Whole runs with hierarchical keys: leaves are selected, the rest counts in others, and totals lose nothing."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.jobs import workers
from dpbeam.reporting.certify import certify

HEADER = "person,country,city,amount"
STRATEGIES = ("truncated_geometric", "laplace_thresholding", "gaussian_thresholding", "dp_sips", "mad", "mad2r")


def rows() -> list[str]:
    """600 people: all in (fr, paris), half in (fr, lyon), each in a town of their own in fr, every third one in de."""
    found = []
    for i in range(600):
        found += [f"p{i},fr,paris,1", f"p{i},fr,town{i},1"]
        found += [f"p{i},fr,lyon,1"] if i % 2 else []
        found += [f"p{i},de,village{i},1"] if i % 3 == 0 else []
    return found


@pytest.fixture(params=["one worker", "shuffles"])
def plan(request, monkeypatch) -> None:
    if request.param == "shuffles":
        monkeypatch.setattr(workers, "one_worker", lambda *_: None)


def hierarchical(workspace, strategy, bounds=None) -> None:
    (stage,) = workspace.policy["stages"]
    workspace.policy["columns"] = {
        "person": {"type": "string"},
        "country": {"type": "string"},
        "city": {"type": "string"},
        "amount": {"type": "float64"},
    }
    stage["group_by"] = ["country", "city"]
    stage["partitions"] = {"private": {"strategy": strategy, "hierarchical": True}}
    stage["bounds"] = bounds or {"l1": 5}
    stage["metrics"] = ["count", "privacy_id_count"]
    # Each of 800 leaves with one person may be kept with some part of δ: none is, but once in 10⁸ runs.
    workspace.policy["run"] = {"epsilon": 20.0, "delta": 6e-12}
    workspace.policy["budget"] = {"epsilon": 40.0, "delta": 1e-10}
    workspace.csv(*rows(), header=HEADER)
    workspace.create_budget()


def found(workspace) -> dict[tuple[object, ...], dict[str, float]]:
    table = pq.read_table(workspace.release_folder() / "by_place.parquet")
    return {(row["country"], row["city"], row["level"]): row for row in table.to_pylist()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_not_kept_counts_in_its_parents_other(workspace, capsys, strategy) -> None:
    hierarchical(workspace, strategy)
    assert workspace.run() == 0, capsys.readouterr().err
    assert "(other)" in capsys.readouterr().out
    cells = found(workspace)
    assert set(cells) == {("fr", "paris", 2), ("fr", "lyon", 2), ("fr", None, 1), (None, None, 0)}
    wanted = {("fr", "paris", 2): 600, ("fr", "lyon", 2): 300, ("fr", None, 1): 600, (None, None, 0): 200}
    for cell, rows_there in wanted.items():
        assert abs(cells[cell]["count"] - rows_there) < 40
        assert abs(cells[cell]["privacy_id_count"] - rows_there) < 40
    (manifest,) = workspace.manifests()
    certify(manifest)
    assert "village" not in (workspace.release_folder() / "report.html").read_text(encoding="utf-8")
    assert (workspace.release_folder() / "by_place.csv").read_text(encoding="utf-8").count('"fr",,1') == 1


@pytest.mark.parametrize("bounds", [{"l1": 5}, {"l0": 4, "linf": 1}], ids=str)
@pytest.mark.usefixtures("plan")
def test_totals_lose_nothing_with_exact_noise(workspace, capsys, exact, monkeypatch, bounds) -> None:
    hierarchical(workspace, "truncated_geometric", bounds)
    selecting_at_least(monkeypatch, 250)
    assert workspace.run() == 0, capsys.readouterr().err
    cells = found(workspace)
    assert {cell: row["count"] for cell, row in cells.items()} == {
        ("fr", "paris", 2): 600,
        ("fr", "lyon", 2): 300,
        ("fr", None, 1): 600,
        (None, None, 0): 200,
    }
    assert sum(row["count"] for row in cells.values()) == len(rows())


def selecting_at_least(monkeypatch, least) -> None:
    from dpbeam.mechanisms import selection

    class AtLeast:
        def should_keep(self, users: int) -> bool:
            return users >= least

        def probability_of_keep(self, users: int) -> float:
            return float(users >= least)

    monkeypatch.setattr(selection, "_strategy", lambda _: AtLeast())


@pytest.mark.parametrize(
    ("least", "bounds", "other_l0", "count"),
    [
        (1000, {"l0": 4, "linf": 2}, None, 1700),  # nothing is kept: all leaves of a person fall together, and count
        (1000, {"l0": 4, "linf": 2}, 2, 2 * 600),  # of which two may
        (1000, {"l0": 1, "linf": 2}, None, 600),  # l0 bounds leaves: one of each person counts
    ],
)
@pytest.mark.usefixtures("plan")
def test_an_other_takes_the_leaves_of_a_unit_that_the_bounds_let_in(
    workspace, capsys, exact, monkeypatch, least, bounds, other_l0, count
) -> None:
    hierarchical(workspace, "truncated_geometric", bounds)
    (stage,) = workspace.policy["stages"]
    stage["partitions"]["private"] |= {} if other_l0 is None else {"other_l0": other_l0}
    selecting_at_least(monkeypatch, least)
    assert workspace.run() == 0, capsys.readouterr().err
    ((cell, row),) = found(workspace).items()
    assert cell == (None, None, 0)
    assert (row["count"], row["privacy_id_count"]) == (count, 600)


@pytest.mark.usefixtures("plan")
def test_cells_of_a_unit_come_before_second_leaves(workspace, capsys, exact, monkeypatch) -> None:
    """With l0 3, nobody's leaves in others push out a kept one: up to three cells a person, one leaf in each."""
    hierarchical(workspace, "truncated_geometric", {"l0": 3, "linf": 1})
    workspace.csv(*rows(), *(f"p{i},fr,hamlet{i}_{j},1" for i in range(600) for j in range(9)), header=HEADER)
    # Selection counts people in three of their leaves each, at random: in lyon some 70, under 25 in 1 of 10¹¹ runs.
    selecting_at_least(monkeypatch, 25)
    assert workspace.run() == 0, capsys.readouterr().err
    counts = {cell: row["privacy_id_count"] for cell, row in found(workspace).items()}
    # Of people with paris, others of fr and one of lyon and villages, all three count; of those with all four, three.
    four = sum(1 for i in range(600) if i % 2 and i % 3 == 0)
    assert sum(counts.values()) == 600 + 300 + 600 + 200 - four
    assert counts[("fr", "paris", 2)] >= 600 - four
    assert sum(row["count"] for row in found(workspace).values()) == 3 * 600


def test_a_cached_release_is_shown_as_it_was_made(workspace, capsys) -> None:
    hierarchical(workspace, "gaussian_thresholding")
    assert workspace.run() == 0, capsys.readouterr().err
    first = capsys.readouterr().out
    assert workspace.run() == 0, capsys.readouterr().err
    again = capsys.readouterr().out
    assert "level" in again
    assert again.split("This release was made before")[0] == first.split("This release cost")[0].split("yet.\n")[-1]


def test_the_plan_the_manifest_and_the_report_say_what_a_person_adds_to_an_other(workspace, capsys) -> None:
    from dpbeam.pipelines.cli.main import invoke

    hierarchical(workspace, "truncated_geometric", {"l0": 4, "linf": 2})
    assert invoke(["plan", str(workspace.policy_path), "--ledger", workspace.ledger]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "by_place: to one (other) a privacy unit adds at most 8 rows, of 4 leaves. That moves its count by 8, "
        "privacy_id_count by 1 at most. Noise std there:"
    ) in said
    assert workspace.run() == 0, capsys.readouterr().err
    (manifest,) = workspace.manifests()
    certify(manifest)
    whole = json.loads(manifest.read_text(encoding="utf-8"))
    assert whole["version"] == 2
    _, count, units = whole["mechanisms"]
    assert count["other"] == {"leaves": 4, "rows": 8, "most": 8.0, "noise": 2.0}
    assert units["other"] == {"leaves": 4, "rows": 8, "most": 1.0, "noise": 1.0}
    report = (workspace.release_folder() / "report.html").read_text(encoding="utf-8")
    assert "at most 8 of 8 rows in one (other), which has 2 times the noise" in report
    assert "at most 4 partitions in one such row" in report
    # In the files, leaves have the plan's noise, others twice that.
    table = pq.read_table(workspace.release_folder() / "by_place.parquet")
    about = table.schema.field("count").metadata
    assert float(about[b"dpbeam.other_std"]) == 2 * float(about[b"dpbeam.std"]) == 2 * count["sigma"]
    assert b"dpbeam.other_std" not in table.schema.field("privacy_id_count").metadata
    for row in table.to_pylist():
        sigmas = (row["count_high"] - row["count_low"]) / 2 / 1.959963984540054 / count["sigma"]
        assert sigmas == pytest.approx(1.0 if row["level"] == 2 else 2.0)


@pytest.mark.usefixtures("plan")
def test_hierarchical_and_other_stages_run_together(workspace, capsys, exact, monkeypatch) -> None:
    hierarchical(workspace, "truncated_geometric", {"l0": 4, "linf": 1})
    (stage,) = workspace.policy["stages"]
    flat = {"private": {"strategy": "truncated_geometric"}}
    listed = {"public": {"values": ["fr", "it"]}}
    workspace.policy["stages"] += [
        stage | {"name": "again", "group_by": ["city", "country"]},
        stage | {"name": "flat", "partitions": flat},
        stage | {"name": "listed", "group_by": ["country"], "partitions": listed, "bounds": {"l0": 1, "linf": 9}},
        {k: v for k, v in stage.items() if k != "partitions"}
        | {"name": "all", "group_by": [], "bounds": {"l0": 1, "linf": 9}},
    ]
    selecting_at_least(monkeypatch, 250)
    assert workspace.run() == 0, capsys.readouterr().err
    tables = {
        s["name"]: pq.read_table(workspace.release_folder() / f"{s['name']}.parquet")
        for s in workspace.policy["stages"]
    }
    totals = {name: sum(table.column("count").to_pylist()) for name, table in tables.items()}
    everything = len(rows())
    assert totals == {
        "by_place": everything,
        "again": everything,
        "flat": 900,
        "listed": everything - 200,
        "all": everything,
    }
    assert tables["again"].num_rows == 2 + 2 + 1  # two cities, an other below each, and the total's
    assert "level" not in tables["flat"].column_names


@pytest.mark.usefixtures("plan")
def test_where_rows_are_units_each_is_in_one_cell(workspace, capsys, exact, monkeypatch) -> None:
    workspace.policy["privacy_unit"] = "row"
    hierarchical(workspace, "truncated_geometric", {"l0": 1, "linf": 1})
    selecting_at_least(monkeypatch, 250)
    assert workspace.run() == 0, capsys.readouterr().err
    assert {cell: row["privacy_id_count"] for cell, row in found(workspace).items()} == {
        ("fr", "paris", 2): 600,
        ("fr", "lyon", 2): 300,
        ("fr", None, 1): 600,
        (None, None, 0): 200,
    }
    (manifest,) = workspace.manifests()
    mechanism = json.loads(manifest.read_text(encoding="utf-8"))["mechanisms"][1]
    assert mechanism["other"] == {"leaves": 1, "rows": 1, "most": 1.0, "noise": 1.0}


def test_leaves_are_bounded_by_what_the_run_chose(workspace, capsys) -> None:
    hierarchical(workspace, "gaussian_thresholding", {"l0": {"auto": {"max": 64}}, "linf": 1})
    (stage,) = workspace.policy["stages"]
    stage["partitions"]["private"]["other_l0"] = 3
    assert workspace.run() == 0, capsys.readouterr().err
    (manifest,) = workspace.manifests()
    certify(manifest)
    whole = json.loads(manifest.read_text(encoding="utf-8"))
    (chosen,) = whole["chosen_bounds"]
    (count,) = (m for m in whole["mechanisms"] if m["metric"] == "count")
    leaves = min(3, chosen["value"])
    assert 1 < chosen["value"] < 64
    assert count["l2"] == pytest.approx(chosen["value"] ** 0.5)
    assert count["other"] == {"leaves": leaves, "rows": leaves, "most": 1.0 * leaves, "noise": leaves**0.5}
    assert {cell[2] for cell in found(workspace)} == {0, 1, 2}
