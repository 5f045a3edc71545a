"""What an import or a command loads, by `sys.modules` of a fresh process: a small job pays for every one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
POLICY = ROOT / "examples" / "ngrams" / "policy.yaml"

HEAVY = {
    "apache_beam",
    "dp_accounting",
    "numpy",
    "pandas",
    "pipeline_dp",
    "polars",
    "pyarrow",
    "pydantic",
}
HEAVY |= {"pydp", "scipy", "jinja2", "jsonschema"}
NOT_FOR_A_PLAN = {"apache_beam", "fastavro", "lark", "pandas", "pipeline_dp", "polars", "pydp", "jinja2", "jsonschema"}
SLOW_PARTS = {"dp_accounting", "scipy.stats", "pyarrow.parquet"}
"""What takes longer to load than a plan of Gaussian noise to make."""
NOT_FOR_AN_ERROR = NOT_FOR_A_PLAN | {"scipy", "dp_accounting", "pyarrow.parquet", "rich.table", "dpbeam.engine.release"}


def loaded(statement: str) -> set[str]:
    """The modules that a fresh process has loaded after `statement`."""
    show = "import sys; sys.stderr.write('\\n' + '\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{show}"], cwd=ROOT, capture_output=True, check=True)
    return set(done.stderr.decode().splitlines())


def command(*words: str, code: int = 0) -> str:
    return f"from dpbeam.pipelines.cli.main import invoke\nassert invoke({list(words)!r}) == {code}"


@pytest.mark.parametrize(
    "statement", ["import dpbeam", "import dpbeam.pipelines.cli.main", command("--help"), command("--version")]
)
def test_the_package_and_the_command_line_load_nothing_heavy(statement: str) -> None:
    assert loaded(statement) & HEAVY == set()


def test_a_plan_loads_neither_beam_nor_what_reports_and_manifests_are_made_with() -> None:
    assert loaded(command("plan", str(POLICY), "--json")) & NOT_FOR_A_PLAN == set()


@pytest.mark.parametrize(
    "statement",
    [
        f"import dpbeam\ndpbeam.plan(dpbeam.load_policy({str(POLICY)!r}))",
        # With the figures of other strategies, which compose other noise.
        command("plan", str(POLICY)),
    ],
    ids=["made", "shown"],
)
def test_a_plan_of_gaussian_noise_takes_neither_scipys_statistics_nor_the_accounting_library(statement) -> None:
    assert loaded(statement) & SLOW_PARTS == set()


@pytest.mark.parametrize("words", [["plan"], ["run"], ["check", "--show"], ["budget", "create"]], ids=" ".join)
def test_an_error_in_the_policy_is_said_before_anything_is_loaded_that_only_a_right_one_needs(tmp_path, words) -> None:
    wrong = tmp_path / "policy.yaml"
    wrong.write_text(POLICY.read_text(encoding="utf-8").replace("linf: 1", "linf: 0"), encoding="utf-8")
    printing = loaded("import rich.console")  # which early versions of rich load with all of its tables
    assert (loaded(command(*words, str(wrong), code=2)) - printing) & NOT_FOR_AN_ERROR == set()


def test_what_was_loaded_is_seen() -> None:
    assert "scipy.stats" in loaded("import dp_accounting")
    assert "json" in loaded("import json")
    assert "numpy" in loaded("import numpy")
