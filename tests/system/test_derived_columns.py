"""Whole runs over derived columns, lookups and others: the same results as plain Python's, on both engines."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from dpbeam.pipelines.jobs import workers
from dpbeam.pipelines.lifecycle import inputs
from dpbeam.reporting.certify import certify

ROOT = Path(__file__).parents[2]
ENGINE = "--engine=pipelinedp"
DERIVE = {
    "town": {"expression": "upper(trim(place))"},
    "day": {"expression": "parse_date(spoken, '%-d.%-m.%Y')"},
    "month": {"expression": "month(day)"},
    "head": {"expression": "amount / guests", "on_invalid": {"replace": 0}},
    "region": {"lookup": "town", "table": "towns.csv", "key": "name", "on_null": {"replace": "elsewhere"}},
    "size": {"expression": "case when guests > 2 then 'many' when guests > 0 then 'few' end"},
}
PLACES, REGIONS = ("inn ", "Zoo", "x", " bar"), {"INN": "north", "ZOO": "south", "X": ""}
ROWS = [
    (f"p{i % 60}", PLACES[i % 4], (i % 23) * 0.5, i % 5, f"{1 + i % 31}.{1 + i % 3}.2026")
    for i in range(180)
]  # fmt: skip


def prepared(workspace, stage: dict, derive: dict = DERIVE) -> None:
    workspace.policy["columns"] |= {"guests": {"type": "int64"}, "spoken": {"type": "string"}}
    workspace.policy["derive"] = derive
    workspace.policy["where"] = [{"column": "size", "op": "in", "value": ["many", "few"]}] if "size" in derive else []
    workspace.policy["budget"] = {"epsilon": 1000.0, "delta": 0.1}
    workspace.policy["stages"] = [{"name": "by_place", "noise": "gaussian"} | stage]
    workspace.csv(*(",".join(map(str, row)) for row in ROWS), header="person,place,amount,guests,spoken")
    towns = "".join(f"{name},{region}\n" for name, region in REGIONS.items())
    (workspace.folder / "towns.csv").write_text("name,region\n" + towns, encoding="utf-8")
    workspace.create_budget()


def wanted() -> dict[tuple[str, int], tuple[int, int, float]]:
    """Rows, people and the sum of amounts a head by region and month, straight from the definitions."""
    found = defaultdict(list)
    for person, place, amount, guests, spoken in ROWS:
        day, month, year = map(int, spoken.split("."))
        try:
            date(year, month, day)
        except ValueError:
            continue
        if guests == 0:  # no size
            continue
        region = REGIONS.get(place.strip().upper()) or "elsewhere"
        found[region, month].append((person, amount / guests))
    return {key: (len(rows), len({p for p, _ in rows}), sum(v for _, v in rows)) for key, rows in found.items()}


STAGE = {
    "group_by": ["region", "month"],
    "partitions": {"private": {"strategy": "truncated_geometric"}},
    "bounds": {"l0": 50, "linf": 50},
    "metrics": ["count", "privacy_id_count", {"sum": {"column": "head", "low": 0.0, "high": 16.0}}],
}


def released(workspace) -> list[dict]:
    return pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()


@pytest.fixture(params=["in one worker", "in several passes", "through shuffles"])
def plan(request, monkeypatch) -> None:
    """Each way that a job may go about its rows."""
    if request.param == "in several passes":
        monkeypatch.setattr(workers, "MAX_ROOM_BYTES", 200)
        monkeypatch.setattr(inputs, "MIN_SHARDS", 5)
        monkeypatch.setattr(inputs, "MAX_SHARDS", 5)
    if request.param == "through shuffles":
        request.getfixturevalue("shuffled")


def compared(workspace) -> None:
    expected = wanted()
    found = {(row["region"], row["month"]): row for row in released(workspace)}
    assert found.keys() == expected.keys()
    for key, (rows, people, total) in expected.items():
        row = found[key]
        assert (row["count"], row["privacy_id_count"]) == (rows, people)
        assert row["head_sum"] == pytest.approx(total, abs=1e-4)


@pytest.mark.usefixtures("plan", "exact")
def test_derived_columns_give_what_the_definitions_say(workspace, capsys) -> None:
    prepared(workspace, STAGE)
    assert workspace.run() == 0, capsys.readouterr().err
    compared(workspace)


@pytest.mark.usefixtures("reference_engine", "exact", "exact_pipelinedp")
def test_pipelinedps_engine_gives_the_same(workspace, capsys) -> None:
    prepared(workspace, STAGE)
    assert workspace.run(ENGINE) == 0, capsys.readouterr().err
    compared(workspace)


def dpbeam(workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "dpbeam", *arguments, "--ledger", workspace.ledger]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_of_the_program_releases_derived_columns(workspace) -> None:
    prepared(workspace, STAGE)
    flags = ("--output", str(workspace.output), "--runner=DirectRunner", "--direct_running_mode=in_memory")
    done = dpbeam(workspace, "run", str(workspace.policy_path), *flags)
    assert done.returncode == 0, done.stderr
    certify(workspace.release_folder() / "manifest.json")
    names = pq.read_schema(workspace.release_folder() / "by_place.parquet").names
    assert {"region", "month", "count", "privacy_id_count", "head_sum"} <= set(names)


def test_a_rule_that_fails_says_no_value(workspace) -> None:
    prepared(workspace, STAGE)
    workspace.policy["derive"] = DERIVE | {"day": DERIVE["day"] | {"on_invalid": "fail"}}
    flags = ("--output", str(workspace.output))
    done = dpbeam(workspace, "run", str(workspace.policy_path), *flags)
    assert done.returncode == 4
    assert "derived column day breaks on_invalid: fail" in done.stderr
    said = done.stdout + done.stderr
    assert not [row[4] for row in ROWS if row[4] in said]


def test_an_error_of_the_program_names_line_and_column(workspace) -> None:
    prepared(workspace, STAGE)
    workspace.policy["derive"] = DERIVE | {"head": {"expression": "amount / gusts"}}
    path = workspace.policy_path
    line = yaml.safe_dump(workspace.policy, sort_keys=False).split("amount / gusts")[0].count("\n") + 1
    done = dpbeam(workspace, "run", str(path))
    assert done.returncode == 2
    place = f"policy.yaml:{line}:26: derive.head.expression is wrong at character 10: 'gusts' is no column"
    assert place in "".join(done.stderr.split("\n")).replace(" " * 2, " ") or place in done.stderr


ELSE = {
    "group_by": ["place"],
    "partitions": {"public": {"values": ["inn ", "none"], "other": "else"}},
    "metrics": ["count", "privacy_id_count", {"distinct_count": {"column": "place"}}],
}


@pytest.mark.parametrize(("bounds", "others"), [({"l0": 9, "linf": 9}, 180), ({"l0": 1, "linf": 1}, 60)])
@pytest.mark.usefixtures("plan", "exact")
def test_all_that_is_not_listed_is_one_partition_when_it_is_bounded(workspace, capsys, bounds, others) -> None:
    """Sixty people with three places each that aren't listed: an `other` has `linf` rows of each, not of each place."""
    prepared(workspace, ELSE | {"bounds": bounds}, derive={})
    rows = [f"p{i % 60},{place}{i % 60},1,1,1.1.2026" for i in range(60) for place in ("a", "b", "c")]
    workspace.csv(*rows, header="person,place,amount,guests,spoken")
    assert workspace.run() == 0, capsys.readouterr().err
    found = {
        row["place"]: (row["count"], row["privacy_id_count"], row["place_distinct_count"])
        for row in released(workspace)
    }
    assert found == {"inn ": (0, 0, 0), "none": (0, 0, 0), "else": (others, 60, others)}


@pytest.mark.usefixtures("plan", "exact")
def test_rows_of_their_own_have_an_other_too(workspace, capsys) -> None:
    prepared(workspace, ELSE | {"bounds": {"l0": 1, "linf": 1}, "metrics": ["count"]}, derive={})
    workspace.policy["privacy_unit"] = "row"
    workspace.policy["dataset"] = "rows"
    workspace.create_budget()
    assert workspace.run() == 0, capsys.readouterr().err
    assert {row["place"]: row["count"] for row in released(workspace)} == {"inn ": 45, "none": 0, "else": 135}


@pytest.mark.usefixtures("plan", "exact")
def test_automatic_bounds_know_the_other(workspace, capsys) -> None:
    """A person's places that aren't listed are one partition for the histogram of l0, too."""
    bounds = {"l0": {"auto": {"max": 50}}, "linf": 20}
    prepared(workspace, ELSE | {"bounds": bounds, "metrics": ["privacy_id_count"]}, derive={})
    rows = [f"p{i},{place},1,1,1.1.2026" for i in range(400) for place in "abcdefgh"]
    workspace.csv(*rows, header="person,place,amount,guests,spoken")
    assert workspace.run() == 0, capsys.readouterr().err
    text = (workspace.release_folder() / "manifest.json").read_text(encoding="utf-8")
    (chosen,) = yaml.safe_load(text)["chosen_bounds"]
    assert chosen["value"] == 1


@pytest.mark.usefixtures("reference_engine", "exact", "exact_pipelinedp")
def test_pipelinedps_engine_has_the_same_other(workspace, capsys) -> None:
    prepared(workspace, ELSE | {"bounds": {"l0": 9, "linf": 9}, "metrics": ["count", "privacy_id_count"]}, derive={})
    assert workspace.run(ENGINE) == 0, capsys.readouterr().err
    found = {row["place"]: (row["count"], row["privacy_id_count"]) for row in released(workspace)}
    assert found == {"inn ": (45, 15), "none": (0, 0), "else": (135, 45)}


@pytest.mark.parametrize("strategy", ["truncated_geometric", "gaussian_thresholding", "dp_sips", "mad2r"])
@pytest.mark.usefixtures("plan")
def test_what_is_not_kept_of_one_private_key_counts_in_an_other(workspace, capsys, strategy) -> None:
    private = {"strategy": strategy, "pre_threshold": 100, "other": True}
    stage = {"group_by": ["place"], "partitions": {"private": private}, "bounds": {"l0": 3, "linf": 1}}
    prepared(workspace, stage | {"metrics": ["count", "privacy_id_count"]}, derive={})
    workspace.policy["run"] = {"epsilon": 20.0, "delta": 6e-12}
    rows = [f"p{i},{place},1,1,1.1.2026" for i in range(500) for place in ("inn", f"x{i}", f"y{i}")]
    workspace.csv(*rows, header="person,place,amount,guests,spoken")
    assert workspace.run() == 0, capsys.readouterr().err
    found = {(row["place"], row["level"]): row for row in released(workspace)}
    assert set(found) == {("inn", 1), (None, 0)}
    assert abs(found["inn", 1]["count"] - 500) < 40
    assert abs(found[None, 0]["count"] - 1000) < 80
    assert abs(found[None, 0]["privacy_id_count"] - 500) < 40
    certify(workspace.release_folder() / "manifest.json")
