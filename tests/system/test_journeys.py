"""What goes wrong with data that nobody prepared ends in a clear stop or a stated coverage, never a quiet wrong number.

Each journey is a new user's: a file, `dpbeam init`, an edit or none, a budget, a run, and what the screen then says.
Noise is real, but where a test says `exact`. Limits lie 20 standard deviations and more from what is expected, so
chance reaches none of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from dpbeam.pipelines.cli.main import invoke

PEOPLE = 1500
CLEAR = {"epsilon": 8.0, "delta": 1e-6}
QUIET = {"epsilon": 40.0, "delta": 1e-5, "meter": "basic"}


class Journey:
    """A folder with a file, and the policy that `init` wrote for it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def begin(self, header: str, lines: list[str], *words: str) -> dict[str, Any]:
        """Writes the file and the policy; gives the policy."""
        Path("t.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        assert invoke(["init", "t.csv", *words, "-o", "policy.yaml"]) == 0
        written: dict[str, Any] = yaml.safe_load(Path("policy.yaml").read_text(encoding="utf-8"))
        return written | {"run": CLEAR, "budget": QUIET}

    def write(self, policy: dict[str, Any]) -> None:
        Path("policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False), encoding="utf-8")
        assert invoke(["budget", "create", "policy.yaml"]) in (0, 3)  # 3: it was created before
        self.capsys.readouterr()

    def run(self, policy: dict[str, Any]) -> int:
        self.write(policy)
        return invoke(["run", "policy.yaml"])

    def said(self) -> str:
        """All that was printed since, words between single blanks."""
        return " ".join("".join(self.capsys.readouterr()).split())

    def released(self) -> list[Path]:
        return sorted(Path("releases").glob("*/*/manifest.json"))

    def table(self) -> dict[str, list[Any]]:
        (table,) = Path("releases").glob("*/*/*.parquet")
        found: dict[str, list[Any]] = pq.read_table(table).to_pydict()
        return found


@pytest.fixture
def journey(tmp_path, monkeypatch, capsys) -> Journey:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPBEAM_LEDGER", raising=False)
    return Journey(tmp_path, capsys)


def passed_and_kept(said: str) -> tuple[float, float]:
    """The shares of rows that passed and that were kept, as the screen states them."""
    found = re.search(r"([\d.e-]+) % \([^)]*\) of rows are within .*? ([\d.e-]+) % \([^)]*\) passed", said)
    assert found is not None, said
    return float(found[2]) / 100, float(found[1]) / 100


def visits(value: str = "{}", people: int = PEOPLE) -> list[str]:
    """A row of each person, in one of three cities."""
    return [f"u{i},{('Oslo', 'Lyon', 'Bern')[i % 3]},{value.format(i % 50)}" for i in range(people)]


def public(policy: dict[str, Any], column: str, **changes: Any) -> dict[str, Any]:
    """The policy with public cities, a count and a mean of a column, whose values lie within [0, 50]."""
    stage = policy["stages"][0] | {
        "partitions": {"public": {"values": ["Oslo", "Lyon", "Bern"]}},
        "bounds": {"l0": 1, "linf": 1},
        "metrics": ["count", {"mean": {"column": column, "low": 0, "high": 50}}],
    }
    return policy | {"stages": [stage | changes]}


# A wrong type


def test_a_wrong_type_in_inits_policy_stops_the_run_and_names_the_column(journey) -> None:
    policy = public(journey.begin("user,city,paid", visits("{} EUR")), "paid")
    policy["columns"]["paid"]["type"] = "float64"  # on_invalid: fail is init's
    assert journey.run(policy) == 4
    said = journey.said()
    assert "column paid breaks on_invalid: fail. A value is not of the column's type." in said
    assert "attempt 1 of 3, 2 left" in said
    assert "EUR" not in said
    assert journey.released() == []


def test_a_wrong_type_whose_rows_are_dropped_is_a_stated_coverage(journey) -> None:
    policy = public(journey.begin("user,city,paid", visits("{} EUR")), "paid")
    policy["columns"]["paid"] = {"type": "float64", "on_invalid": "drop"}
    assert journey.run(policy) == 0
    said = journey.said()
    assert max(passed_and_kept(said)) < 0.1
    assert "Most rows are dropped: look at the types, rules and `where`, by `dpbeam check`." in said


@pytest.mark.usefixtures("exact")  # of noise alone one table in 1,000 goes unnoticed
def test_a_wrong_type_without_coverage_is_told_by_what_is_released(journey) -> None:
    policy = public(journey.begin("user,city,paid", visits("{} EUR")), "paid")
    policy["columns"]["paid"] = {"type": "float64", "on_invalid": "drop"}
    del policy["coverage"]
    journey.write(policy)
    assert invoke(["plan", "policy.yaml"]) == 0
    assert "No coverage is bought: were most rows dropped by a rule" in journey.said()
    warned = "first: no number here is clear of its noise; so it would be if no row counted at all."
    for _ in ("made", "shown again"):
        assert invoke(["run", "policy.yaml"]) == 0
        assert warned in journey.said()
    (report,) = Path("releases").glob("*/*/report.html")
    assert warned in " ".join(report.read_text(encoding="utf-8").split())


def test_the_right_type_is_not_warned_of(journey) -> None:
    policy = public(journey.begin("user,city,paid", visits(), "--sample"), "paid")
    assert journey.run(policy) == 0
    said = journey.said()
    assert min(passed_and_kept(said)) > 0.9
    assert "clear of its noise" not in said
    assert journey.table()["count"] == pytest.approx([PEOPLE / 3] * 3, abs=50)


# An unused bad column


def test_a_broken_column_that_nobody_uses_drops_no_row_and_fails_no_run(journey) -> None:
    policy = journey.begin("user,city,paid,note", [f"{line},##{i}" for i, line in enumerate(visits())])
    policy["columns"]["note"] = {"type": "date", "on_null": "fail", "on_invalid": "fail"}
    policy["columns"]["paid"] = {"type": "float64", "on_invalid": "fail"}
    assert journey.run(public(policy, "paid")) == 0
    said = journey.said()
    assert "no stage, condition or derived column in use needs note" in said
    assert min(passed_and_kept(said)) > 0.9
    assert journey.table()["count"] == pytest.approx([PEOPLE / 3] * 3, abs=50)


# 17000.0 in a column of whole numbers


def salaries(policy: dict[str, Any]) -> dict[str, Any]:
    return public(policy, "paid", metrics=["count", {"mean": {"column": "paid", "low": 10_000, "high": 25_000}}])


def test_a_sample_finds_whole_numbers_with_0_behind_them_and_every_row_counts(journey) -> None:
    policy = journey.begin("user,city,paid", visits("170{:02}.0"), "--sample")
    assert policy["derive"]["paid"]["expression"] == "int64(float64(paid_text))"
    assert journey.run(salaries(policy)) == 0
    assert min(passed_and_kept(journey.said())) > 0.9
    assert journey.table()["paid_mean"] == pytest.approx([17_024.5] * 3, abs=500)


@pytest.mark.parametrize("rule", ["fail", "drop"])
def test_17000_0_declared_as_int64_is_no_release(journey, rule) -> None:
    policy = journey.begin("user,city,paid", visits("170{:02}.0"))
    policy["columns"]["paid"] = {"type": "int64", "on_invalid": rule}
    policy["guardrails"] = {"min_coverage": 0.5}
    assert journey.run(salaries(policy)) == 4
    said = journey.said()
    wanted = {"fail": "column paid breaks on_invalid: fail.", "drop": "guardrails.min_coverage demands 50 % of rows"}
    assert wanted[rule] in said
    assert journey.released() == []


# Cancelled flights


def flights() -> list[str]:
    """Four flights of each plane, of which the first has no delay, since it was cancelled."""
    return [f"N{i % PEOPLE},{'AA' if i % 2 else 'UA'},{'' if i < PEOPLE else i % 40}" for i in range(4 * PEOPLE)]


def test_cancelled_flights_are_a_stated_share_and_check_names_their_column(journey) -> None:
    policy = journey.begin("tail,carrier,delay", flights(), "--sample")
    assert policy["privacy_unit"] == "row"
    assert "protects each row by itself" in journey.said()
    delays = {"column": "delay", "low": 0, "high": 60}
    stage = policy["stages"][0] | {"bounds": {"l0": 2, "linf": 4}, "metrics": ["count", {"mean": delays}]}
    journey.write(policy | {"privacy_unit": "tail", "stages": [stage]})
    assert invoke(["check", "policy.yaml", "--show"]) == 0
    assert "delay, on_null (missing): 1,500 rows, 25.0 %, dropped" in journey.said()
    assert invoke(["run", "policy.yaml"]) == 0
    assert passed_and_kept(journey.said()) == pytest.approx((0.75, 0.75), abs=0.1)


def test_cancelled_flights_whose_delay_must_be_there_end_the_run(journey) -> None:
    policy = journey.begin("tail,carrier,delay", flights(), "--sample")
    policy["columns"]["delay"]["on_null"] = "fail"
    metrics = ["count", {"mean": {"column": "delay", "low": 0, "high": 60}}]
    stage = policy["stages"][0] | {"bounds": {"l0": 2, "linf": 4}, "metrics": metrics}
    assert journey.run(policy | {"privacy_unit": "tail", "stages": [stage]}) == 4
    assert "column delay breaks on_null: fail." in journey.said()
    assert journey.released() == []


# Automatic bounds


def automatic(policy: dict[str, Any]) -> dict[str, Any]:
    auto = {"column": "paid", "low": 0, "high": {"auto": {}}}
    return public(policy, "paid", bounds={"l0": {"auto": {"max": 20}}, "linf": 1}, metrics=["count", {"sum": auto}])


def test_bounds_that_a_run_finds_are_stated_with_the_share_that_they_keep(journey) -> None:
    lines = [f"u{i % PEOPLE},{('Oslo', 'Lyon', 'Bern')[i % 3]},{i % 50}" for i in range(2 * PEOPLE)]
    policy = automatic(journey.begin("user,city,paid", lines, "--sample"))
    policy["run"] = {"epsilon": 20.0, "delta": 1e-6}
    assert journey.run(policy) == 0
    said = journey.said()
    assert re.search(r"first: found l0 = \d+ \(from a noisy histogram; keeps about [\d.]+ % of", said)
    assert re.search(
        r"first: found high of paid_sum = \d+ \(from a noisy histogram; keeps about [\d.]+ % of values", said
    )
    assert min(passed_and_kept(said)) > 0.3
    (manifest,) = journey.released()
    chosen = json.loads(manifest.read_text(encoding="utf-8"))["chosen_bounds"]
    assert {each["parameter"] for each in chosen} == {"l0", "high"}


def test_bounds_that_nothing_tells_end_the_run_before_a_metric_is_drawn(journey) -> None:
    policy = automatic(journey.begin("user,city,paid", visits(people=30), "--sample"))
    policy["run"] = {"epsilon": 0.01, "delta": 1e-6}
    assert journey.run(policy) == 4
    said = journey.said()
    assert "the noisy histograms don't tell which" in said
    assert "No metric was drawn; state the bound, or what it is to be then" in said
    assert "this charge is closed" in said
    assert journey.released() == []


# An empty selection


def test_a_selection_that_keeps_nothing_is_foreseen_and_says_why_and_what_became_of_the_rows(journey) -> None:
    lines = [f"u{i},street {i % 500},{i % 50}" for i in range(PEOPLE)]  # three people a street
    policy = journey.begin("user,street,paid", lines)
    policy["stages"][0] |= {"group_by": ["street"], "bounds": {"l0": 1, "linf": 1}}
    policy["stages"][0]["partitions"] = {"private": {"strategy": "gaussian_thresholding", "pre_threshold": 5}}
    assert journey.run(policy) == 0
    said = journey.said()
    assert "first: no partition was kept. A partition of" in said
    assert "`dpbeam check` shows them." in said
    assert min(passed_and_kept(said)) > 0.9
    assert invoke(["check", "policy.yaml", "--show"]) == 0
    assert "500 with fewer than 5 units, so never kept" in journey.said()


def test_a_selection_that_most_data_leaves_empty_is_said_before_it_is_paid_for(journey) -> None:
    policy = journey.begin("user,city,paid", visits())
    policy["run"] = {"epsilon": 0.005, "delta": 1e-8}
    journey.write(policy)
    for command in (["plan", "policy.yaml"], ["run", "policy.yaml"]):
        assert invoke(command) == 0
        assert "first may well be empty: a partition of" in journey.said()
