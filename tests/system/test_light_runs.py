"""A release that is there already comes back without Beam; one that is to be made asks for it before it is charged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOW = "\nimport sys; sys.stderr.write('\\n' + '\\n'.join(sys.modules))"
WITHOUT_BEAM = "import sys; sys.modules['apache_beam'] = None\n"


def call(workspace, words: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
    flags = ["--ledger", workspace.ledger, "--output", str(workspace.output)]
    statement = f"from dpbeam.pipelines.cli.main import invoke\ncode = invoke({[*words, *flags]!r})"
    code = f"{before}{statement}{SHOW}\nsys.exit(code)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def released(workspace):
    workspace.create_budget()
    assert workspace.run() == 0
    return workspace


def test_a_release_that_is_there_comes_back_without_beam_or_scipys_statistics(released) -> None:
    released.policy["stages"][0]["partitions"]["private"]["strategy"] = "gaussian_thresholding"
    assert released.run() == 0
    done = call(released, ["run", str(released.policy_path)])
    assert done.returncode == 0
    assert "This release was made before" in done.stdout
    heavy = {"apache_beam", "grpc", "pydp", "polars", "scipy.stats", "dp_accounting"}
    assert heavy & set(done.stderr.splitlines()) == set()


def test_a_release_that_is_there_comes_back_where_beam_is_not_installed(released) -> None:
    assert call(released, ["run", str(released.policy_path)], WITHOUT_BEAM).returncode == 0


def test_a_release_that_is_to_be_made_is_not_charged_where_beam_is_not_installed(workspace) -> None:
    workspace.create_budget()
    done = call(workspace, ["run", str(workspace.policy_path)], WITHOUT_BEAM)
    assert done.returncode == 2
    assert "Apache Beam, which runs a release's jobs, isn't installed here" in done.stderr
    assert workspace.uncharged()


def test_a_flag_that_beam_does_not_know_is_refused_though_the_release_is_there(released) -> None:
    done = call(released, ["run", str(released.policy_path), "--no_such_flag=1"])
    assert (done.returncode, "neither dpbeam nor Beam knows --no_such_flag=1" in done.stderr) == (2, True)
