"""A runner that loses or doubles what goes through a shuffle makes the run fail before anything is published."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import release
from transforms import accumulate, bound


def corrupt(change, where, monkeypatch, *, only: int = 0) -> None:
    """Makes one destination of a shuffle get `change(messages)` in place of its messages."""
    original = where.receive
    monkeypatch.setattr(
        where,
        "receive",
        lambda name, to, batches: original(name, to, change(list(batches)) if to == only else batches),
    )


@pytest.mark.parametrize("where", [bound, accumulate], ids=["users", "partitions"])
@pytest.mark.parametrize(
    "change",
    [lambda found: found[1:], lambda found: [*found, found[0]], lambda found: [found[0], *found[:-1]]],
    ids=["dropped", "doubled", "replaced"],
)
def test_a_wrong_delivery_fails_the_run(workspace, capsys, monkeypatch, where, change) -> None:
    workspace.create_budget()
    corrupt(change, where, monkeypatch)
    assert workspace.run() == 4
    assert "the runner lost or doubled data" in capsys.readouterr().err
    assert workspace.manifests() == []
    assert workspace.left_behind() == []


def test_a_destination_that_never_runs_fails_the_run(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    original = bound._BoundShard.work
    monkeypatch.setattr(
        bound._BoundShard, "work", lambda self, element: original(self, element) if element[0] else iter(())
    )
    assert workspace.run() == 4
    assert workspace.manifests() == []


def test_without_a_marker_nothing_is_published(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    monkeypatch.setattr(release.Area, "write_marker", lambda self, name: None)
    assert workspace.run() == 4
    assert "were not confirmed" in capsys.readouterr().err
    assert workspace.manifests() == []


def test_the_mode_that_really_loses_data_never_publishes_a_wrong_result(workspace, capsys, exact, monkeypatch) -> None:
    """The refused mode is let through here. Each run either fails, or publishes what an honest runner does; whether
    data is lost in a given run is up to the threads, so the test asserts what must hold either way."""
    workspace.create_budget()
    assert workspace.run() == 0
    honest = pq.read_table(workspace.release_folder() / "by_place.parquet").select(["place", "privacy_id_count"])
    flags = ["--runner=FnApiRunner", "--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    monkeypatch.setattr("pipelines.options.beam_options", lambda _: PipelineOptions(flags))
    for attempt in range(3):
        before = set(workspace.manifests())
        code = workspace.run("--release", f"r{attempt}")
        new = [manifest for manifest in workspace.manifests() if manifest not in before]
        assert (code, len(new)) in ((0, 1), (4, 0))
        for manifest in new:
            table = pq.read_table(manifest.parent / "by_place.parquet").select(["place", "privacy_id_count"])
            assert table.equals(honest)
