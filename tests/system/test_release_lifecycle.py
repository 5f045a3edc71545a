"""One policy taken through its whole life on a real runner: what a user sees, and what is left behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dpbeam.ledger.amounts import Amount
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import aggregate
from dpbeam.pipelines.lifecycle import publish
from dpbeam.reporting.formats import violations

ROOT = Path(__file__).parents[2]


def test_a_run_publishes_files_that_certify(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    folder = workspace.release_folder()
    assert sorted(path.name for path in folder.iterdir()) == [
        "by_place.csv",
        "by_place.parquet",
        "manifest.json",
        "report.html",
    ]
    assert invoke(["certify", str(folder / "manifest.json"), str(folder)]) == 0
    assert workspace.left_behind() == []


def test_nothing_in_a_release_says_how_long_its_run_took(workspace, capsys, monkeypatch) -> None:
    """Which depends on all rows there are, also on those that bounding leaves out."""
    monkeypatch.setattr(publish, "new_release_id", lambda _: "20200102T030405Z-00c0ffee")
    workspace.create_budget()
    assert workspace.run() == 0
    folder = workspace.release_folder()
    assert json.loads((folder / "manifest.json").read_text())["created"] == "2020-01-02T03:04:05Z"
    begin_ns = int(datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc).timestamp()) * 10**9
    assert {path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == {begin_ns}


def test_asked_again_a_run_gives_the_same_release_at_no_cost(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run("--json") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    before = {path.name: path.read_bytes() for path in workspace.release_folder().iterdir()}
    assert workspace.run("--json") == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["release_id"] == second["release_id"]
    assert {path.name: path.read_bytes() for path in workspace.release_folder().iterdir()} == before
    assert workspace.open_ledger().balance("visits").spent == Amount.charge(1.0, 1e-6)


def test_what_a_policy_says_to_readers_stands_in_manifest_and_report_and_costs_nothing_to_change(workspace) -> None:
    workspace.policy["about"] = {"owner": "Ward 3", "contact": "ward3@example.org"}
    workspace.create_budget()
    assert workspace.run() == 0
    folder = workspace.release_folder()
    assert json.loads((folder / "manifest.json").read_text())["about"] == workspace.policy["about"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "<dt>Contact</dt><dd><bdi>ward3@example.org</bdi></dd>" in report
    assert invoke(["certify", str(folder / "manifest.json")]) == 0
    workspace.policy["about"]["contact"] = "ward4@example.org"
    assert workspace.run() == 0
    assert workspace.release_folder() == folder
    assert workspace.open_ledger().balance("visits").spent == Amount.charge(1.0, 1e-6)


def test_every_json_output_keeps_its_schema(workspace, capsys) -> None:
    workspace.create_budget()
    for format_name, command in {
        "plan": ["plan", str(workspace.policy_path), "--ledger", workspace.ledger, "--json"],
        "run": [
            "run",
            str(workspace.policy_path),
            "--ledger",
            workspace.ledger,
            "--output",
            str(workspace.output),
            "--json",
        ],
        "budget": ["budget", "show", "visits", "--ledger", workspace.ledger, "--json"],
    }.items():
        capsys.readouterr()
        assert invoke(command) == 0
        assert violations(format_name, json.loads(capsys.readouterr().out.splitlines()[-1])) == []


def test_refresh_makes_another_release_and_charges_it(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    assert workspace.run("--refresh") == 0
    assert len(workspace.manifests()) == 2
    assert workspace.open_ledger().balance("visits").spent == Amount.charge(2.0, 2e-6)


def test_another_name_is_another_release(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run("--release", "a") == 0
    assert workspace.run("--release", "b") == 0
    assert len(workspace.manifests()) == 2


def test_changed_input_is_another_release(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    os.utime(workspace.folder / "data.csv", ns=(1, 1))
    assert workspace.run() == 0
    assert len(workspace.manifests()) == 2


def test_an_empty_budget_refuses_with_exit_code_3_and_says_what_can_be_done(workspace, capsys) -> None:
    workspace.policy["budget"] = {"epsilon": 1.5, "delta": 1e-5}
    workspace.create_budget()
    assert workspace.run() == 0
    capsys.readouterr()
    assert workspace.run("--refresh") == 3
    said = capsys.readouterr().err
    assert "the run asks for ε 1, δ 0.000001, but only ε 0.5, δ 0.000009 is left" in said
    assert "What you can do:" in said
    assert len(workspace.manifests()) == 1


def test_without_a_budget_nothing_runs(workspace, capsys) -> None:
    assert workspace.run() == 3
    assert "create a budget first" in capsys.readouterr().err
    assert workspace.manifests() == []


def test_a_policy_that_states_another_cap_is_refused(workspace, capsys) -> None:
    workspace.create_budget()
    workspace.policy["budget"]["epsilon"] = 11.0
    assert workspace.run() == 3
    assert "the ledger's cap is the authority" in capsys.readouterr().err.lower()


def test_csv_parquet_and_report_show_the_same_values(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    folder = workspace.release_folder()
    parquet = pq.read_table(folder / "by_place.parquet").to_pylist()
    with (folder / "by_place.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert [row["place"] for row in rows] == [row["place"] for row in parquet]
    for text, value in zip(rows, parquet, strict=True):
        assert all(float(text[name]) == value[name] for name in value if name != "place")


def test_rows_are_sorted_by_key(workspace, capsys, exact) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    places = pq.read_table(workspace.release_folder() / "by_place.parquet")["place"].to_pylist()
    assert places == ["inn", "x0", "x1", "x2", "zoo"]


@pytest.mark.parametrize("name", ["by_place.parquet", "by_place.csv", "report.html", "manifest.json"])
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_release_that_was_damaged_since_is_not_given_again(workspace, capsys, name, how) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    path = workspace.release_folder() / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    capsys.readouterr()
    assert workspace.run() == 4
    said = capsys.readouterr().err
    assert f"{'its manifest' if name == 'manifest.json' else f'its file {name}'} is gone or was changed" in said
    assert workspace.open_ledger().balance("visits").spent == Amount.charge(1.0, 1e-6)


def test_a_file_that_somebody_else_puts_into_the_folder_stops_publishing(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    write_tables = publish.write_tables

    def with_another(folder, *rest):
        write_tables(folder, *rest)
        (folder / "other.csv").write_text("1")

    monkeypatch.setattr(publish, "write_tables", with_another)
    assert workspace.run() == 4
    assert "doesn't hold the files that were just written" in capsys.readouterr().err
    assert workspace.manifests() == []


@pytest.mark.parametrize("how", ["grows", "is replaced", "is removed"])
def test_a_source_that_changes_while_it_is_read_publishes_nothing(workspace, capsys, monkeypatch, how) -> None:
    workspace.create_budget()
    path, run = workspace.folder / "data.csv", aggregate.run

    def changes(*job):
        shuffles = run(*job)
        match how:
            case "grows":
                path.write_bytes(path.read_bytes() + b"p1,inn,1\n")
            case "is replaced":
                stat = path.stat()
                shutil.copy(path, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            case "is removed":
                path.unlink()
        return shuffles

    monkeypatch.setattr(aggregate, "run", changes)
    assert workspace.run() == 4
    assert "data.csv has changed since it was checked" in capsys.readouterr().err
    assert workspace.manifests() == []
    assert workspace.left_behind() == []


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_is_refused(workspace, capsys, link) -> None:
    workspace.create_budget()
    link(workspace.folder / "data.csv", workspace.folder / "data2.csv")
    assert workspace.run("--source", str(workspace.folder / "data*.csv")) == 2
    assert "is the same file as" in capsys.readouterr().err
    assert workspace.open_charges() == []


def test_a_terminal_without_unicode_shows_a_release_all_the_same(workspace) -> None:
    workspace.create_budget()
    command = [sys.executable, "-m", "dpbeam.pipelines.aggregate", "--policy", str(workspace.policy_path)]
    flags = ["--ledger", workspace.ledger, "--output", str(workspace.output)]
    done = subprocess.run(
        [*command, *flags],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "This release cost \\u03b5 1" in done.stdout


@pytest.mark.parametrize("example", ["ngrams", "adult"])
def test_the_examples_run(example, tmp_path, capsys) -> None:
    policy, ledger = ROOT / "examples" / example / "policy.yaml", f"sqlite:///{tmp_path / 'l.sqlite'}"
    assert invoke(["budget", "create", str(policy), "--ledger", ledger]) == 0
    assert invoke(["run", str(policy), "--ledger", ledger, "--output", str(tmp_path / "out")]) == 0
    (manifest,) = tmp_path.glob("out/*/*/manifest.json")
    assert invoke(["certify", str(manifest)]) == 0


def test_the_job_starts_the_beam_way(workspace) -> None:
    workspace.create_budget()
    command = [sys.executable, "-m", "dpbeam.pipelines.aggregate", "--policy", str(workspace.policy_path)]
    flags = ["--ledger", workspace.ledger, "--output", str(workspace.output), "--runner", "FnApiRunner", "--json"]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cached"] is False
    assert done.stderr == ""


def test_pipelinedp_is_loaded_for_its_own_engine_alone() -> None:
    """It takes time, and warns as it is compiled under Python 3.12 and later."""
    modules = "dpbeam.pipelines.cli.main, dpbeam.pipelines.lifecycle.release"
    check = f"import {modules}, sys; sys.exit('pipeline_dp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--no_such_flag=1", "neither dpbeam nor Beam knows --no_such_flag=1"),
        ("--direct_running_mode=multi_threading", "--direct_running_mode=multi_threading is refused"),
        (
            "--direct_num_workers=many",
            "Beam can't read a flag: argument --direct_num_workers: invalid int value: 'many'",
        ),
        ("--runner=NoSuchRunner", "--runner=NoSuchRunner: Beam has no such runner here"),
        ("--direct_running_mod=multi_threading", "neither dpbeam nor Beam knows --direct_running_mod=multi_threading"),
    ],
)
def test_a_bad_runner_flag_is_named_before_anything_is_charged(workspace, capsys, flag, said) -> None:
    workspace.create_budget()
    assert workspace.run(flag) == 2
    assert said in capsys.readouterr().err
    assert workspace.open_charges() == []


def test_several_files_and_a_pattern_are_one_input(workspace, capsys, exact) -> None:
    workspace.csv("a,inn,1", name="one.csv")
    workspace.csv("b,inn,2", "a,zoo,3", name="two.csv")
    workspace.create_budget()
    assert workspace.run("--source", str(workspace.folder / "[ot]*.csv")) == 0
    rows = pq.read_table(workspace.release_folder() / "by_place.parquet").to_pylist()
    assert [(row["place"], row["count"], row["amount_sum"]) for row in rows] == [("inn", 2.0, 3.0), ("zoo", 1.0, 3.0)]


def test_init_writes_a_policy_that_plans(workspace, capsys, tmp_path) -> None:
    target = tmp_path / "first.yaml"
    assert invoke(["init", str(workspace.folder / "data.csv"), "--output", str(target)]) == 0
    assert invoke(["plan", str(target), "--ledger", workspace.ledger]) == 0
    assert "p1" not in target.read_text()


def test_a_count_that_selected_its_partition_is_released_with_its_bias(workspace, capsys) -> None:
    (stage,) = workspace.policy["stages"]
    stage["partitions"]["private"] = {"strategy": "gaussian_thresholding", "pre_threshold": 3}
    workspace.create_budget()
    assert workspace.run() == 0, capsys.readouterr().err
    folder = workspace.release_folder()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert [m["metric"] for m in manifest["mechanisms"]] == ["partitions", "count", "amount_sum", "amount_mean.sum"]
    least = manifest["mechanisms"][0]["threshold"] + 2
    rows = pq.read_table(folder / "by_place.parquet").to_pylist()
    assert {row["place"] for row in rows} >= {"inn", "zoo"}
    for row in rows:
        assert row["privacy_id_count"] >= least
        assert row["privacy_id_count_bias"] >= 0
        assert 3 <= row["privacy_id_count_low"] <= row["privacy_id_count"] <= row["privacy_id_count_high"]
    assert "privacy_id_count_bias" in (folder / "report.html").read_text(encoding="utf-8")
