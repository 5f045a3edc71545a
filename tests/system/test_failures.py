"""A run that fails says why: in a log of the trust zone, and nothing of it elsewhere; with what is spent and left."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import dpbeam
from dpbeam.errors import InternalError, RunFailed
from dpbeam.ledger.amounts import ZERO
from dpbeam.pipelines.cli import capture
from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.lifecycle import runlog
from dpbeam.reporting.formats import violations
from dpbeam.transforms.steps import write_shards

CANARY = "CANARY-7f3a"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def failing(workspace, monkeypatch):
    """A run fails in a step, by an error of a library that quotes a row; meanwhile others write where they like."""

    def fails(self, element):
        os.write(1, f"C++ on 1: {CANARY}\n".encode())
        os.write(2, f"C++ on 2: {CANARY}\n".encode())
        subprocess.run(["sh", "-c", f"echo a JVM says {CANARY}; echo and {CANARY} >&2"], check=True)
        sys.stderr.write(f"Python says {CANARY}\n")
        logging.getLogger("grpc").info("a logger says %s", CANARY)
        raise LookupError(f"no such key: {CANARY}")
        yield

    monkeypatch.setattr(write_shards._WriteShard, "work", fails)
    workspace.create_budget()
    return workspace


def test_what_a_failing_run_s_libraries_say_is_in_its_log_and_nowhere_else(failing, capfd) -> None:
    assert failing.run() == 4
    (log,) = failing.logs()
    text = log.read_text(encoding="utf-8")
    for said in ("C++ on 1", "C++ on 2", "a JVM says", "Python says", "a logger says", "LookupError: no such key"):
        assert f"{said}: {CANARY}" in text.replace(f"says {CANARY}", f"says: {CANARY}"), said
    assert text.startswith("This log may hold raw values of the data.")
    assert "Reading, bounding, aggregating and adding noise" in text
    said = "".join(capfd.readouterr())
    assert CANARY not in said
    assert f"Log: {log} (it may hold raw values; see docs/exit_codes.md)" in said
    others = [path for path in failing.folder.rglob("*") if path.is_file() and path != log]
    assert [path for path in others if CANARY.encode() in path.read_bytes()] == []


def test_the_log_is_for_this_user_alone_whatever_the_umask(failing, capsys) -> None:
    before = os.umask(0)
    try:
        assert failing.run() == 4
    finally:
        os.umask(before)
    (log,) = failing.logs()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_failed_run_says_what_is_spent_and_how_often_it_may_go_on(failing, capsys) -> None:
    for attempt, left in ((1, "2"), (2, "1"), (3, "none")):
        assert failing.run() == 4
        (charge,) = failing.open_charges()
        said = capsys.readouterr().err
        assert (
            f"{charge.amount} of dataset visits stays spent (charge {charge.id}, attempt {attempt} of 3, {left} left)"
            in said
        )
    assert len(failing.logs()) == 3
    assert failing.run() == 3  # refused: no attempt is left, and there is nothing to log
    assert len(failing.logs()) == 3


def test_the_same_command_goes_on_under_the_same_charge(failing, capsys, monkeypatch) -> None:
    assert failing.run() == 4
    (charge,) = failing.open_charges()
    spent = failing.open_ledger().balance("visits").spent
    monkeypatch.undo()
    assert failing.run() == 0
    (published,) = failing.published_charges()
    assert (published.id, published.attempt) == (charge.id, 2)
    assert failing.open_ledger().balance("visits").spent == spent != ZERO


def test_an_error_as_json_is_all_that_is_printed(failing, capfd) -> None:
    capfd.readouterr()
    assert failing.run("--json") == 4
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert err == ""
    assert violations("error", document) == []
    (charge,) = failing.open_charges()
    error = document["error"]
    assert (error["code"], error["kind"], error["log"]) == (4, "RunFailed", str(failing.logs()[0]))
    assert error["message"] == "step Stage failed with LookupError; nothing was published"
    assert error["remedy"].startswith("the same command on the same input tries again under the same charge")
    assert (error["charge"]["id"], error["charge"]["attempts_left"]) == (charge.id, 2)


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("plan --jsn POLICY --json", "UsageError", 2),
        ("pln --json", "UsageError", 2),
        ("plan nowhere.yaml --json", "PolicyError", 2),
        ("budget show visits --json", "LedgerError", 3),
        ("run POLICY --ledger sqlite:///nowhere.sqlite --json", "LedgerError", 3),
        ("certify nowhere.json --json", "UsageError", 2),
        ("recover --json --force", "UsageError", 2),
    ],
)
def test_every_command_s_error_is_json_where_json_was_asked_for(
    workspace, capsys, monkeypatch, words, kind, code
) -> None:
    monkeypatch.chdir(workspace.folder)
    monkeypatch.delenv("DPBEAM_LEDGER", raising=False)
    if words.startswith("recover"):
        monkeypatch.setenv("DPBEAM_LEDGER", workspace.ledger)
        workspace.create_budget()
        capsys.readouterr()
    arguments = [str(workspace.policy_path) if word == "POLICY" else word for word in words.split()]
    assert invoke(arguments) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert violations("error", document) == []
    assert (document["error"]["kind"], document["error"]["code"], err) == (kind, code, "")


def test_a_policy_s_remedies_stand_apart_in_json(workspace, capsys) -> None:
    workspace.policy["stages"][0]["metrics"] = ["cuont"]
    assert invoke(["plan", str(workspace.policy_path), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "Remedy" not in error["message"]
    assert "Did you mean 'count'?" in error["remedy"]


def test_a_run_that_succeeds_leaves_no_log_unless_it_is_kept(workspace, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    assert not (workspace.output / ".logs").exists()
    assert workspace.run("--keep-log") == 0
    assert len(workspace.logs()) == 1


def test_a_run_that_is_refused_leaves_no_log(workspace, capsys) -> None:
    workspace.policy["budget"] = {"epsilon": 1.0, "delta": 1e-5}
    workspace.create_budget()
    assert workspace.run() == 0
    assert workspace.run("--refresh") == 3
    assert not (workspace.output / ".logs").exists()


def test_a_fault_of_ours_is_an_internal_error_whose_text_is_in_the_log(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()

    def breaks(*_):
        raise LookupError(CANARY)

    monkeypatch.setattr("dpbeam.pipelines.lifecycle.publish.write_tables", breaks)
    assert workspace.run() == 4
    said = capsys.readouterr().err
    (log,) = workspace.logs()
    assert "internal error LookupError at test_failures.py:" in said
    assert "attempt 1 of 3, none left" in said  # what it wrote was drawn
    assert CANARY not in said
    assert f"LookupError: {CANARY}" in log.read_text(encoding="utf-8")


def test_a_log_goes_to_the_folder_that_is_named(failing, capsys) -> None:
    named = failing.folder / "own" / "logs"
    assert failing.run("--log-dir", str(named)) == 4
    assert len(list(named.iterdir())) == 1
    assert failing.logs() == []


@pytest.mark.parametrize("kind", ["open to others", "a link", "no folder"])
def test_a_folder_for_logs_that_others_may_read_is_refused_before_the_charge(workspace, capsys, kind) -> None:
    workspace.create_budget()
    named = workspace.folder / "logs"
    match kind:
        case "open to others":
            named.mkdir()
            named.chmod(0o755)
        case "a link":
            (workspace.folder / "own").mkdir(mode=0o700)
            named.symlink_to(workspace.folder / "own")
        case _:
            named.write_text("")
    assert workspace.run("--log-dir", str(named)) == 2
    assert capsys.readouterr().err == (
        f"dpbeam: the log's folder {named} must be a folder of this user's alone (mode 0700, no link), for logs may "
        "hold raw values. Nothing was charged; `chmod 700` it, or name another with --log-dir\n"
    )
    assert workspace.uncharged()


def test_a_full_log_fails_no_run(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    real = os.open

    def full(path, *rest, **named):
        return (
            real("/dev/full" if str(path).endswith(".log") else path, os.O_WRONLY)
            if str(path).endswith(".log")
            else real(path, *rest, **named)
        )

    monkeypatch.setattr(runlog.os, "open", full)
    monkeypatch.setattr(runlog.os, "fchmod", lambda *_: None)
    assert workspace.run() == 0


def test_the_screen_is_what_it_was_after_a_run(failing, capfd) -> None:
    before = [os.fstat(number).st_ino for number in (1, 2)]
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    assert failing.run() == 4
    assert [os.fstat(number).st_ino for number in (1, 2)] == before
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
    assert capture.screen("stdout") is sys.stdout


def released(workspace, **named):
    return dpbeam.release(
        dpbeam.load_policy(workspace.policy_path), ledger=workspace.ledger, output=workspace.output, **named
    )


def test_in_a_program_of_ones_own_the_streams_stay_and_the_error_names_the_log(failing, capfd, tmp_path) -> None:
    with pytest.raises(RunFailed) as failed:
        released(failing, logs=tmp_path / "logs")
    assert f"C++ on 2: {CANARY}" in capfd.readouterr().err  # the host's streams are the host's
    (log,) = (tmp_path / "logs").iterdir()
    assert failed.value.log == str(log)
    assert failed.value.spent.attempts_left == 2
    assert f"LookupError: no such key: {CANARY}" in log.read_text(encoding="utf-8")
    assert CANARY not in str(failed.value)


def test_in_a_program_of_ones_own_a_fault_of_ours_says_no_value(workspace, capsys, monkeypatch) -> None:
    workspace.create_budget()
    monkeypatch.setattr("dpbeam.pipelines.lifecycle.publish.entries", lambda *_: {}[CANARY])
    with pytest.raises(InternalError) as failed:
        released(workspace)
    assert CANARY not in str(failed.value)
    assert failed.value.__cause__ is None
    assert CANARY in Path(failed.value.log).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--runner=DataflowRunner", "Missing required option: project"),
        ("--runner=DataflowRunner --project=123", "DataflowRunner"),
        ("--runner=FlinkRuner", "Did you mean 'FlinkRunner'?"),
        ("--runer=FlinkRunner", "Did you mean '--runner'?"),
        ("--relase=x", "Did you mean '--release'?"),
        ("--num_workers=many", "Beam can't read a flag: argument --num_workers"),
        ("--runner=FlinkRunner --flink_master=flink", "--flink_master must be HOST:PORT"),
        ("--runner=FlinkRunner --flink_master=flink:port", "--flink_master must be HOST:PORT"),
        ("--runner=PortableRunner --job_endpoint=localhost", "--job_endpoint must be HOST:PORT"),
        ("--runner=SparkRunner --spark_master_url=spark://h", "--spark_master_url must be spark://HOST:PORT"),
        ("--runner=PortableRunner --job_endpoint=h:1 --environment_type=DOKCER", "--environment_type must be one of"),
        (
            "--runner=PortableRunner --job_endpoint=h:1 --environment_type=EXTERNAL --environment_config=pool",
            "--environment_config must be HOST:PORT of the worker pool",
        ),
        (
            "--runner=PortableRunner --job_endpoint=h:1 --environment_type=PROCESS --environment_config=boot",
            "--environment_config must be a JSON object with a command",
        ),
    ],
)
def test_an_option_of_a_runner_that_can_not_work_costs_nothing(workspace, capsys, flags, said) -> None:
    workspace.create_budget()
    assert workspace.run(*flags.split()) == 2
    assert said in capsys.readouterr().err
    assert workspace.uncharged()
    assert workspace.open_charges() == []
    assert not workspace.output.exists()


def test_rows_in_memory_are_logged_only_where_a_folder_is_named(failing, capfd) -> None:
    rows = pa.table({"person": [CANARY] * 9, "place": [CANARY] * 9})
    for named in ({}, {"logs": failing.folder / "logs"}):
        asked = dpbeam.query("visits", source=rows, unit="person", epsilon=1.0, delta=1e-6)
        asked = asked.group_by("place").private().bounds(l0=4, linf=2).count()
        with pytest.raises(RunFailed) as failed:
            dpbeam.release(asked, ledger=failing.ledger, output=failing.output, refresh=True, **named)
        assert (failed.value.log is not None) == bool(named)
    assert failing.logs() == []


@pytest.mark.parametrize("kind", [type("PanicException", (BaseException,), {}), SystemExit])
def test_a_panic_of_a_library_ends_any_command_without_its_text(workspace, capsys, monkeypatch, kind) -> None:
    """Libraries in Rust raise what is no `Exception`."""

    def panics(*_, **__):
        raise kind(CANARY)

    monkeypatch.setattr("dpbeam.policy.load.load_policy", panics)
    assert invoke(["plan", str(workspace.policy_path)]) == 4
    said = "".join(capsys.readouterr())
    assert f"internal error {kind.__name__}" in said
    assert CANARY not in said
