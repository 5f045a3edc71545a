"""Names from outside in whole commands: none reaches the terminal raw, is read as markup, writes a line of its own or
ends a command in an internal error."""

from __future__ import annotations

import csv
import html
import json
import re
import unicodedata
from pathlib import Path

import pytest

from dpbeam.pipelines.cli.main import invoke
from dpbeam.pipelines.jobs import runners
from dpbeam.reporting.visible import visible

NAMES = {
    "closing tag": "price[/kg]",
    "style": "[bold red]x",
    "emoji's name": ":smile:",
    "escape": "a\x1b[31mred",
    "terminal's title": "a\x1b]0;owned\x07",
    "C1 escape": "a\x9b31m",
    "turned direction": "a\u202egnp",
    "no width": "a\u200bb\u2060\ufeff",
    "tags": "a\U000e0041\U000e0042",
    "filler": "\u3164\u2800",
    "line": "a\ndpbeam: all is well",
    "return": "a\rb\x08\x7f",
}
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.fixture(params=NAMES, ids=lambda name: name.replace(" ", "-"))
def name(request) -> str:
    return NAMES[request.param]


def assert_harmless(text: str) -> None:
    raw = {hex(ord(c)) for c in text if c != "\n" and (unicodedata.category(c) in UNSEEN or c in "\u3164\u2800")}
    assert raw == set(), text
    assert "internal error" not in text
    assert "Traceback" not in text
    assert "\ndpbeam: all is well" not in text


@pytest.fixture
def says(capsys, monkeypatch):
    """Runs a command; gives its exit code and what it printed, which is looked through."""
    monkeypatch.setattr(runners, "ANSWER_S", 0.05)  # no cluster has a hostile name

    def run(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = invoke([str(word) for word in words])
        printed = capsys.readouterr()
        assert_harmless(printed.out)
        assert_harmless(printed.err)
        return code, printed.out + printed.err

    return run


def hostile(workspace, name: str) -> str:
    """Gives every name that a policy, a file and its rows may hold a hostile end; the path of the data."""
    key, value = f"place {name}", f"amount {name}"
    path = workspace.folder / f"data {name.replace('/', '|')}.jsonl"
    rows = [(f"p{i}", place, i % 11) for i in range(300) for place in ("inn", "zoo")]
    path.write_text(
        "".join(json.dumps({f"person {name}": p, key: f"{k} {name}", value: float(n)}) + "\n" for p, k, n in rows),
        encoding="utf-8",
    )
    workspace.policy |= {
        "source": {"format": "jsonl", "path": path.name},
        "privacy_unit": f"person {name}",
        "columns": {f"person {name}": {"type": "string"}, key: {"type": "string"}, value: {"type": "float64"}},
    }
    span = {"column": value, "low": 0.0, "high": 10.0}
    stage = workspace.policy["stages"][0] | {
        "group_by": [key],
        "metrics": ["count", {"sum": span | {"name": f"sum {name}"}}, {"mean": span}, {"variance": span}],
    }
    auto = {"column": value, "low": {"auto": {}}, "high": {"auto": {}}}
    found = {"name": "found", "metrics": [{"sum": auto | {"name": f"auto {name}"}}]}
    workspace.policy |= {"stages": [stage, stage | found], "run": {"epsilon": 9.0, "delta": 1e-6}}
    return str(path)


def test_hostile_names_are_planned_run_shown_and_certified(workspace, exact, says, name) -> None:
    data = hostile(workspace, name)
    policy, ledger = workspace.policy_path, ("--ledger", workspace.ledger)
    output = workspace.folder / f"out {name.replace('/', '|')}"
    assert says("init", data)[0] == 0
    assert says("budget", "create", policy, *ledger)[0] == 0
    code, planned = says("plan", policy, *ledger)
    assert code == 0
    assert "".join(visible(f"sum {name}").split()) in "".join(re.sub("[│┃]", "", planned).split())
    for cost in (f"(one person {name}, added", "made before"):
        code, said = says("run", policy, *ledger, "--output", output)
        assert code == 0
        assert "could not be shown" not in said
        assert "".join(visible(cost).split()) in "".join(said.split())
    code, said = says("run", policy, *ledger, "--output", output, "--json")
    assert code == 0
    (folder,) = output.glob("visits/2*")
    for words in (("show", "visits"), ("history", "visits"), ("verify",)):
        assert says("budget", *words, *ledger)[0] == 0
    assert says("certify", folder / "manifest.json")[0] == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert_harmless(page)
    assert html.escape(visible(f"inn {name}"), quote=False) in html.escape(html.unescape(page), quote=False)


def test_what_init_writes_is_the_same_names_again(workspace, says, name, monkeypatch) -> None:
    data = hostile(workspace, name)
    monkeypatch.chdir(workspace.folder)
    written = f"policy {name.replace('/', '|')}.yaml"
    assert says("init", data, "--output", written)[0] == 0
    assert_harmless(Path(written).read_text(encoding="utf-8"))
    assert says("plan", written, "--ledger", workspace.ledger)[0] == 0
    assert says("init", data, "--output", written)[0] == 2
    assert says("init", data)[1] == Path(written).read_text(encoding="utf-8")


WORDS = [
    "plan {}", "run {}", "init {}", "certify {}", "{}", "budget {}", "budget show {}", "budget verify {}", "recover {}",
    "budget history {}", "budget create {}", "budget create {} --epsilon 1 --delta 0", "recover --charge {}",
    "budget create d --epsilon {} --delta 0", "budget create d --epsilon 1 --delta {}", "plan POLICY {}",
    "plan POLICY --{}", "run POLICY --{}", "run POLICY --runner={}", "run POLICY --source {}",
    "run POLICY --source={}/*",
    "run POLICY --release {}", "run POLICY --engine {}", "run POLICY --job_endpoint={} --runner=PortableRunner",
    "run POLICY --output /dev/null/{}", "run POLICY --output x://{}", "run POLICY --direct_num_workers={}",
    "run POLICY --environment_type={}", "budget create d --epsilon 1 --delta 0 --privacy-unit {}/{}",
    "budget show d --ledger {}", "budget show d --ledger sqlite:////dev/null/{}", "plan POLICY --ledger sqlite:///{}/l",
    "releases --output {}", "releases {} --output .", "rehearse {}", "run POLICY --dry-run --release {}",
    "run POLICY --dry-run --release {period} --period {}",
]  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_hostile_words_of_a_command_line(workspace, says, monkeypatch, words) -> None:
    monkeypatch.chdir(workspace.folder)
    workspace.create_budget()
    monkeypatch.setenv("DPBEAM_LEDGER", workspace.ledger)
    for name in NAMES.values():
        says(*(word.replace("{}", name).replace("POLICY", "policy.yaml") for word in words.split(" ")))


POLICIES = [
    lambda policy, name: policy.update(dataset=name),
    lambda policy, name: policy.update({name: 1}),
    lambda policy, name: policy["stages"][0].update(name=name),
    lambda policy, name: policy["stages"][0].update({name: name}),
    lambda policy, name: policy["stages"][0].update(group_by=[name]),
    lambda policy, name: policy["stages"][0].update(noise=name),
    lambda policy, name: policy["stages"][0].update(metrics=[name]),
    lambda policy, name: policy["stages"][0].update(metrics=[{name: {"column": name}}]),
    lambda policy, name: policy["stages"][0].update(metrics=[{"sum": {"column": name, "low": name, "high": 1}}]),
    lambda policy, name: policy["stages"][0].update(partitions={"public": {"file": name}}),
    lambda policy, name: policy["stages"][0].update(partitions={"public": {"values": [name, name]}}),
    lambda policy, name: policy["stages"][0].update(partitions={"private": {"strategy": name}}),
    lambda policy, name: policy["columns"].update({name: {"type": name}}),
    lambda policy, name: policy["columns"].update({name: {"type": "string", "field": name}}),
    lambda policy, name: policy["columns"]["amount"].update(on_null={"replace": name}),
    lambda policy, name: policy.update(privacy_unit=name),
    lambda policy, name: policy.update(derive={name: {"bin": name, "edges": [name]}}),
    lambda policy, name: policy.update(where=[{"column": name, "op": name, "value": name}]),
    lambda policy, name: policy["source"].update(path=name),
    lambda policy, name: policy["source"].update(path=[name, f"{name}/*"]),
    lambda policy, name: policy["source"].update(format=name),
    lambda policy, name: policy["source"].update(delimiter=name),
    lambda policy, name: policy["source"].update(path_columns=[name]),
    lambda policy, name: policy["output"].update(path=f"/dev/null/{name}"),
    lambda policy, name: policy["budget"].update(meter=name),
    lambda policy, name: policy["run"].update(epsilon=name),
]


@pytest.mark.parametrize("change", range(len(POLICIES)))
def test_hostile_words_of_a_policy(workspace, says, monkeypatch, change) -> None:
    monkeypatch.chdir(workspace.folder)
    workspace.create_budget()
    original = json.dumps(workspace.policy | {"run": {"epsilon": 0.1, "delta": 1e-7}})
    for name in NAMES.values():
        workspace.policy = json.loads(original)
        POLICIES[change](workspace.policy, name)
        for command in ("plan", "run"):
            code, said = says(command, workspace.policy_path, "--ledger", workspace.ledger)
            assert code in (0, 2), said


LONG = {
    "digits": "9" * 100_000,
    "words": "9 " * 50_000,
    "minus": "-" + "9" * 100_000,
    "hexadecimal": "0x" + "f" * 99_999,
}


@pytest.mark.parametrize("word", LONG.values(), ids=LONG)
def test_what_is_very_long_is_not_repeated(workspace, says, monkeypatch, word) -> None:
    monkeypatch.chdir(workspace.folder)
    workspace.create_budget()
    monkeypatch.setenv("DPBEAM_LEDGER", workspace.ledger)
    for words in WORDS:
        _, said = says(*(part.replace("{}", word).replace("POLICY", "policy.yaml") for part in words.split(" ")))
        assert len(said) < 10_000, words
    text = json.dumps(workspace.policy)
    for number in ("1e-06", "10.0", "1.0", "4", "400"):
        Path("changed.yaml").write_text(text.replace(f": {number}", f": {word}"), encoding="utf-8")
        assert len(says("plan", "changed.yaml")[1]) < 5_000


def test_hostile_names_of_files_and_their_columns(workspace, says, monkeypatch) -> None:
    monkeypatch.chdir(workspace.folder)
    workspace.create_budget()
    for name in NAMES.values():
        plain = name.replace("/", "|")
        for made in (f"bad {plain}.parquet", f"bad {plain}.avro", f"bad {plain}.csv.gz", f"empty {plain}.csv"):
            Path(made).write_bytes(b"" if "empty" in made else b"x")
            assert says("init", made)[0] == 2
            format = next((kind for kind in ("parquet", "avro") if kind in made), "csv")
            workspace.policy["source"] = {"format": format, "path": made}
            assert says("run", workspace.policy_path, "--ledger", workspace.ledger)[0] == 2
        with Path(f"other {plain}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["Person", "place", name], ["a", "b", name]])
        workspace.policy["source"] = {"format": "csv", "path": f"other {plain}.csv"}
        assert says("run", workspace.policy_path, "--ledger", workspace.ledger)[0] == 2
        link = Path(f"link {plain}")
        link.symlink_to(link.name)
        workspace.policy["source"]["path"] = link.name
        assert says("run", workspace.policy_path, "--ledger", workspace.ledger)[0] == 2


def test_a_hostile_manifest(workspace, says) -> None:
    for name in NAMES.values():
        path = workspace.folder / f"m {name.replace('/', '|')}"
        for document in ({"version": 1, name: name}, {"version": name}, [name], name):
            path.write_text(json.dumps(document), encoding="utf-8")
            assert says("certify", path)[0] == 2
    workspace.create_budget()
    assert says("run", workspace.policy_path, "--ledger", workspace.ledger, "--output", workspace.output)[0] == 0
    manifest = workspace.manifests()[0]
    whole = json.loads(manifest.read_text(encoding="utf-8"))
    for name in NAMES.values():
        stray = manifest.parent / f"stray {name.replace('/', '|')}"
        stray.touch()
        assert says("certify", manifest)[0] == 4
        stray.unlink()
    for name in NAMES.values():
        mechanisms = [mechanism | {"metric": name} for mechanism in whole["mechanisms"]]
        files = [*whole["files"], {"path": name, "sha256": "0" * 64, "rows": 1}]
        for changed in ({"mechanisms": mechanisms}, {"files": files}, {"charge": whole["charge"] | {"meter": name}}):
            manifest.write_text(json.dumps(whole | changed), encoding="utf-8")
            assert says("certify", manifest)[0] in (0, 2, 4)  # a metric's name proves nothing
