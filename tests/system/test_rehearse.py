"""`dpbeam rehearse` takes a policy through a whole run on made-up data, opens no source and leaves nothing behind."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from dpbeam.errors import RunFailed
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import aggregate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_policy_is_rehearsed_without_its_source_and_leaves_nothing(workspace, temporary, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DPBEAM_LEDGER", workspace.ledger)
    (workspace.folder / "data.csv").unlink()
    os.mkfifo(workspace.folder / "data.csv")  # whoever opened it would wait for ever
    path = workspace.policy_path
    before = sorted(workspace.folder.rglob("*"))
    assert invoke(["rehearse", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "by_place: 10 partitions released" in out
    assert "made-up-10" in out
    assert "Rehearsed on made-up data: 15000 rows of 5000 persons." in out
    assert "A real run would charge ε 1, δ 0.000001 to visits. Its source wasn't read." in out
    assert sorted(workspace.folder.rglob("*")) == before
    assert list(temporary.iterdir()) == []


def test_coverage_of_made_up_rows_is_shown_and_below_no_floor(workspace, temporary, capsys) -> None:
    workspace.policy |= {"coverage": {"share": 0.1}, "guardrails": {"min_coverage": 0.9}}
    (stage,) = workspace.policy["stages"]
    stage["bounds"] = {"l0": 1, "linf": 1}  # of a unit's three rows
    assert invoke(["rehearse", str(workspace.policy_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    share = re.search(r"by_place: (\S+) % \(\S+ % to \S+ %\) of rows are within the bounds and partitions;", out)
    assert share is not None
    assert 10 < float(share[1]) < 60


def test_a_rehearsal_that_breaks_off_leaves_nothing_either(workspace, temporary, capsys, monkeypatch) -> None:
    def broken(*_: object) -> None:
        (folder,) = temporary.glob("dpbeam-rehearsal-*")
        assert folder.stat().st_mode & 0o077 == 0
        raise RunFailed("no")

    monkeypatch.setattr(aggregate, "run", broken)
    logs = workspace.folder / "logs"
    assert invoke(["rehearse", str(workspace.policy_path), "--log-dir", str(logs)]) == 4
    assert list(temporary.iterdir()) == []
    said = capsys.readouterr().err
    assert "This was a rehearsal on made-up data: nothing is charged.\n" in said
    assert "spent" not in said


def test_a_rehearsal_that_fails_names_a_log_that_says_why(workspace, temporary, capsys, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RunFailed("no worker could be started")

    monkeypatch.setattr(aggregate, "run", broken)
    assert invoke(["rehearse", str(workspace.policy_path)]) == 4
    (log,) = temporary.glob(f"dpbeam-rehearsals-{os.geteuid()}/*.log")
    assert log.name in "".join(capsys.readouterr().err.split())
    assert "no worker could be started" in log.read_text(encoding="utf-8")
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("policy", sorted(ROOT.glob("examples/*/*.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_can_be_rehearsed(policy, temporary, capsys) -> None:
    assert invoke(["rehearse", str(policy), "--units", "2000"]) == 0


def test_the_policy_that_init_writes_for_the_tutorials_table_can_be_rehearsed(tmp_path, temporary, capsys) -> None:
    table, path = ROOT / "examples" / "tutorial" / "visits.csv", tmp_path / "policy.yaml"
    assert invoke(["init", str(table), "--sample", "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "nullif" in text
    mean = "- mean: {column: paid, low: LOW, high: HIGH}"
    path.write_text(text.replace(f"# {mean}", mean.replace("LOW", "0").replace("HIGH", "50")), encoding="utf-8")
    assert invoke(["rehearse", str(path), "--units", "2000"]) == 0, capsys.readouterr().err
    assert "paid_mean" in capsys.readouterr().out


def test_a_floor_of_coverage_stops_no_rehearsal(workspace, temporary, capsys) -> None:
    """Of three made-up rows of a person the bounds keep one: that says nothing of the policy."""
    stage = workspace.policy["stages"][0] | {"bounds": {"l0": 1, "linf": 1}}
    workspace.policy |= {"stages": [stage], "coverage": {"share": 0.1}, "guardrails": {"min_coverage": 0.9}}
    assert invoke(["rehearse", str(workspace.policy_path)]) == 0, capsys.readouterr().err
