"""The tutorial's notebook runs from its first cell to its last, as a reader runs it, and shows what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_notebook_runs_and_shows_plan_table_and_report(tmp_path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    folder = tmp_path / "examples" / "tutorial"
    notebook = nbformat.read(folder / "tutorial.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    shown = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown[cell.source.splitlines()[-1]] = output.get("data", {}) or {"text/plain": output.get("text", "")}
    assert "<table>" in shown["dpbeam.plan(asked)"]["text/html"]
    assert "srcdoc=" in shown["made"]["text/html"]
    assert (
        "privacy_id_count"
        in shown['made.table(kind="polars").sort("privacy_id_count", descending=True).head()']["text/html"]
    )
    assert shown['again.cached, str(ledger.balance("ngrams").left)']["text/plain"].startswith("(True, ")
