"""Whatever a runner repeats, a release shows one draw of each value, and nothing of another is left behind."""

from __future__ import annotations

import csv
import struct
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dpbeam.mechanisms import noise
from dpbeam.transforms.steps import noise as draw
from dpbeam.transforms.steps import write_shards


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counter:
    """Counts draws by the value they were added to, and gives each draw noise that no other has; temporary files go
    where `nothing_of_another_draw` looks."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    counted: Counter = Counter()

    def numbered(self, counts):
        for value in counts.tolist():
            counted[value] += 1
            noise_of.append((value, sum(counted.values()) * (1 << 20) + FRACTION))
        return np.array([value + drawn for value, drawn in noise_of[len(noise_of) - len(counts) :]], dtype=np.float64)

    noise_of.clear()
    monkeypatch.setattr(noise.AdditiveNoise, "to_counts", numbered)
    return counted


FRACTION = 0.515625
"""Of all noise, so that no draw's digits stand in a digest by chance: in hex there is no point."""
noise_of: list[tuple[float, float]] = []
"""(value, its noise) of every draw of the test that runs."""


def nothing_of_another_draw(workspace, screen: str, *, shown_draws: int) -> None:
    """Asserts that no draw but those of the release is anywhere: in no file under the test's folder (releases, ledger,
    temporary files) and not on screen, neither as text nor as the bytes of a number."""
    parquet = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    released = {row[name] for row in parquet for name in ("count", "privacy_id_count")}
    others = {float(value + drawn) for value, drawn in noise_of} - released
    assert len(others) == len(noise_of) - shown_draws
    forms = {
        form
        for other in others
        for form in (
            struct.pack("<d", other),
            struct.pack("<q", int(other)),
            repr(other).encode(),
            f"{other:,.0f}".encode(),
        )
    }
    files = [path for path in workspace.folder.rglob("*") if path.is_file()]
    assert {"ledger.sqlite", "manifest.json", "report.html", "by_place.csv"} <= {path.name for path in files}
    for place, data in ((str(path), path.read_bytes()) for path in files):
        assert not [form for form in forms if form in data], place
    assert not [form for form in forms if form in screen.encode()]
    # The search would have found them: every released value is in the files in these forms.
    everything = b"".join(path.read_bytes() for path in files)
    assert all(struct.pack("<d", value) in everything and repr(value).encode() in everything for value in released)
    assert not (workspace.output / "visits" / ".staging").exists()
    assert not (workspace.output / ".staging").exists()


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
    screen = capsys.readouterr()
    shown(workspace.release_folder(), screen.out)
    nothing_of_another_draw(workspace, screen.out + screen.err, shown_draws=10)
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
    screen = capsys.readouterr()
    shown(workspace.release_folder(), screen.out)
    nothing_of_another_draw(workspace, screen.out + screen.err, shown_draws=10)
    assert workspace.left_behind() == []


def test_a_failed_run_may_be_tried_again_under_its_own_charge(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def fails(self, element):
        raise OSError("no")
        yield

    with monkeypatch.context() as broken:
        broken.setattr(write_shards._WriteShard, "work", fails)
        assert workspace.run() == 4
    assert workspace.left_behind() == []
    assert workspace.manifests() == []
    spent = workspace.open_ledger().balance("visits").spent
    assert workspace.run() == 0
    assert workspace.open_ledger().balance("visits").spent == spent
    kinds = [entry.kind for entry in workspace.open_ledger().history("visits")]
    assert kinds == [
        "budget_created",
        "source_accepted",
        "reserved",
        "started",
        "attempt_failed",
        "retried",
        "published",
    ]


def test_after_three_failed_attempts_a_release_is_refused(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def fails(self, element):
        raise OSError("no")
        yield

    monkeypatch.setattr(write_shards._WriteShard, "work", fails)
    assert [workspace.run() for _ in range(4)] == [4, 4, 4, 3]
    assert "failed in all its 3 attempts" in capsys.readouterr().err
