"""Every command that the docs tell a reader to type is run, in the order it stands, in a folder like the reader's."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.cli.main import invoke
from dpbeam.policy.load import load_policy
from tests.mutation import run as mutation

ROOT = Path(__file__).parents[2]


def commands(path: Path) -> list[list[str]]:
    """The `dpbeam …` commands of a page's code blocks, comments cut off."""
    lines = re.findall(r"^(?: {4})?((?:\.venv/bin/)?dpbeam .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a reader's Parquet file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPBEAM_LEDGER", raising=False)
    rows = {"user_id": [f"u{i}" for i in range(300)], "city": ["a", "b", "c"] * 100, "age": list(range(300))}
    pq.write_table(pa.table(rows), tmp_path / "people.parquet")
    return tmp_path


def test_readmes_five_minutes_work(reader, capsys) -> None:
    found = commands(ROOT / "README.md")
    assert [words[0] for words in found] == ["init", "plan", "budget", "run", "budget"]
    for words in found:
        assert invoke(words) == 0, (words, capsys.readouterr().err)


def test_the_ledgers_page_works(reader, capsys) -> None:
    assert invoke(["init", "people.parquet", "--output", "policy.yaml"]) == 0
    policy = reader / "policy.yaml"
    policy.write_text(policy.read_text().replace("dataset: people", "dataset: my-data"))
    shutil.copy(reader / "people.parquet", reader / "moved.parquet")
    found = commands(ROOT / "docs" / "ledger.md")
    assert len(found) == 9
    for words in found:
        assert invoke(words) == 0, (words, capsys.readouterr().err)


def test_the_page_for_pipelinedp_works(reader, capsys, reference_engine) -> None:
    assert invoke(["init", "people.parquet", "--output", "policy.yaml"]) == 0
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    (words,) = commands(ROOT / "docs" / "from_pipelinedp.md")
    assert invoke(words) == 0, (words, capsys.readouterr().err)


def test_readmes_policy_is_the_examples(tmp_path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "policy.yaml").write_text(block, encoding="utf-8")
    shown, run = load_policy(tmp_path / "policy.yaml"), load_policy(ROOT / "examples" / "ngrams" / "policy.yaml")
    assert (shown.stages, shown.columns, shown.budget, shown.run) == (run.stages, run.columns, run.budget, run.run)


def test_every_page_that_the_docs_name_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"docs/[a-z_]+\.md", page.read_text(encoding="utf-8"))}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_test_that_the_docs_name_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"tests/[\w/.*]+\.py", page.read_text(encoding="utf-8"))}
    assert len(named) > 8
    assert [name for name in sorted(named) if not list(ROOT.glob(name))] == []


def test_every_line_whose_mutants_may_survive_is_in_the_code() -> None:
    reasons = mutation.explained((ROOT / "tests" / "mutation" / "survivors.md").read_text(encoding="utf-8"))
    assert len(reasons) > 50
    places = mutation.modules()
    for (module, function), parts in reasons.items():
        code = (ROOT / places[module]).read_text(encoding="utf-8")
        tree = ast.parse(code)
        kinds = {None: tree} | {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        kind, _, name = function.rpartition(".")
        (found,) = [node for node in kinds[kind or None].body if getattr(node, "name", None) == name]
        body = " ".join(ast.get_source_segment(code, found).split())
        assert [part for part in parts if part not in body] == [], (module, function)
