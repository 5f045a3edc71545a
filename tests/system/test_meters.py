"""Budgets that add up ρ or μ²: from `budget create` over runs to the refusal of the first that doesn't fit."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.metering import metered_cost
from dpbeam.errors import UsageError
from dpbeam.ledger import open_ledger
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.entries import Reserved
from dpbeam.ledger.meters import METERS
from dpbeam.mechanisms import cost_events
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.cli.what_if_text import interval
from dpbeam.reporting.manifest import read_manifest

POLICY = """\
version: 1
dataset: visits
source: {{format: csv, path: people.csv}}
privacy_unit: person
columns:
  person: {{type: string}}
  town: {{type: string}}
budget: {{epsilon: {epsilon}, delta: 1e-6, meter: {meter}}}
run: {{epsilon: 0.5, delta: 1e-8}}
stages:
  - name: by_town
    group_by: [town]
    partitions: {{private: {{strategy: gaussian_thresholding}}}}
    bounds: {{l0: 1, linf: 1}}
    metrics: [count]
    noise: gaussian
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPBEAM_LEDGER", f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    (tmp_path / "people.csv").write_text("person,town\n" + "".join(f"p{i},t{i % 2}\n" for i in range(400)))
    return tmp_path


def written(folder: Path, meter: str, epsilon: float = 1.0) -> str:
    (folder / "policy.yaml").write_text(POLICY.format(meter=meter, epsilon=epsilon))
    return "policy.yaml"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert invoke([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("meter", ["zcdp", "gdp"])
def test_runs_are_charged_in_the_meter_until_the_first_that_does_not_fit(folder, capsys, meter) -> None:
    policy, by = written(folder, meter), METERS[meter]
    assert invoke(["budget", "create", policy]) == 0
    foreseen = printed(capsys, "run", policy, "--dry-run")
    assert (foreseen["version"], foreseen["outcome"]) == (2, "would_charge")
    told = printed(capsys, "budget", "what-if", policy, "--every", "7d")
    made = printed(capsys, "run", policy, "--release", "r0")
    assert (made["version"], made["charge"]["meter"]) == (3, meter)
    manifest = read_manifest(Path(made["path"]) / "manifest.json")
    due = metered_cost(manifest.mechanisms, meter)
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    [charge] = ledger.charges("visits")
    assert charge.amount == Amount.charge(due.loss, due.delta, by)
    assert told["cost"] == foreseen["charge"] == charge.amount.to_json()
    assert invoke(["certify", made["path"]]) == 0
    assert f"meter <code>{meter}" in (Path(made["path"]) / "report.html").read_text()
    shown = printed(capsys, "budget", "show", "visits")
    assert (shown["version"], shown["stated"]["epsilon"], shown["stated"]["delta"]) == (3, 1.0, 1e-6)

    # The rest without their jobs: a ledger counts as many.
    runs = 1
    balance = ledger.balance("visits")
    while charge.amount.fits(balance.left):
        balance = type(balance)(meter=by, cap=balance.cap, spent=balance.spent + charge.amount, held=Amount.zero(by))
        runs += 1
    assert runs == told["runs"]
    assert runs > 2
    events = [each for _ in range(runs) for each in manifest.mechanisms]
    assert certify_events(events, epsilon=1.0, delta=1e-6).epsilon <= 1.0


def test_what_a_charge_pays_for_is_in_the_journal_and_certifies_the_release(folder, capsys) -> None:
    policy = written(folder, "basic")
    assert invoke(["budget", "create", policy]) == 0
    made = printed(capsys, "run", policy)
    assert (made["version"], set(made["charge"])) == (1, {"id", "meter", "epsilon", "delta"})
    [fact] = [
        entry.fact
        for entry in open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}").history("visits")
        if isinstance(entry.fact, Reserved)
    ]
    events = [cost_events.from_json(each) for each in json.loads(fact.events)]
    manifest = read_manifest(Path(made["path"]) / "manifest.json")
    assert tuple(events) == manifest.mechanisms
    assert certify_events(events, epsilon=0.5, delta=1e-8).to_json() == pytest.approx(
        {name: getattr(manifest.certificate, name) for name in ("naive", "rdp", "pld")}
    )


def test_what_if_says_what_was_lost_by_each_method_and_when_the_budget_is_used_up(folder, capsys) -> None:
    policy = written(folder, "zcdp")
    assert invoke(["budget", "create", policy]) == 0
    before = printed(capsys, "budget", "what-if", policy)
    assert before["schedule"] is None
    assert before["so_far"]["composed"]["pld"] == 0
    for name in ("a", "b"):
        assert invoke(["run", policy, "--release", name]) == 0
    found = printed(capsys, "budget", "what-if", policy)
    assert found["runs"] == before["runs"] - 2
    assert found["schedule"]["stated"] is False
    lost = found["so_far"]
    assert 0.5 < lost["composed"]["pld"] <= lost["composed"]["rdp"] <= lost["enforced"]["epsilon"]
    assert lost["enforced"]["valid"] != lost["composed"]["valid"]
    runs = {each["what"]: each["runs"] for each in found["alternatives"]}
    assert runs["this policy, meter gdp"] >= runs["this policy, meter zcdp"] > runs["this policy, meter basic"] == 2
    noise = {each["what"]: each["noise"] for each in found["alternatives"]}
    assert noise["this policy, meter zcdp"] == 1 < 1.8 < noise["half of its run.epsilon, meter zcdp"] < 2.2
    capsys.readouterr()
    assert invoke(["budget", "what-if", policy, "--every", "7d"]) == 0
    assert "With a run each 7 days the last one that fits starts on 20" in " ".join(capsys.readouterr().out.split())


def test_a_policy_of_another_meter_than_its_budgets_is_refused_and_charges_nothing(folder, capsys) -> None:
    assert invoke(["budget", "create", written(folder, "zcdp")]) == 0
    policy = written(folder, "gdp")
    capsys.readouterr()
    assert invoke(["run", policy]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "its budget's meter is zcdp, fixed when it was created, but the run states gdp" in said
    assert open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}").charges("visits") == []
    assert invoke(["budget", "create", policy, "--meter", "zcdp"]) == 2
    assert invoke(["budget", "create", "other", "--epsilon", "1", "--delta", "1e-6", "--meter", "rdp"]) == 2


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("7d", 168), ("2w", 336)])
def test_an_interval_is_hours_days_or_weeks(text, hours) -> None:
    assert interval(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "1.5d", "7", "7 d", "9999999d", "7m"])
def test_what_is_no_interval_is_refused(text) -> None:
    with pytest.raises(UsageError, match="--every must be a whole number of hours, days or weeks"):
        interval(text)
