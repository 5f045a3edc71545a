"""Who reads a ledger, by a command or as a library, loads the ledger and nothing of what makes releases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELEASING = {"apache_beam", "pipeline_dp", "pydp", "scipy", "dp_accounting"}
HEAVY = RELEASING | {"pyarrow", "numpy", "polars", "yaml", "dpbeam.policy"}
"""Not pydantic: typer loads it of its own accord, wherever it is installed."""
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"


def loaded(code: str, folder: Path) -> set[str]:
    """The modules that a new process has loaded after `code`."""
    script = f"{code}\n{LOADED}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def command(words: list[str], ledger: str) -> str:
    return f"from dpbeam.pipelines.cli.main import invoke\nassert invoke({[*words, '--ledger', ledger]!r}) == 0"


@pytest.mark.parametrize(
    "words",
    [
        ["budget", "show", "visits"],
        ["budget", "show", "visits", "--json"],
        ["budget", "history", "visits"],
        ["budget", "history", "visits", "--json"],
        ["budget", "verify"],
        ["budget", "create", "another", "--epsilon", "1", "--delta", "1e-8", "--privacy-unit", "row"],
    ],
    ids=" ".join,
)
def test_a_budget_command_loads_nothing_but_the_ledger(workspace, words) -> None:
    workspace.create_budget()
    found = loaded(command(words, workspace.ledger), workspace.folder)
    assert found & HEAVY == set()
    assert {"dpbeam", "sqlite3", "rich"} <= found


def test_a_budget_is_created_from_a_policy_without_what_makes_releases(workspace) -> None:
    words = ["budget", "create", str(workspace.policy_path)]
    found = loaded(command(words, workspace.ledger), workspace.folder)
    assert found & RELEASING == set()
    assert workspace.open_ledger().datasets() == ["visits"]


def test_a_library_that_reads_a_ledger_loads_nothing_else(workspace) -> None:
    workspace.create_budget()
    code = (
        "from dpbeam.ledger import open_ledger\n"
        f"ledger = open_ledger({workspace.ledger!r}, reading=True)\n"
        "assert ledger.balance('visits').left.epsilon and ledger.history('visits') and ledger.verify()"
    )
    assert loaded(code, workspace.folder) & (HEAVY | {"rich", "typer", "pydantic"}) == set()
