"""Bad input ends in a clear error or in the declared handling; nothing leaks, and nothing is charged before reading."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.ledger.stores.sqlite.schema import VERSION
from dpbeam.transforms.wire.staging import Area
from tests.helpers.disks import mounted

CANARY = "CANARY-7f3a"
ROOT = Path(__file__).parents[2]


def refused(workspace, capsys, *said: str, flags: tuple[str, ...] = ()) -> None:
    """The run ends with code 2, says `said`, and charges nothing."""
    workspace.create_budget()
    assert workspace.run(*flags) == 2
    error = capsys.readouterr().err
    assert [text for text in said if text not in error] == []
    assert workspace.uncharged()
    assert workspace.manifests() == []


def test_a_lacking_column(workspace, capsys) -> None:
    workspace.csv("a,b", header="person,plaice")
    refused(workspace, capsys, "data.csv", "place")


def test_a_missing_file(workspace, capsys) -> None:
    (workspace.folder / "data.csv").unlink()
    refused(workspace, capsys, "data.csv: no file has this name")


def test_an_empty_file(workspace, capsys) -> None:
    (workspace.folder / "data.csv").write_bytes(b"")
    refused(workspace, capsys, "has no header")


def test_a_truncated_parquet_file(workspace, capsys) -> None:
    path = workspace.folder / "data.parquet"
    pq.write_table(pa.table({"person": ["a"], "place": ["b"], "amount": [1.0]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    workspace.policy["source"] = {"format": "parquet", "path": "data.parquet"}
    refused(workspace, capsys, "data.parquet")


def test_a_column_of_another_type(workspace, capsys) -> None:
    pq.write_table(pa.table({"person": ["a"], "place": ["b"], "amount": ["c"]}), workspace.folder / "data.parquet")
    workspace.policy["columns"]["place"] = {"type": "date"}
    workspace.policy["source"] = {"format": "parquet", "path": "data.parquet"}
    refused(workspace, capsys, "data.parquet", "place")


def test_an_output_folder_that_can_not_be_made(workspace, capsys) -> None:
    workspace.output.write_text("a file stands in its place")
    refused(workspace, capsys, "can't be written", "Nothing was charged")


def test_a_read_only_output_folder(workspace, capsys) -> None:
    with mounted(workspace.output, "-o", "ro"):
        refused(workspace, capsys, "can't be written (Read-only file system)")


def test_a_full_disk_fails_the_run_and_leaves_nothing(workspace, capsys) -> None:
    workspace.create_budget()
    with mounted(workspace.output, "-o", "size=8k"):
        assert workspace.run() == 4
        said = capsys.readouterr().err
        assert "No space left on device" in said
        assert "of dataset visits stays spent (charge " in said
        assert list(workspace.output.rglob("*.parquet")) == []
    assert not workspace.uncharged()


def test_a_header_alone_publishes_an_empty_release(workspace, capsys) -> None:
    workspace.csv()
    workspace.create_budget()
    assert workspace.run() == 0
    assert pq.read_table(workspace.release_folder() / "by_place.parquet").num_rows == 0


def test_public_partitions_nobody_touched_are_published(workspace, capsys, exact) -> None:
    workspace.csv("a,inn,1")
    workspace.policy["stages"][0]["partitions"] = {"public": {"values": ["inn", "zoo"]}}
    workspace.create_budget()
    assert workspace.run() == 0
    rows = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    assert [(row["place"], row["count"]) for row in rows] == [("inn", 1.0), ("zoo", 0.0)]


def test_bad_values_are_dropped_or_replaced_as_declared(workspace, capsys, exact) -> None:
    lines = [
        b"a,inn,1", b"b,inn,nan", b"c,inn,inf", b"d,inn,", b",inn,1", b"e,inn,oops", b"f,\xff,1", b"g,inn,1,9",
        b"h,inn,-inf",
    ]  # fmt: skip
    (workspace.folder / "data.csv").write_bytes(b"\n".join([b"person,place,amount", *lines]) + b"\n")
    workspace.policy["columns"]["amount"] = {"type": "float64", "on_nan": {"replace": 5.0}}
    workspace.create_budget()
    assert workspace.run() == 0
    (row,) = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    assert (row["place"], row["count"], row["amount_sum"]) == ("inn", 2.0, 6.0)


def test_integers_beyond_64_bits_are_invalid(workspace, capsys, exact) -> None:
    workspace.csv("a,inn,9223372036854775807", "b,inn,9223372036854775808", "c,inn,3")
    workspace.policy["columns"]["amount"] = {"type": "int64"}
    workspace.create_budget()
    assert workspace.run() == 0
    (row,) = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    assert (row["count"], row["amount_sum"]) == (2.0, 13.0)


def test_hostile_keys_are_shown_as_text_everywhere(workspace, capsys, exact) -> None:
    hostile = ["<script>alert(1)</script>", "=1+1", "[bold]x[/bold]", "\x1b[31mred"]
    workspace.csv(*(f'a{i},"{key}",1' for i in range(3) for key in hostile))
    workspace.create_budget()
    assert workspace.run() == 0
    screen = capsys.readouterr().out
    folder = workspace.release_folder()
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")
    assert "'=1+1" in (folder / "by_place.csv").read_text(encoding="utf-8")
    assert "[bold]x[/bold]" in screen
    assert "\x1b[31mred" not in screen


FAILS = {
    "on_null": ("amount", b"CANARY-7f3a,inn,"),
    "on_nan": ("amount", b"CANARY-7f3a,inn,nan"),
    "on_inf": ("amount", b"CANARY-7f3a,inn,inf"),
    "on_invalid": ("amount", b"p,inn,CANARY-7f3a"),
    "on_invalid: a wrong width": ("amount", b"p,inn,1,CANARY-7f3a"),
    "on_invalid: beyond 64 bits": ("whole", b"CANARY-7f3a,inn,9223372036854775808"),
    "on_invalid: not UTF-8": ("place", b"CANARY-7f3a,CANARY-7f3a\xff,1"),
    "on_null: no id": ("person", b",CANARY-7f3a,1"),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_rule_that_fails_the_run_names_column_and_rule_and_no_value(workspace, case) -> None:
    column, row = FAILS[case]
    path = workspace.csv(*(f"{CANARY}{i},{CANARY},1" for i in range(50)))
    path.write_bytes(path.read_bytes() + row + b"\n")
    if column == "whole":
        column, workspace.policy["columns"]["amount"]["type"] = "amount", "int64"
    workspace.policy["columns"][column][case.partition(":")[0]] = "fail"
    workspace.create_budget()
    said = everything_said(workspace, "--direct_runner_bundle_repeat=1")
    assert CANARY not in said
    assert f"column {column}" in said
    assert "9223372036854775808" not in said
    assert "of dataset visits stays spent (charge " in said
    assert "attempt 1 of 3, 2 left): the same command on the same input tries again" in said
    assert workspace.manifests() == []
    assert not workspace.uncharged()


def test_a_parquet_file_damaged_in_the_middle_says_nothing_of_its_rows(workspace) -> None:
    path = workspace.folder / "data.parquet"
    ids = [f"{CANARY}{i}" for i in range(3000)]
    table = pa.table({"person": ids, "place": ids, "amount": [1.0] * 3000})
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 40] = bytes(40)
    path.write_bytes(content)
    workspace.policy["source"] = {"format": "parquet", "path": "data.parquet"}
    workspace.create_budget()
    said = everything_said(workspace)
    assert "could not be read to its end" in said
    assert CANARY not in said
    assert workspace.manifests() == []


def test_a_run_that_succeeds_says_nothing_of_a_unit_or_of_a_partition_that_is_not_kept(workspace) -> None:
    alone = [f"{CANARY}alone{i},{CANARY}-{i},1" for i in range(5)]
    workspace.csv(*(f"{CANARY}{i},inn,1" for i in range(300)), *alone)
    workspace.policy["run"]["delta"] = 1e-11
    workspace.create_budget()
    said = everything_said(workspace, "--direct_runner_bundle_repeat=1", code=0)
    assert CANARY not in said
    assert len(workspace.manifests()) == 1


def everything_said(workspace, *flags: str, code: int = 4) -> str:
    """All that a run in a process of its own prints and writes, but to its log, with every logger let through."""
    program = (
        "import logging; logging.basicConfig(level=logging.DEBUG); import dpbeam.pipelines.cli.main as c; c.main()"
    )
    command = [sys.executable, "-c", program, "run", str(workspace.policy_path), "--ledger", workspace.ledger]
    environment = os.environ | {"PYTHONDEVMODE": "1"}
    done = subprocess.run(
        [*command, "--output", str(workspace.output), *flags],
        cwd=ROOT, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-2000:]
    inside = {workspace.folder / "data.csv", workspace.folder / "data.parquet", *workspace.logs()}  # the trust zone
    written = [path for path in workspace.folder.rglob("*") if path.is_file() and path not in inside]
    return done.stdout + done.stderr + "".join(p.read_bytes().decode("latin-1") for p in written)


@pytest.mark.parametrize("runner", ["FnApiRunner", "BundleBasedDirectRunner"])
@pytest.mark.parametrize("step", ["read", "validate", "bound", "accumulate", "noise"])
def test_an_error_of_a_library_in_any_step_leaks_nothing(workspace, step, runner) -> None:
    workspace.csv(*(f"{CANARY}{i},{CANARY},1" for i in range(50)))
    workspace.create_budget()
    target = {
        "read": "dpbeam.reading.formats.read_split",
        "validate": "dpbeam.reading.rows.prepare",
        "bound": "dpbeam.engine.bounding.contributions.bound",
        "accumulate": "dpbeam.engine.aggregation.accumulate.merge",
        "noise": "dpbeam.engine.release.results.noisy_quantities",
    }[step]
    module, name = target.rsplit(".", 1)
    program = (
        "import logging; logging.basicConfig(level=logging.DEBUG)\n"
        f"import {module} as m, pyarrow as pa, dpbeam.pipelines.cli.main as c\n"
        f"def broken(*a, **k): raise pa.ArrowInvalid('In CSV column #0: conversion error of {CANARY}')\n"
        f"m.{name} = broken\nc.main()"
    )
    command = [sys.executable, "-c", program, "run", str(workspace.policy_path), "--ledger", workspace.ledger]
    done = subprocess.run(
        [*command, "--output", str(workspace.output), f"--runner={runner}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "failed with ArrowInvalid" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    (log,) = workspace.logs()
    assert f"conversion error of {CANARY}" in log.read_text(encoding="utf-8")
    assert f"Log: {log} (it may hold raw values" in done.stderr


STAGE = ("stages", 0)
POLICIES = {
    "an unknown key": (("epsilon_per_run",), 1, "epsilon_per_run is not a known key"),
    "epsilon NaN": (("run", "epsilon"), float("nan"), "run.epsilon must be a finite number, got nan"),
    "epsilon infinite": (("run", "epsilon"), float("inf"), "run.epsilon must be a finite number, got inf"),
    "epsilon 0": (("run", "epsilon"), 0, "run.epsilon must be at least 1e-6, got 0"),
    "epsilon negative": (("run", "epsilon"), -1.0, "run.epsilon must be at least 1e-6, got -1"),
    "epsilon a string": (("run", "epsilon"), "1", "run.epsilon must be a number, got '1'"),
    "delta NaN": (("run", "delta"), float("nan"), "run.delta must be a finite number, got nan"),
    "delta infinite": (("run", "delta"), float("inf"), "run.delta must be a finite number, got inf"),
    "delta 0": (("run", "delta"), 0.0, "run.delta must be above 0, got 0"),
    "delta negative": (("run", "delta"), -1e-9, "run.delta must be above 0, got -1e-09"),
    "delta a string": (("run", "delta"), "0.1", "run.delta must be a number, got '0.1'"),
    "l0 0": ((*STAGE, "bounds", "l0"), 0, "stages[0].bounds.l0 must be at least 1, got 0"),
    "low at high": ((*STAGE, "metrics", 2, "sum", "low"), 10.0, "sum.low must be below high, 10.0, got 10.0"),
    "low NaN": ((*STAGE, "metrics", 2, "sum", "low"), float("nan"), "sum.low must be a finite number, got nan"),
    "a stage that climbs": ((*STAGE, "name"), "../x", "stages[0].name must match [a-z][a-z0-9_]*"),
}


@pytest.mark.parametrize("case", POLICIES)
def test_a_policy_that_breaks_a_rule_charges_nothing(workspace, capsys, case) -> None:
    workspace.create_budget()
    (*path, last), value, said = POLICIES[case]
    place = workspace.policy
    for key in path:
        place = place[key]
    place[last] = value
    assert workspace.run() == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Remedy: " in error
    assert workspace.uncharged()
    assert not workspace.output.exists()


def test_two_stages_of_one_name_charge_nothing(workspace, capsys) -> None:
    workspace.create_budget()
    workspace.policy["stages"] *= 2
    assert workspace.run() == 2
    assert "stages[1].name must not stand twice, got 'by_place'" in capsys.readouterr().err
    assert workspace.uncharged()


def test_a_ledger_of_a_newer_version_charges_nothing(workspace, capsys) -> None:
    workspace.create_budget()
    path = workspace.folder / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.commit()
    before = path.read_bytes()
    assert workspace.run() == 3
    error = capsys.readouterr().err
    assert f"has version {VERSION + 1}, this dpbeam knows versions up to {VERSION}" in error
    assert path.read_bytes() == before
    assert workspace.manifests() == []


def test_the_ledger_is_damaged(workspace, capsys) -> None:
    workspace.create_budget()
    path = workspace.folder / "ledger.sqlite"
    path.write_bytes(b"not a database" * 100)
    assert workspace.run() == 3
    assert str(path) in capsys.readouterr().err


def test_a_second_staging_of_one_attempt_is_refused(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    area = Area(path=str(workspace.folder / "s" / "a"), attempt="a")
    area.create()
    with pytest.raises(Exception, match="exists already"):
        area.create()
    area.remove()
    assert not (workspace.folder / "s").exists()
