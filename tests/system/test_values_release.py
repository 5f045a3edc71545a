"""Distinct counts and the most frequent values through a run with real noise and thresholds, in small messages."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from dpbeam.engine.aggregation import long_lists
from dpbeam.reporting.certify import certify
from dpbeam.transforms.wire import arrow_coder


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_values_come_out_in_order_and_rare_ones_stay_hidden(workspace, capsys, monkeypatch, noise) -> None:
    monkeypatch.setattr(long_lists.spread, "__defaults__", (500,))
    monkeypatch.setattr(arrow_coder.sized, "__defaults__", (4000,))
    people = 3000
    workspace.csv(
        *(
            f"p{i},{place},{value}"
            for i in range(people)
            for place in ("inn", "zoo")
            for value in ("tea" if i % 10 < 6 else "cake" if i % 10 < 9 else f"secret{i}",)
        ),
        header="person,place,drink",
    )
    workspace.policy["columns"] = {name: {"type": "string"} for name in ("person", "place", "drink")}
    (stage,) = workspace.policy["stages"]
    stage |= {"noise": noise, "bounds": {"l0": 2, "linf": 1}}
    top = {"column": "drink", "k": 3, "max_values": 1, "pre_threshold": 5}
    stage["metrics"] = [{"distinct_count": {"column": "drink"}}, {"top_k": top}]
    workspace.create_budget()
    assert workspace.run() == 0, capsys.readouterr().err
    folder = workspace.release_folder()
    rows = pq.read_table(folder / "by_place.parquet").to_pylist()
    assert [row["place"] for row in rows] == ["inn", "zoo"]
    for row in rows:
        # Half-widths are some 20: ten of them are passed with a chance of 1e-20.
        assert row["drink_distinct_count"] == pytest.approx(302, abs=300)
        assert [row[f"drink_top_k_{i}"] for i in (1, 2, 3)] == ["tea", "cake", None]
        assert row["drink_top_k_1_count"] == pytest.approx(1800, abs=300)
        assert row["drink_top_k_2_count"] == pytest.approx(900, abs=300)
        assert row["drink_top_k_3_count"] is None
    for path in folder.iterdir():
        assert b"secret" not in path.read_bytes()
    certify(folder / "manifest.json")
    mechanisms = json.loads((folder / "manifest.json").read_text())["mechanisms"]
    assert [(m["metric"], m["kind"], m.get("l0")) for m in mechanisms][2] == ("drink_top_k", f"{noise}_thresholding", 2)
