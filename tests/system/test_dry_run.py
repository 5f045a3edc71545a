"""`dpbeam run --dry-run` says what a run would do, by the run's own rules, and leaves everything as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dpbeam.ledger.entries import Reserved
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import aggregate
from dpbeam.reporting.formats import violations


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder, but the input's and the ledger's log, which SQLite makes to read."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-wal", "-shm"))
    }


def said(capsys) -> dict:
    document = json.loads(capsys.readouterr().out)
    assert violations("dry_run", document) == []
    return document


def test_it_says_what_would_be_charged_and_left_and_writes_nothing(workspace, capsys) -> None:
    workspace.create_budget()
    before = everything(workspace.folder)
    capsys.readouterr()
    assert workspace.run("--dry-run") == 0
    assert capsys.readouterr().out == (
        "Would charge ε 1, δ 0.000001 to visits, for a new release default: no release of this name is in "
        f"{workspace.output}.\n"
        "Left afterwards: ε 9, δ 0.000009 of ε 10, δ 0.00001. Nothing was charged or written now.\n"
    )
    assert everything(workspace.folder) | {"policy.yaml": None} == before | {"policy.yaml": None}
    assert not workspace.output.exists()


def test_what_it_foresees_is_what_the_run_then_does(workspace, capsys) -> None:
    workspace.create_budget()
    capsys.readouterr()
    assert workspace.run("--dry-run", "--json") == 0
    foreseen = said(capsys)
    assert (foreseen["outcome"], foreseen["charge"]["epsilon"]) == ("would_charge", 1.0)
    assert workspace.run() == 0
    assert foreseen["left"] == workspace.open_ledger().balance("visits").left.to_json()


def test_a_release_that_was_made_is_cached_and_named(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    capsys.readouterr()
    assert workspace.run("--dry-run") == 0
    folder = workspace.release_folder()
    assert capsys.readouterr().out == (
        f"Is cached: release default of visits was made before, and comes back at no cost: {folder}\n"
        "The policy, the name and the input (by its files' names, sizes and times of change) are those of this "
        "release.\n"
    )
    assert workspace.run("--dry-run", "--json") == 0
    assert (said(capsys)["outcome"], workspace.open_ledger().balance("visits").spent.epsilon) == ("is_cached", 10**12)


def test_it_says_why_a_release_of_a_name_that_is_there_would_be_a_new_one(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    newest = f"release {workspace.release_folder().name} of this name was made"

    def reason(*flags: str) -> str:
        capsys.readouterr()
        assert workspace.run("--dry-run", "--json", *flags) == 0
        return said(capsys)["reason"]

    assert reason("--refresh") == "--refresh asks for a new one"
    assert reason("--release", "other") == f"no release of this name is in {workspace.output}"
    os.utime(workspace.folder / "data.csv", (1, 1))
    assert reason() == f"{newest} of another input"
    workspace.policy["run"]["epsilon"] = 0.5
    assert reason() == f"{newest} under another policy"


def test_a_release_that_is_known_by_its_bytes_is_said_to_be(workspace, capsys) -> None:
    workspace.policy["source"]["fingerprint"] = "content"
    workspace.create_budget()
    assert workspace.run() == 0
    os.utime(workspace.folder / "data.csv", (1, 1))
    capsys.readouterr()
    assert workspace.run("--dry-run", "--json") == 0
    known = said(capsys)
    assert known["outcome"] == "is_cached"
    assert known["reason"] == "the policy, the name and the input (by its files' bytes) are those of this release"


def test_refresh_would_charge_though_a_release_was_made(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    capsys.readouterr()
    assert workspace.run("--dry-run", "--refresh", "--json") == 0
    assert (said(capsys)["left"]["epsilon"]) == 8.0


def test_a_run_that_broke_off_would_be_gone_on_with_at_no_cost(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    with monkeypatch.context() as broken:
        broken.setattr(aggregate, "run", lambda *_: 1 / 0)
        assert workspace.run() == 4
    capsys.readouterr()
    (charge,) = workspace.open_charges()
    assert workspace.run("--dry-run") == 0
    assert capsys.readouterr().out == (
        f"Would go on with release default of visits under charge {charge.id}, which was paid for by a run that broke "
        "off: no further cost.\n"
    )
    assert workspace.run("--dry-run", "--json") == 0
    assert said(capsys)["outcome"] == "would_go_on"
    assert workspace.open_charges() == [charge]


def test_a_release_that_is_gone_is_missed_as_the_run_would_miss_it(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    (workspace.release_folder() / "by_place.csv").unlink()
    capsys.readouterr()
    assert workspace.run("--dry-run") == 4
    missed = capsys.readouterr().err
    assert workspace.run() == 4
    assert missed.splitlines()[-1] == capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("wrong", ["budget", "source", "unit"])
def test_what_the_ledger_refuses_a_run_it_refuses_a_dry_one_in_the_same_words(workspace, capsys, wrong) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    flags = []
    match wrong:
        case "budget":
            workspace.policy["run"]["epsilon"] = 9.5
        case "source":
            flags = ["--source", str(workspace.csv("p1,Oslo,1", name="other.csv"))]
        case "unit":
            workspace.policy["privacy_unit"] = "row"
            workspace.policy["stages"][0]["bounds"] = {"l0": 1, "linf": 1}
    capsys.readouterr()
    assert workspace.run("--dry-run", *flags) == 3
    refused = capsys.readouterr().err.split("dpbeam: ")[1]
    assert workspace.run(*flags) == 3
    assert refused == capsys.readouterr().err.split("dpbeam: ")[1]
    entries = workspace.open_ledger().history("visits")
    assert len([entry for entry in entries if isinstance(entry.fact, Reserved)]) == 1


def test_without_a_ledger_none_is_made(workspace, capsys) -> None:
    assert workspace.run("--dry-run") == 3
    assert not (workspace.folder / "ledger.sqlite").exists()


def test_an_input_that_is_not_there_is_said(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run("--dry-run", "--source", str(workspace.folder / "gone.csv")) == 2
    assert invoke(["budget", "verify", "--ledger", workspace.ledger]) == 0
