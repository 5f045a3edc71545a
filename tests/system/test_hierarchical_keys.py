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


def test_totals_lose_nothing_with_exact_noise(workspace, capsys, exact, monkeypatch) -> None:
    from dpbeam.mechanisms import selection

    class AtLeast:
        def should_keep(self, users: int) -> bool:
            return users >= 250

        def probability_of_keep(self, users: int) -> float:
            return float(self.should_keep(users))

    hierarchical(workspace, "truncated_geometric")
    monkeypatch.setattr(selection, "_strategy", lambda _: AtLeast())
    assert workspace.run() == 0, capsys.readouterr().err
    cells = found(workspace)
    assert {cell: row["count"] for cell, row in cells.items()} == {
        ("fr", "paris", 2): 600,
        ("fr", "lyon", 2): 300,
        ("fr", None, 1): 600,
        (None, None, 0): 200,
    }
    assert sum(row["count"] for row in cells.values()) == len(rows())


def test_an_other_takes_no_more_of_a_unit_than_any_cell(workspace, capsys, exact, monkeypatch) -> None:
    """The bound that the noise is planned for: linf rows a cell, also where many of a unit's leaves fall together."""
    from dpbeam.mechanisms import selection

    class Never:
        def should_keep(self, users: int) -> bool:
            return False

        def probability_of_keep(self, users: int) -> float:
            return 0.0

    hierarchical(workspace, "truncated_geometric", {"l0": 4, "linf": 2})
    monkeypatch.setattr(selection, "_strategy", lambda _: Never())
    assert workspace.run() == 0, capsys.readouterr().err
    ((cell, row),) = found(workspace).items()
    assert cell == (None, None, 0)
    assert (row["count"], row["privacy_id_count"]) == (2 * 600, 600)
