"""The page on custom metrics, from end to end: its package is installed, its policy run, its metric released."""

from __future__ import annotations

import importlib
import math
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

DOC = (Path(__file__).parents[2] / "docs" / "custom_metrics.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    (text,) = re.findall(rf"```{kind}\n(.*?)```", DOC, flags=re.DOTALL)
    return text


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """What an installer makes of the page's package: the module, and beside it the entry points."""
    site = tmp_path / "site"
    about = site / "geometric-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "geometric.py").write_text(block("python"), encoding="utf-8")
    (name, reference) = re.findall(r'^(\w+) = "(\w+:\w+)"$', block("toml"), flags=re.MULTILINE)[0]
    assert '[project.entry-points."dpbeam.metrics"]' in block("toml")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: geometric\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[dpbeam.metrics]\n{name} = {reference}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield site
    sys.modules.pop("geometric", None)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_the_pages_metric_is_released_with_its_interval_and_certified(workspace, capsys, package, noise) -> None:
    (stage,) = workspace.policy["stages"]
    stage["metrics"] = ["count", *yaml.safe_load(block("yaml-part"))]
    stage |= {"noise": noise, "bounds": {"l0": 3, "linf": 1}}
    workspace.policy |= {"run": {"epsilon": 8.0, "delta": 1e-6}}
    workspace.create_budget()
    assert workspace.run() == 0, capsys.readouterr().err
    folder = workspace.release_folder()
    rows = {row["place"]: row for row in pq.read_table(folder / "by_place.parquet").to_pylist()}
    for j, place in enumerate(("inn", "zoo")):
        truth = math.exp(sum(math.log(max((i * 7 + j) % 11, 1)) for i in range(400)) / 400)
        found = rows[place]
        assert (
            found["amount_geometric_mean_low"] <= found["amount_geometric_mean"] <= found["amount_geometric_mean_high"]
        )
        # Noise of at most some 2 % of the sum; ten times the half-width is never reached.
        width = found["amount_geometric_mean_high"] - found["amount_geometric_mean_low"]
        assert abs(found["amount_geometric_mean"] - truth) < 5 * width < truth * 5
    assert "amount_geometric_mean" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_policy_whose_package_is_not_installed_is_refused_before_anything_is_charged(workspace, capsys) -> None:
    workspace.create_budget()
    (stage,) = workspace.policy["stages"]
    stage["metrics"] = yaml.safe_load(block("yaml-part"))
    assert workspace.run() == 2
    assert "custom metric 'geometric_mean' isn't registered; install its package" in capsys.readouterr().err
    assert not workspace.manifests()
