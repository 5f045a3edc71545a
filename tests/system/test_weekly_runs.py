"""The page on weekly runs works as it stands: its policy, its commands in order, its script, its joins."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dpbeam
from dpbeam.pipelines.cli.main import invoke

PAGE = (Path(__file__).parents[2] / "docs" / "weekly_runs.md").read_text(encoding="utf-8")
BUDGET = ["budget", "create", "policy.yaml"]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def block(kind: str, with_text: str) -> str:
    (found,) = [each for each in blocks(kind) if with_text in each]
    return found


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^ {4}(dpbeam .*)$", PAGE, re.MULTILINE)]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the page's policy and the first week's rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPBEAM_LEDGER", raising=False)
    (policy,) = blocks("yaml")
    Path("policy.yaml").write_text(policy, encoding="utf-8")
    Path("weeks").mkdir()
    week("2026-W48")
    rows = "".join(f"p{person},{place}\n" for person in range(300) for place in ("inn", "zoo"))
    Path("visits.csv").write_text(f"person,place\n{rows}", encoding="utf-8")
    Path("cities.csv").write_text("place,city\ninn,Lyon\nzoo,Oslo\n", encoding="utf-8")
    return tmp_path


def week(name: str) -> None:
    rows = "".join(f"p{person}-{name},{('Lyon', 'Oslo')[person % 2]}\n" for person in range(300))
    Path("weeks", f"{name}.csv").write_text(f"person,city\n{rows}", encoding="utf-8")


def names() -> list[str]:
    manifests = Path("releases").glob("visits/*/manifest.json")
    return sorted(dpbeam.read_release(path.parent).manifest.release_name for path in manifests)


def test_the_commands_work_in_the_order_of_the_page(folder, capsys) -> None:
    found = commands()
    assert [words[0] for words in found] == ["rehearse", "budget", "run", "run", "run", "releases", "budget"]
    for words in found:
        if "weeks/2026-W49.csv" in words:
            week("2026-W49")
        assert invoke(words) == 0, (words, capsys.readouterr().err)
    assert names() == ["visits-2026-W48", "visits-2026-W49"]


def test_the_script_of_the_crontab_runs_last_weeks_file_and_again_at_no_cost(folder) -> None:
    (script,) = blocks("sh")
    dated = re.search(r"^week=.*$", script, re.MULTILINE)[0]
    assert re.fullmatch(r"\d{4}-W\d\d\n", subprocess.check_output(["sh", "-c", f"{dated}; echo $week"], text=True))
    text = script.replace("cd /srv/visits\n", "").replace(dated, "week=2026-W48")
    assert invoke(BUDGET) == 0
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["sh", "-c", text], env=env, check=True, capture_output=True)
    assert names() == ["visits-2026-W48"]


def test_the_command_of_the_airflow_task_works(folder) -> None:
    tree = ast.parse(block("python", "airflow"))
    (stated,) = [node.value for node in ast.walk(tree) if getattr(node, "arg", None) == "bash_command"]
    command = eval(compile(ast.Expression(stated), "page", "eval"), {"WEEK": "2026-W48"})  # noqa: S307
    assert invoke(BUDGET) == 0
    assert invoke(shlex.split(command)[1:]) == 0
    assert names() == ["visits-2026-W48"]


@pytest.mark.parametrize("tool", ["polars", "duckdb"])
def test_a_join_makes_a_week_that_can_be_run(folder, tool) -> None:
    exec(block("python", f"import {tool}"), {})  # noqa: S102
    lines = Path("weeks", "joined.csv").read_text(encoding="utf-8").splitlines()
    assert (lines[0], len(lines), set(lines[1:]) >= {"p0,Lyon", "p299,Oslo"}) == ("person,city", 601, True)
    assert invoke(BUDGET) == 0
    assert invoke(["run", "policy.yaml", "--source", "weeks/joined.csv"]) == 0


def test_a_join_in_beam_ends_in_a_release(folder) -> None:
    assert invoke(BUDGET) == 0
    exec(block("python", "import apache_beam"), {})  # noqa: S102
    assert names() == ["visits-2026-W50"]
    (manifest,) = Path("releases").glob("visits/*/manifest.json")
    assert dpbeam.read_release(manifest).period == "2026-W50"


def test_a_release_that_was_withdrawn_is_gone_and_not_made_again_in_silence(folder, capsys) -> None:
    assert invoke(BUDGET) == 0
    assert invoke(["run", "policy.yaml"]) == 0
    (release,) = (path.parent for path in Path("releases").glob("visits/*/manifest.json"))
    for path in release.iterdir():
        path.unlink()
    release.rmdir()
    capsys.readouterr()
    assert invoke(["releases", "visits"]) == 0
    assert "gone" in capsys.readouterr().out
    assert invoke(["run", "policy.yaml"]) == 4
    assert "--refresh" in capsys.readouterr().err
