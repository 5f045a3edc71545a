"""A column that nothing uses drops no rows on any way in: each row here breaks its rule, and each row is released."""

from __future__ import annotations

import json

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.cli.main import invoke
from dpbeam.policy.load import load_policy
from dpbeam.reporting.formats import violations
from tests.conftest import visits
from tests.helpers.beam_pipelines import pipeline, release_of

PEOPLE = 400
STRICT = {"type": "int64", "on_null": "fail", "on_invalid": "fail"}


@pytest.fixture
def unused(workspace):
    """Public places, and a column `note` that is in no row what it is declared as."""
    workspace.policy["columns"]["note"] = STRICT
    workspace.policy["stages"][0] |= {"metrics": ["count"], "partitions": {"public": {"values": ["inn", "zoo"]}}}
    workspace.policy["run"] = {"epsilon": 5.0, "delta": 1e-6}
    workspace.csv(*(f"{row},oops" for row in visits(PEOPLE)), header="person,place,amount,note")
    workspace.create_budget()
    return workspace


def counts(workspace) -> list[float]:
    return pq.read_table(workspace.release_folder() / "by_place.parquet")["count"].to_pylist()


def all_are_there(found: list[float]) -> bool:
    """Noise has a std of about 1; 100 is farther from it than chance goes."""
    return all(abs(count - PEOPLE) < 100 for count in found) and len(found) == 2


def test_in_one_worker(unused) -> None:
    assert unused.run() == 0
    assert all_are_there(counts(unused))


def test_through_shuffles(unused, shuffled) -> None:
    assert unused.run() == 0
    assert all_are_there(counts(unused))


def test_where_each_row_is_a_unit_and_no_column_is_needed(unused) -> None:
    unused.policy |= {"privacy_unit": "row", "dataset": "rows", "columns": {"note": STRICT}}
    unused.policy["stages"] = [
        {"name": "all", "group_by": [], "bounds": {"l0": 1, "linf": 1}, "metrics": ["count"], "noise": "laplace"}
    ]
    unused.create_budget()
    assert unused.run() == 0
    (count,) = pq.read_table(unused.release_folder() / "all.parquet")["count"].to_pylist()
    assert abs(count - 3 * PEOPLE) < 100


def test_on_pipelinedps_own_engine(unused, reference_engine) -> None:
    assert unused.run("--engine=pipelinedp") == 0
    assert all_are_there(counts(unused))


def test_in_a_pipeline_of_somebodys_own_whose_rows_may_lack_it(unused) -> None:
    rows = [{"person": f"p{i}", "place": place} for i in range(PEOPLE) for place in ("inn", "zoo")]

    release = release_of(unused, load_policy(unused.policy_path))
    with release, pipeline() as own:
        own | beam.Create(rows) | release
    assert all_are_there(counts(unused))


def test_a_run_says_which_it_is_before_it_charges(unused, capsys) -> None:
    assert unused.run() == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.index("needs amount, note: rules there drop no rows") < said.index("Charging the ledger")


def test_a_plan_says_which_it_is(unused, capsys) -> None:
    assert invoke(["plan", str(unused.policy_path), "--ledger", unused.ledger]) == 0
    assert "needs amount, note: rules there drop no rows" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["plan", "run", "dry run"])
def test_json_says_it_in_the_one_object_and_stays_alone(unused, capsys, command) -> None:
    capsys.readouterr()
    if command == "plan":
        assert invoke(["plan", str(unused.policy_path), "--ledger", unused.ledger, "--json"]) == 0
    else:
        assert unused.run("--json", *(["--dry-run"] if command == "dry run" else [])) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    document = json.loads(printed.out)
    assert violations(command.replace(" ", "_"), document) == []
    (said,) = document["utility"]["remarks"] if command == "plan" else document["remarks"]
    assert said.startswith("no stage, condition or derived column in use needs amount, note: ")
