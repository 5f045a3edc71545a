"""Every command that the docs tell a reader to type is run, in the order it stands, in a folder like the reader's."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.cli.main import invoke
from dpbeam.policy.load import load_policy
from tests.mutation import run

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
    assert [words[0] for words in found] == ["init", "check", "plan", "budget", "run", "budget"]
    for words in found:
        words += ["--show"] * (words[0] == "check")  # for a reader has a terminal
        assert invoke(words) == 0, (words, capsys.readouterr().err)


def test_the_ledgers_page_works(reader, monkeypatch, capsys, postgres) -> None:
    assert invoke(["init", "people.parquet", "--output", "policy.yaml"]) == 0
    policy = reader / "policy.yaml"
    policy.write_text(policy.read_text().replace("dataset: people", "dataset: my-data"))
    shutil.copy(reader / "people.parquet", reader / "moved.parquet")
    found = commands(ROOT / "docs" / "ledger.md")
    assert len(found) == 17
    monkeypatch.setenv("HOME", str(reader))
    text = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    exports = dict(re.findall(r"^ {4}export (\w+)=(~\S+)$", text, re.MULTILINE))
    server = postgres.url()
    closing = [words for words in found if words[1:2] in (["export"], ["import"])]
    for words in (*(words for words in found if words not in closing), *closing):  # which ends what the page is about
        for name, first in {"DPBEAM_SIGNING_KEY": "checkpoint", "DPBEAM_WITNESS": "witness"}.items():
            if words[1:2] == [first]:
                monkeypatch.setenv(name, exports[name])
        here = [server if word == "postgresql://dpbeam@db.example.org/budgets" else word for word in words]
        assert invoke(here) == 0, (words, capsys.readouterr().err)
    assert invoke(["budget", "verify", "--ledger", server]) == 0


def test_the_page_of_the_check_works(reader, capsys) -> None:
    assert invoke(["init", "people.parquet", "--output", "policy.yaml"]) == 0
    shown, written = commands(ROOT / "docs" / "check.md")
    assert invoke(shown) == 0, capsys.readouterr().err
    assert "300 rows read" in capsys.readouterr().out
    assert invoke(written) == 0, capsys.readouterr().err
    assert "300 rows read" in (reader / "figures.txt").read_text(encoding="utf-8")


def test_the_page_of_choices_works(capsys) -> None:
    named, advised, printed = commands(ROOT / "docs" / "choosing.md")
    assert invoke(named) == 0
    assert "selection" in capsys.readouterr().out
    assert invoke(advised) == 0
    assert "noise: gaussian" in capsys.readouterr().out
    assert invoke(printed) == 0


@pytest.fixture
def visits(reader: Path) -> Path:
    """A folder with a table of visits."""
    rows = {"person": [f"p{i % 300}" for i in range(900)], "city": ["a", "b", "c"] * 300, "cost": list(range(900))}
    pq.write_table(pa.table(rows), reader / "visits.parquet")
    return reader


def test_the_engineers_guide_works(visits, capsys) -> None:
    found = commands(ROOT / "docs" / "engineer.md")
    assert [words[0] for words in found] == ["init", "choose", "choose", "plan", "check", "budget", "run", "budget"]
    for words in found:
        assert invoke(words) == 0, (words, capsys.readouterr().err)
    run = next(words for words in found if words[0] == "run")
    capsys.readouterr()
    assert invoke(run) == 0
    assert "at no cost" in capsys.readouterr().out


def test_what_the_engineers_guide_says_is_charged_is(visits, capsys) -> None:
    def charged(*words: str) -> bool:
        assert invoke(["run", "policy.yaml", *words]) == 0, capsys.readouterr().err
        return "at no cost" not in capsys.readouterr().out

    assert invoke(["init", "visits.parquet", "--output", "policy.yaml"]) == 0
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    policy, text = visits / "policy.yaml", (visits / "policy.yaml").read_text()
    assert charged()
    assert not charged()
    policy.write_text(f"# a comment\n{text}")
    assert not charged("--output", "elsewhere")
    assert charged("--release", "another")
    policy.write_text(text.replace("epsilon: 1, delta: 1e-8", "epsilon: 0.5, delta: 1e-8"))
    assert policy.read_text() != text
    assert charged()
    policy.write_text(text)
    shutil.copy(visits / "visits.parquet", visits / "again.parquet")
    (visits / "again.parquet").rename(visits / "visits.parquet")
    assert charged()


def test_the_officers_guide_works(visits, capsys) -> None:
    found = commands(ROOT / "docs" / "officer.md")
    assert len(found) == 6
    for words in (
        ["init", "visits.parquet", "-o", "policy.yaml"],
        ["budget", "create", "policy.yaml"],
        ["run", "policy.yaml"],
    ):
        assert invoke(words) == 0
    for words in found:
        named = [str(path) for word in words for path in (sorted(visits.glob(word)) if "*" in word else [word])]
        assert invoke(named) == 0, (words, capsys.readouterr().err)


def test_the_page_of_tuning_works(reader, capsys) -> None:
    assert invoke(["init", "people.parquet", "--output", "policy.yaml"]) == 0
    shutil.copy(reader / "people.parquet", reader / "last_year.parquet")
    found = commands(ROOT / "docs" / "tuning.md")
    assert [words[0] for words in found] == ["tune", "tune", "plan", "tune", "tune"]
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    for words in found:
        assert invoke(words) == 0, (words, capsys.readouterr().err)
    assert (reader / "tuned_privately.yaml").exists()
    assert "# tune: l0 was 4" in (reader / "tuned.yaml").read_text(encoding="utf-8")


TUTORIAL = ROOT / "docs" / "tutorial.md"


def test_the_tutorial_takes_eight_commands_from_a_clone() -> None:
    lines = re.findall(r"^ {4}(\S.*)$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE)
    typed = [line for line in lines if not line.startswith("- ")]
    assert len(typed) == 8
    assert [line.split()[0] for line in typed] == ["git", "make", "source", *["dpbeam"] * 5]


def test_the_tutorial_leads_to_a_useful_release(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPBEAM_LEDGER", raising=False)
    folder = tmp_path / "examples" / "tutorial"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "tutorial" / "visits.csv", folder)
    text = TUTORIAL.read_text(encoding="utf-8")
    first, *others = commands(TUTORIAL)
    assert invoke(first) == 0, capsys.readouterr().err
    policy = Path("policy.yaml").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml-shown\n(.*?)```", text, re.DOTALL)
    for line in shown.splitlines():
        assert f"{line}\n" in policy
    (edit,) = re.findall(r"```yaml-edit\n(.*?)```", text, re.DOTALL)
    commented = re.sub(r"low: .*, high: .*}", "low: LOW, high: HIGH}", edit.replace("- mean", "# - mean"))
    assert commented in policy
    Path("policy.yaml").write_text(policy.replace(commented, edit), encoding="utf-8")
    for words in others:
        more = ["--show"] if words[0] == "check" else []  # a test is no terminal
        assert invoke([*words, *more]) == 0, (words, capsys.readouterr().err)
    (table,) = Path("releases").glob("*/*/first.parquet")
    found = pq.read_table(table)
    rows = [line.split(";") for line in (folder / "visits.csv").read_text(encoding="utf-8").splitlines()[1:]]
    guests = {place: {row[0] for row in rows if row[1].strip() == place and row[4] != "NA"} for place in PLACES}
    assert found.column("restaurant").to_pylist() == sorted(PLACES)
    for place, count in zip(sorted(PLACES), found.column("privacy_id_count").to_pylist(), strict=True):
        assert abs(count - len(guests[place])) < 0.2 * len(guests[place])  # 9 standard deviations of the least


PLACES = ("Anker", "Brücke", "Café Lux", "Domhof", "Eckstein", "Fischmarkt", "Goldener Hirsch", "Kleine Freiheit")


def test_the_ledgers_example_in_python_works(reader, capsys) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(block, {})  # noqa: S102
    left, *entries = capsys.readouterr().out.splitlines()
    assert f'print(ledger.balance("visits").left)  # {left}' in block
    assert len(entries) == 6


def test_the_page_for_pipelinedp_works(reader, capsys, reference_engine) -> None:
    assert invoke(["init", "people.parquet", "--output", "policy.yaml"]) == 0
    policy = reader / "policy.yaml"
    text = policy.read_text(encoding="utf-8").replace(", pre_threshold: 5}", "}")
    policy.write_text(text.replace("coverage: {share: 0.02}\n", ""), encoding="utf-8")
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    (words,) = commands(ROOT / "docs" / "from_pipelinedp.md")
    assert invoke(words) == 0, (words, capsys.readouterr().err)


def test_readmes_policy_is_the_examples(tmp_path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "policy.yaml").write_text(block, encoding="utf-8")
    shown, run = load_policy(tmp_path / "policy.yaml"), load_policy(ROOT / "examples" / "ngrams" / "policy.yaml")
    assert (shown.stages, shown.columns, shown.budget, shown.run) == (run.stages, run.columns, run.budget, run.run)


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FIELDS = {
    "dpbeam.metric", "dpbeam.kind", "dpbeam.noise", "dpbeam.level", "dpbeam.std", "dpbeam.other_std", "dpbeam.metrics",
    "dpbeam.chosen_bounds", "dpbeam.coverage", "dpbeam.period",
}  # fmt: skip
"""What fields of result files and entry points are called: no names of the code."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_code_that_a_page_gives_can_be_imported(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])dpbeam(?:\.[A-Za-z_]\w*)+", text)) - FIELDS
    for module, names in re.findall(r"^from (dpbeam[\w.]*) import (.*)$", text, re.MULTILINE):
        named |= {f"{module}.{name.split()[0]}" for name in names.split(",")}
    for name in sorted(named):
        pkgutil.resolve_name(name)


def test_the_guides_statistical_test_passes_and_can_fail(tmp_path, monkeypatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "test_the_guides.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    guides = importlib.import_module("test_the_guides")
    guides.test_noise_has_the_planned_scale_and_no_other()
    monkeypatch.setattr(guides, "is_laplace", lambda draws, scale: True)
    with pytest.raises(AssertionError):
        guides.test_noise_has_the_planned_scale_and_no_other()


def test_the_tests_that_the_guide_runs_are_found() -> None:
    words = re.findall(
        r"^    \.venv/bin/python (-m pytest .*)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(words) == 2
    for each in words:
        command = [sys.executable, *each.split(), "-p", "no:xdist", "--collect-only"]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0, each


def test_every_line_whose_mutants_may_survive_is_in_the_code() -> None:
    reasons = run.explained(run.PAGE.read_text(encoding="utf-8"))
    places = run.modules()
    assert len(reasons) > 50
    for (module, function), parts in reasons.items():
        code = (ROOT / places[module]).read_text(encoding="utf-8")
        tree = ast.parse(code)
        kinds = {None: tree} | {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        kind, _, name = function.rpartition(".")
        (found,) = [node for node in kinds[kind or None].body if getattr(node, "name", None) == name]
        body = " ".join(ast.get_source_segment(code, found).split())
        assert [part for part in parts if part not in body] == [], (module, function)


def test_the_page_for_beam_works(reader, capsys) -> None:
    page = ROOT / "docs" / "beam.md"
    (reader / "visits.yaml").write_text(VISITS, encoding="utf-8")
    (words,) = commands(page)
    assert invoke(words) == 0
    first, second = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    capsys.readouterr()
    exec(first, {})  # noqa: S102
    (folder,) = Path("releases", "visits").glob("*/")
    assert pq.read_table(folder / "by_city.parquet").column("city").to_pylist() == ["Lyon", "Oslo"]
    assert "city: string" in capsys.readouterr().out
    exec(second, {})  # noqa: S102
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.partition(": about ")[0] for line in lines] == ["Lyon", "Oslo"]


VISITS = """
version: 1
dataset: visits
source: {format: csv, path: visits.csv}
privacy_unit: person
columns:
  person: {type: string}
  city: {type: string}
budget: {epsilon: 10, delta: 1e-5}
run: {epsilon: 2, delta: 1e-6}
stages:
  - name: by_city
    group_by: [city]
    partitions: {private: {strategy: gaussian_thresholding}}
    bounds: {l0: 2, linf: 1}
    metrics: [count]
    noise: gaussian
"""
