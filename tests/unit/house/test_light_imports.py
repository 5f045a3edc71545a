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
NOT_FOR_A_PLAN = {"apache_beam", "pandas", "pipeline_dp", "pydp", "jinja2", "jsonschema"}


def loaded(statement: str) -> set[str]:
    """The packages of others that a fresh process has loaded after `statement`."""
    show = "import sys; sys.stderr.write('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{show}"], cwd=ROOT, capture_output=True, check=True)
    return set(done.stderr.decode().splitlines())


def command(*words: str) -> str:
    return f"from dpbeam.pipelines.cli.main import invoke\nassert invoke({list(words)!r}) == 0"


@pytest.mark.parametrize(
    "statement", ["import dpbeam", "import dpbeam.pipelines.cli.main", command("--help"), command("--version")]
)
def test_the_package_and_the_command_line_load_nothing_heavy(statement: str) -> None:
    assert loaded(statement) & HEAVY == set()


def test_a_plan_loads_neither_beam_nor_what_reports_and_manifests_are_made_with() -> None:
    assert loaded(command("plan", str(POLICY), "--json")) & NOT_FOR_A_PLAN == set()


def test_what_was_loaded_is_seen() -> None:
    assert "json" in loaded("import json")
    assert "numpy" in loaded("import numpy")
