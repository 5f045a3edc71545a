"""What comes with no extra is enough to plan a release, to verify one and to keep a ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"apache_beam", "pipeline_dp", "grpc", "requests"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
from dpbeam.pipelines.cli.main import main
main()
"""


@pytest.fixture
def dpbeam(workspace):
    """`dpbeam` where neither Beam nor PipelineDP, nor what comes with them alone, can be imported: (code, out, err)."""

    def ran(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words], cwd=workspace.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DPBEAM_LEDGER": workspace.ledger},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return ran


def done(said: tuple[int, str, str]) -> str:
    code, out, error = said
    assert code == 0, error
    return out


def test_a_release_is_verified_and_a_ledger_read(workspace, dpbeam, capsys) -> None:
    workspace.create_budget()
    assert workspace.run() == 0
    assert "certified" in done(dpbeam("certify", str(workspace.newest())))
    assert json.loads(done(dpbeam("budget", "show", "visits", "--json")))["dataset"] == "visits"
    assert workspace.release_folder().name in done(dpbeam("budget", "history", "visits", "--json"))
    assert "The ledger verifies" in done(dpbeam("budget", "verify"))
    assert "Nothing to settle" in done(dpbeam("recover"))


def test_a_policy_is_begun_planned_and_given_a_budget(workspace, dpbeam) -> None:
    assert "privacy_unit" in done(dpbeam("init", "data.csv"))
    policy = str(workspace.policy_path)
    assert json.loads(done(dpbeam("plan", policy, "--json")))["dataset"] == "visits"
    assert "Nothing is spent yet" in done(dpbeam("budget", "create", policy))


def test_a_run_says_what_to_install(workspace, dpbeam) -> None:
    workspace.create_budget()
    code, out, error = dpbeam("run", str(workspace.policy_path))
    assert (code, out) == (2, "")
    assert error.splitlines()[-1] == (
        "dpbeam: Apache Beam, which runs a release's jobs, isn't installed here; `pip install 'dpbeam[beam]'` brings "
        "it (in a checkout: '.[beam]')"
    )
    assert workspace.uncharged()
