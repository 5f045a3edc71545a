"""Whole runs with hierarchical keys: leaves are selected, the rest counts in others, and totals lose nothing."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from dpbeam.reporting.certify import certify_manifest

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
    workspace.policy["run"] = {"epsilon": 20.0, "delta": 1e-6}
    workspace.policy["budget"] = {"epsilon": 40.0, "delta": 1e-5}
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
    certify_manifest(manifest)
    assert "village" not in (workspace.release_folder() / "report.html").read_text(encoding="utf-8")
    assert (workspace.release_folder() / "by_place.csv").read_text(encoding="utf-8").count('"fr",,1') == 1


@pytest.mark.parametrize("bounds", [{"l1": 5}, {"l0": 4, "linf": 1}], ids=str)
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
