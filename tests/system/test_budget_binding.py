"""What a budget is bound to, as a person at the command line meets it."""

from __future__ import annotations

import json
import shutil

import pytest

from dpbeam.ledger.amounts import ZERO
from dpbeam.pipelines.cli.main import invoke


def shown(workspace, capsys) -> dict:
    capsys.readouterr()
    assert invoke(["budget", "show", "visits", "--ledger", workspace.ledger, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_budget_is_of_one_privacy_unit(workspace, capsys) -> None:
    workspace.create_budget()
    assert shown(workspace, capsys)["privacy_unit"] == "person"
    workspace.policy["privacy_unit"] = "row"
    workspace.policy["stages"][0]["bounds"] = {"l0": 1, "linf": 1}
    assert workspace.run("--accept-source") == 3
    assert "its budget protects one person, added or removed; the policy protects one row" in capsys.readouterr().err
    assert workspace.open_ledger().balance("visits").spent == ZERO


@pytest.mark.parametrize("flags", [(), ("--privacy-unit", "person")])
def test_a_budget_made_by_name_is_of_the_unit_that_is_stated_or_comes_first(workspace, capsys, flags) -> None:
    create = ["budget", "create", "visits", "--epsilon", "10", "--delta", "1e-5", "--ledger", workspace.ledger]
    assert invoke([*create, *flags]) == 0
    assert shown(workspace, capsys)["privacy_unit"] == ("person" if flags else None)
    assert workspace.run() == 0
    assert shown(workspace, capsys)["privacy_unit"] == "person"


def test_another_source_needs_a_word_that_the_journal_keeps(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    shutil.copy(workspace.folder / "data.csv", workspace.folder / "moved.csv")
    source = ("--source", str(workspace.folder / "moved.csv"))
    assert workspace.run(*source) == 3
    assert "this run reads" in capsys.readouterr().err
    assert len(workspace.manifests()) == 1
    assert workspace.run(*source, "--accept-source") == 0
    assert workspace.run(*source, "--refresh") == 0
    assert [path.rsplit("/")[-1] for path in shown(workspace, capsys)["sources"]] == ["data.csv", "moved.csv"]
    assert invoke(["budget", "history", "visits", "--ledger", workspace.ledger]) == 0
    assert " by --accept-source" in " ".join(capsys.readouterr().out.split())
