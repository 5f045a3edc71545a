"""`dpbeam plan` shows what results will be like, and with `--strict` ends with 3 where the budget isn't enough."""

from __future__ import annotations

import json

import pytest

from dpbeam.pipelines.cli.main import invoke


def planned(workspace, capsys, *flags):
    capsys.readouterr()
    code = invoke(["plan", str(workspace.policy_path), "--ledger", workspace.ledger, *flags])
    return code, *capsys.readouterr()


def test_the_screen_shows_each_strategy_and_the_intervals_by_size(workspace, capsys) -> None:
    workspace.create_budget()
    code, out, _ = planned(workspace, capsys)
    assert code == 0
    for words in ("truncated_geometric *", "laplace_thresholding", "gaussian_thresholding", "dp_sips", "10,000"):
        assert words in out


def test_json_has_the_same_figures(workspace, capsys) -> None:
    workspace.create_budget()
    _, out, _ = planned(workspace, capsys, "--json")
    utility = json.loads(out)["utility"]
    assert [each["strategy"] for each in utility["strategies"] if each["is_stated"]] == ["truncated_geometric"]
    assert {each["size"] for each in utility["sizes"]} == {100, 1_000, 10_000}
    assert utility["same"] == []


def test_what_is_left_is_enough(workspace, capsys) -> None:
    workspace.create_budget()
    assert planned(workspace, capsys, "--strict")[0] == 0


def test_more_than_what_is_left_is_refused_after_the_plan_is_shown(workspace, capsys) -> None:
    workspace.policy["budget"] = {"epsilon": 1.0, "delta": 1e-5}
    workspace.create_budget()
    workspace.policy["budget"] = {"epsilon": 2.0, "delta": 1e-5}
    workspace.policy["run"]["epsilon"] = 1.5
    code, out, err = planned(workspace, capsys, "--strict")
    assert code == 3
    assert "not enough for this run" in out
    assert err == (
        "dpbeam: dataset visits: the run asks for ε 1.5, δ 0.000001, but only ε 1, δ 0.00001 is left of the cap ε 1, "
        "δ 0.00001 (spent ε 0, δ 0; held by unfinished runs ε 0, δ 0). Nothing was charged. What you can do: ask for "
        "less (run.epsilon, run.delta); read a published release again under its name, at no cost.\n"
    )
    assert planned(workspace, capsys)[0] == 0


def test_with_json_the_refusal_is_the_one_object(workspace, capsys) -> None:
    workspace.policy["budget"] = {"epsilon": 1.0, "delta": 1e-5}
    workspace.create_budget()
    workspace.policy |= {"budget": {"epsilon": 2.0, "delta": 1e-5}, "run": {"epsilon": 1.5, "delta": 1e-6}}
    code, out, _ = planned(workspace, capsys, "--strict", "--json")
    assert code == 3
    assert json.loads(out)["error"]["kind"] == "Refused"


def test_without_a_ledger_what_the_policy_declares_is_whole(workspace, capsys) -> None:
    assert planned(workspace, capsys, "--strict")[0] == 0


def test_a_budget_that_nobody_stated_isnt_enough(workspace, capsys) -> None:
    del workspace.policy["budget"]
    code, _, err = planned(workspace, capsys, "--strict", "-q")
    assert code == 3
    assert err.startswith("dpbeam: there is no ledger at ")


@pytest.mark.parametrize("flags", [[], ["--strict"]])
def test_an_epsilon_by_which_metrics_say_nothing_isnt_enough(flags, workspace, capsys) -> None:
    workspace.policy["run"]["epsilon"] = 1e-4
    workspace.create_budget()
    code, out, err = planned(workspace, capsys, *flags)
    assert code == (3 if flags else 0)
    said = "the noise of count is as large as all it could be, in a partition of 10,000 too"
    assert said in " ".join(out.split())
    assert (said in err) == bool(flags)
