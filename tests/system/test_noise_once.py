"""Whatever a runner repeats, a release shows one draw of each value, and nothing of another is left behind."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dpbeam.mechanisms import noise
from transforms import noise as draw
from transforms import stage


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts draws by the value they were added to, and gives each draw noise that no other has."""
    counted: Counter = Counter()

    class Numbered:
        def add_noise(self, value):
            counted[value] += 1
            return value + sum(counted.values()) * (1 << 20)

    monkeypatch.setattr(noise, "_gaussian", lambda _: Numbered())
    return counted


def public(workspace) -> None:
    """Public places, so that every value is released and none is left to a selection."""
    (only,) = workspace.policy["stages"]
    only["partitions"] = {"public": {"values": ["inn", "zoo", "x0", "x1", "x2"]}}
    only["metrics"] = ["count", "privacy_id_count"]


def shown(folder: Path, screen: str) -> None:
    """Asserts that Parquet, CSV, report and screen hold the same values."""
    parquet = pq.read_table(folder / "by_place.parquet").to_pylist()
    with (folder / "by_place.csv").open(encoding="utf-8", newline="") as file:
        for text, row in zip(csv.DictReader(file), parquet, strict=True):
            assert all(float(text[name]) == row[name] for name in row if name != "place")
    report = (folder / "report.html").read_text(encoding="utf-8")
    for row in parquet:
        for name in ("count", "privacy_id_count"):
            text = f"{row[name]:,.0f}"
            assert text[:-2] in report
            assert text[:-2] in screen


def test_repeated_bundles_publish_one_draw(workspace, capsys, draws) -> None:
    public(workspace)
    workspace.create_budget()
    assert workspace.run("--direct_runner_bundle_repeat=3") == 0
    values = 5 * 2
    assert sum(draws.values()) >= 3 * values  # the bundles really were repeated
    shown(workspace.release_folder(), capsys.readouterr().out)
    assert workspace.left_behind() == []


def test_a_bundle_that_fails_after_the_noise_publishes_one_draw(workspace, capsys, draws, monkeypatch) -> None:
    public(workspace)
    workspace.create_budget()
    original, failures = draw._AddNoise.work, []

    def fails_once(self, element):
        yield from original(self, element)  # the noise is drawn, and then its bundle fails
        if not failures:
            failures.append(element)
            raise OSError("the worker went away")

    monkeypatch.setattr(draw._AddNoise, "work", fails_once)
    assert workspace.run("--runner=BundleBasedDirectRunner") == 0
    assert len(failures) == 1
    assert sum(draws.values()) > 5 * 2  # a second draw really happened
    shown(workspace.release_folder(), capsys.readouterr().out)
    assert workspace.left_behind() == []


def test_a_failed_run_may_be_tried_again_under_its_own_charge(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def fails(self, element):
        raise OSError("no")
        yield

    with monkeypatch.context() as broken:
        broken.setattr(stage._WriteShard, "work", fails)
        assert workspace.run() == 4
    assert workspace.left_behind() == []
    assert workspace.manifests() == []
    spent = workspace.open_ledger().balance("visits").spent
    assert workspace.run() == 0
    assert workspace.open_ledger().balance("visits").spent == spent
    kinds = [entry.kind for entry in workspace.open_ledger().history("visits")]
    assert kinds == ["budget_created", "reserved", "started", "attempt_failed", "retried", "published"]


def test_after_three_failed_attempts_a_release_is_refused(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def fails(self, element):
        raise OSError("no")
        yield

    monkeypatch.setattr(stage._WriteShard, "work", fails)
    assert [workspace.run() for _ in range(4)] == [4, 4, 4, 3]
    assert "failed in all its 3 attempts" in capsys.readouterr().err
