"""What a run shows of its progress is known from the plan: the same for any rows in files of the same layout."""

from __future__ import annotations

from dpbeam.reading import formats
from dpbeam.transforms.wire import progress


def heard_of(workspace, capsys, rows: list[str], release: str, *flags: str) -> list[tuple[str, int, int]]:
    heard = []
    for part in range(3):
        workspace.csv(*rows, name=f"part{part}.csv")
    with progress.listening(lambda *told: heard.append(told)):
        assert workspace.run("--release", release, *flags) == 0, capsys.readouterr().err
    return heard


def test_progress_tells_nothing_of_the_rows(workspace, capsys, monkeypatch) -> None:
    monkeypatch.setattr(formats, "_PORTION_BYTES", 1)  # every file by itself
    workspace.policy["source"]["path"] = "part*.csv"
    workspace.create_budget()
    many = heard_of(workspace, capsys, [f"p{i},inn,{i % 7}" for i in range(3000)], "many")
    few = heard_of(workspace, capsys, ["p1,zoo,1"], "few")
    assert many == few
    assert {what for what, _, _ in many} == {"reading", "aggregating", "merging"}
    assert [told for told in many if told[0] == "reading"] == [("reading", i, 3) for i in (1, 2, 3)]


def test_progress_of_a_run_with_shuffles_tells_nothing_of_the_rows(workspace, capsys, monkeypatch) -> None:
    monkeypatch.setattr(formats, "_PORTION_BYTES", 1)
    workspace.policy["source"]["path"] = "part*.csv"
    workspace.create_budget()
    flags = ("--runner=FnApiRunner", "--direct_num_workers=2")
    many = heard_of(workspace, capsys, [f"p{i},inn,{i % 7}" for i in range(3000)], "many", *flags)
    few = heard_of(workspace, capsys, ["p1,zoo,1"], "few", *flags)
    assert many == few
    assert [told for told in many if told[0] == "reading"] == [("reading", i, 3) for i in (1, 2, 3)]
    shards = [told for told in many if told[0] != "reading"]
    assert {what for what, _, _ in shards} == {f"aggregating {workspace.policy['stages'][0]['name']}"}
    assert [done for _, done, _ in shards] == list(range(1, shards[0][2] + 1))
