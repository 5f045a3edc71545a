"""A policy as people live with it: guardrails bound, submitted by one, approved by another, run, changed, reverted."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.cli.main import invoke
from dpbeam.policy.digest import digest_of

ROOT = Path(__file__).parents[2]

POLICY = """\
# reviewed every spring
version: 1
dataset: visits
source: {format: parquet, path: visits.parquet}
privacy_unit: person
columns:
  person: {type: string}
  city: {type: string}
budget: {epsilon: 10, delta: 1e-5}
run: {epsilon: 1, delta: 1e-7}
stages:
  - name: by_city
    group_by: [city]
    partitions: {private: {strategy: gaussian_thresholding, pre_threshold: 5}}
    bounds: {l0: 2, linf: 1}
    metrics: [count]
    noise: gaussian
"""


class Office:
    """A folder with data, a policy, keys of three people, and the organisation's guardrails."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.keys = {name: self.says("policy", "key", f"{name}.pem").strip() for name in ("alice", "bob", "carol")}
        self.guardrails(approvals=1)

    def guardrails(self, *, approvals: int, more: str = "") -> None:
        (self.folder / "guardrails.yaml").write_text(
            "version: 1\n"
            "run: {max_epsilon: 2, max_delta: 1e-6}\n"
            "partitions: {min_pre_threshold: 5}\n"
            f"approvals: {approvals}\n"
            f"approvers: {{alice: '{self.keys['alice']}', carol: '{self.keys['carol']}'}}\n"
            f"submitters: {{bob: '{self.keys['bob']}'}}\n{more}"
        )

    def says(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = invoke(list(words))
        out = self._capsys.readouterr()
        assert got == code, (words, out.out, out.err)
        return " ".join((out.out + out.err).split()) if code else out.out

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    monkeypatch.chdir(tmp_path)
    for variable in ("DPBEAM_LEDGER", "DPBEAM_GUARDRAILS"):
        monkeypatch.delenv(variable, raising=False)
    rows = {"person": [f"p{i}" for i in range(900)], "city": ["a", "b", "c"] * 300}
    pq.write_table(pa.table(rows), tmp_path / "visits.parquet")
    office = Office(tmp_path, capsys)
    office.write("policy.yaml", POLICY)
    office.says("budget", "create", "policy.yaml")
    return office


def test_a_policy_is_bound_submitted_approved_run_changed_and_reverted(office: Office) -> None:
    says = office.says
    says("policy", "bind", "visits", "--guardrails", "guardrails.yaml")
    refused = says("run", "policy.yaml", code=3)
    assert "no version is active" in refused
    assert "Nothing was charged" in refused
    assert "who is the first" in says("policy", "submit", "policy.yaml", code=3)
    assert "Version 1" in says("policy", "submit", "policy.yaml", "--key", "bob.pem")
    assert "needs 1 approvals and has none" in says("policy", "activate", "visits", "1", code=3)
    assert "is of none of its approvers" in says("policy", "approve", "visits", "1", "--key", "bob.pem", code=3)
    says("policy", "approve", "visits", "1", "--key", "alice.pem")
    says("policy", "activate", "visits", "1")
    made = json.loads(says("run", "policy.yaml", "--json"))

    wider = office.write("wider.yaml", POLICY.replace("epsilon: 1,", "epsilon: 2,").replace("l0: 2", "l0: 3"))
    assert "was never submitted" in says("run", wider, code=3)
    says("policy", "submit", wider, "--key", "bob.pem")
    changes = json.loads(says("policy", "diff", "visits@active", "visits@2", "--json"))["changes"]
    told = {(each["topic"], each["name"]): (each["before"], each["after"], each["meaning"]) for each in changes}
    assert told["guarantee", "epsilon"] == (1, 2, "less private")
    assert told["bounds", "by_city.l0"] == (2, 3, "more of each person counts")
    before, after, meaning = told["noise", "by_city.count"]
    assert (after < before, meaning) == (True, "less noise")
    assert ("partitions", "by_city: kept with 50 %") in told

    says("policy", "approve", "visits", "2", "--key", "carol.pem")
    says("policy", "activate", "visits", "2")
    assert "is version 1" in says("run", "policy.yaml", "--release", "again", code=3)
    json.loads(says("run", wider, "--json"))
    assert "--reason" in says("policy", "revert", "visits", code=2)
    says("policy", "revert", "visits", "--reason", "too much of each person")
    assert "is version 2" in says("run", wider, "--release", "again", code=3)
    json.loads(says("run", "policy.yaml", "--release", "again", "--json"))

    history = json.loads(says("policy", "history", "visits", "--json"))
    assert history["active"] == 1
    assert [event["kind"] for event in history["events"]] == [
        "guardrails_bound", "policy_submitted", "policy_approved", "policy_activated", "policy_submitted",
        "policy_approved", "policy_activated", "policy_reverted",
    ]  # fmt: skip
    assert all(event["actor"] and event["time"] for event in history["events"])
    assert "policy_reverted" in says("budget", "history", "visits")
    assert "verifies" in says("budget", "verify")

    release = made["release_id"]
    says("policy", "show", "visits", "--release", release, "--output", "then.yaml")
    assert (office.folder / "then.yaml").read_bytes() == (office.folder / "policy.yaml").read_bytes()
    plan = says("policy", "show", "visits", "--release", release, "--plan")
    entries = json.loads(says("budget", "history", "visits", "--json"))["entries"]
    (reserved,) = [each for each in entries if each["details"].get("release_id") == release]
    assert reserved["details"]["plan_digest"] == digest_of(json.loads(plan))
    assert re.fullmatch(r"dpbeam \S+", reserved["details"]["code"])


def test_what_breaks_the_guardrails_is_refused_in_check_plan_submit_and_run(office: Office) -> None:
    says = office.says
    wide = office.write(
        "wide.yaml", POLICY.replace("epsilon: 1,", "epsilon: 3,").replace("pre_threshold: 5", "pre_threshold: 4")
    )
    for words in (
        ["policy", "check", wide],
        ["plan", wide],
        ["run", wide],
        ["policy", "submit", wide, "--key", "bob.pem"],
    ):
        refused = says(*words, "--guardrails", "guardrails.yaml", code=3)
        assert "run.epsilon must be at most 2.0 (guardrails: run.max_epsilon), got 3.0" in refused
        assert "pre_threshold must be at least 5 (guardrails: partitions.min_pre_threshold), got 4" in refused
    assert "Within the guardrails" in says("policy", "check", "policy.yaml", "--guardrails", "guardrails.yaml")
    # Bound, they hold without being named, and others can't be named in their place.
    says("policy", "bind", "visits", "--guardrails", "guardrails.yaml")
    assert "run.max_epsilon" in says("run", wide, code=3)
    office.guardrails(approvals=0)
    assert "aren't those that its budget is bound to" in says(
        "run", "policy.yaml", "--guardrails", "guardrails.yaml", code=3
    )


def test_guardrails_are_replaced_by_the_word_of_two_approvers_alone(office: Office) -> None:
    says = office.says
    says("policy", "bind", "visits", "--guardrails", "guardrails.yaml")
    office.guardrails(approvals=0)
    bind = ["policy", "bind", "visits", "--guardrails", "guardrails.yaml"]
    assert "by the word of 2 of alice, carol" in says(*bind, code=3)
    assert "by the word of 2 of alice, carol" in says(*bind, "--key", "alice.pem", code=3)
    assert "is of none of its approvers" in says(*bind, "--key", "bob.pem", code=3)
    says(*bind, "--key", "carol.pem", "--output", "carols.json")
    says(*bind, "--key", "alice.pem", "--approval", "carols.json")
    assert json.loads(says("policy", "history", "visits", "--json"))["approvals_needed"] == 0


def test_an_approval_that_expired_stops_runs(office: Office) -> None:
    says = office.says
    says("policy", "bind", "visits", "--guardrails", "guardrails.yaml")
    says("policy", "submit", "policy.yaml", "--key", "bob.pem")
    expired = says("policy", "approve", "visits", "1", "--key", "alice.pem", "--expires", "2020-01-31", code=3)
    assert "the approval of version 1 by alice is refused: it expired at 2020-01-31T00:00" in expired


def test_an_approval_made_elsewhere_is_taken_as_a_file_and_not_if_it_was_changed(office: Office) -> None:
    says = office.says
    says("policy", "bind", "visits", "--guardrails", "guardrails.yaml")
    says("policy", "submit", "policy.yaml", "--key", "bob.pem")
    says("policy", "approve", "visits", "1", "--key", "alice.pem", "--output", "word.json")
    text = (office.folder / "word.json").read_text()
    approve = ["policy", "approve", "visits", "1", "--approval", "forged.json"]
    office.write("forged.json", text.replace('"expires":"20', '"expires":"21'))
    assert "it isn't signed with the key that the guardrails name for alice" in says(*approve, code=3)
    (office.folder / "forged.json").write_text(text.replace('"by":"alice"', '"by":"carol"'))
    assert "it isn't signed with the key that the guardrails name for carol" in says(*approve, code=3)
    says("policy", "approve", "visits", "1", "--approval", "word.json")
    assert "is version" not in says("policy", "activate", "visits", "1")


def test_a_key_that_others_may_read_is_refused(office: Office) -> None:
    (office.folder / "alice.pem").chmod(0o644)
    assert "may be read by others (mode 0644)" in office.says(
        "policy", "submit", "policy.yaml", "--key", "alice.pem", code=2
    )
    assert (office.folder / "bob.pem").stat().st_mode & 0o777 == 0o600
    assert "is never written over" in office.says("policy", "key", "bob.pem", code=2)


def test_a_budget_larger_than_the_guardrails_allow_is_neither_made_nor_bound(office: Office) -> None:
    office.guardrails(approvals=0, more="budget: {max_epsilon: 9}\n")
    larger = "its budget's epsilon is more than the guardrails allow"
    assert larger in office.says("policy", "bind", "visits", "--guardrails", "guardrails.yaml", code=3)
    other = office.write("other.yaml", POLICY.replace("dataset: visits", "dataset: others"))
    assert larger in office.says("budget", "create", other, "--guardrails", "guardrails.yaml", code=3)


def test_the_file_named_by_the_environment_holds(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.guardrails(approvals=0, more="noises: [laplace]\n")
    monkeypatch.setenv("DPBEAM_GUARDRAILS", "guardrails.yaml")
    assert "noise must be laplace (guardrails: noises), got gaussian" in office.says("run", "policy.yaml", code=3)
    monkeypatch.setenv("DPBEAM_GUARDRAILS", "")
    assert "DPBEAM_GUARDRAILS must not be empty" in office.says("run", "policy.yaml", code=2)


def test_the_page_of_guardrails_works(office: Office) -> None:
    page = (ROOT / "docs" / "guardrails.md").read_text(encoding="utf-8")
    found = [shlex.split(line)[1:] for line in re.findall(r"^    (dpbeam .*)$", page, re.MULTILINE)]
    assert len(found) == 15
    (rules,) = re.findall(r"```yaml-guardrails\n(.*?)```", page, re.DOTALL)
    (people,) = re.findall(r"```yaml-people\n(.*?)```", page, re.DOTALL)
    for key in ("alice.pem", "bob.pem"):
        (office.folder / key).unlink()
    office.write("guardrails.yaml", rules.replace("approvals: 1", "approvals: 0"))
    office.write("wider.yaml", POLICY.replace("l0: 2", "l0: 3"))
    for words in found:
        said = office.says(*words)
        if words[1] == "key":
            people = people.replace("ed25519:…", said.strip(), 1)
        if words[1:] == ["key", "bob.pem"]:
            office.write("guardrails.yaml", rules + people)
    assert json.loads(office.says("policy", "history", "visits", "--json"))["active"] == 1
