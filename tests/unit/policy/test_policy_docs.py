"""What the repository shows of policies is true: docs, examples and the JSON Schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from dpbeam.policy.json_schema import FILE, json_schema
from dpbeam.policy.load import load_policy
from dpbeam.policy.yamlfile import read_yaml

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
STAGE = """\
version: 1
dataset: d
source: {format: csv, path: d.csv}
privacy_unit: person
columns: {person: {type: string}, place: {type: string}, sex: {type: string}, year: {type: int64}}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: one
    group_by: GROUP
    partitions:
      PUBLIC
    bounds: {l0: 1, linf: 1}
    metrics: [count]
    noise: laplace
"""


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", DOC, flags=re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_policy_in_the_docs_loads(text, tmp_path):
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").stages


@pytest.mark.parametrize("line", [line for block in blocks("yaml-part") for line in block.splitlines()])
def test_every_way_to_list_public_partitions_in_the_docs_loads(line, tmp_path):
    keys = {"product": "[sex, year]", "[[": "[place, year]"}
    group = next((names for mark, names in keys.items() if mark in line), "[place]")
    (tmp_path / "regions.csv").write_text("place\nnorth\n", encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(STAGE.replace("GROUP", group).replace("PUBLIC", line), encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").stages


INPUT_DOC = (ROOT / "docs" / "input.md").read_text(encoding="utf-8")
SOURCES = re.findall(r"```yaml-source\n(.*?)```", INPUT_DOC, flags=re.DOTALL)


@pytest.mark.parametrize("line", [line for block in SOURCES for line in block.splitlines()])
def test_every_source_in_the_docs_loads(line, tmp_path):
    text = STAGE.replace("GROUP", "[place]").replace("PUBLIC", "public: {values: [a]}")
    text = text.replace("source: {format: csv, path: d.csv}", line)
    text = text.replace("year: {type: int64}", "year: {type: int64}, month: {type: int64}, visits: {type: int64}")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").source


def test_every_column_in_the_docs_loads(tmp_path):
    (block,) = re.findall(r"```yaml-columns\n(.*?)```", INPUT_DOC, flags=re.DOTALL)
    text = STAGE.replace("GROUP", "[address.city]").replace("PUBLIC", "public: {values: [a]}")
    text = re.sub(r"columns: .*\n", block, text).replace("format: csv", "format: jsonl")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").columns["note"].field == ("free.text",)


def test_the_vectors_in_the_docs_load(tmp_path):
    (block,) = re.findall(r"```yaml-vectors\n(.*?)```", INPUT_DOC, flags=re.DOTALL)
    columns, part = block.split("metrics:\n")
    text = (
        STAGE.replace("GROUP", "[]")
        .replace("    partitions:\n      PUBLIC\n", "")
        .replace("format: csv", "format: avro")
    )
    text = re.sub(r"columns: .*\n", columns, text).replace("metrics: [count]", f"metrics:\n    {part.strip()}")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").columns["embedding"].length == 384


@pytest.mark.parametrize("block", blocks("yaml-stage"))
def test_every_part_of_a_stage_in_the_docs_loads(block, tmp_path):
    text = STAGE.replace("GROUP", "[place]").replace("PUBLIC", "public: {values: [north]}")
    text = text.replace("sex: {type: string}", "cost: {type: float64}")
    part = "".join(f"    {line}\n" for line in block.splitlines())
    text = text.replace("    bounds: {l0: 1, linf: 1}\n    metrics: [count]\n", part)
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").stages


@pytest.mark.parametrize("block", blocks("yaml-top"))
def test_every_part_at_the_top_level_in_the_docs_loads(block, tmp_path):
    text = STAGE.replace("GROUP", "[place]").replace("PUBLIC", "public: {values: [north]}") + block
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").coverage


def test_the_docs_have_policies_to_load():
    assert len(SOURCES) == 4
    assert [len(blocks(kind)) for kind in ("yaml", "yaml-part", "yaml-stage", "yaml-top")] == [1, 2, 1, 1]


def test_the_docs_name_every_key():
    def keys(schema):
        return set(schema.get("properties", {})).union(*(keys(each) for each in schema.get("$defs", {}).values()))

    assert {key for key in keys(json_schema()) if not re.search(rf"\b{key}\b", DOC)} == set()


@pytest.mark.parametrize("name", ["ngrams", "adult"])
def test_every_example_loads(name):
    assert load_policy(ROOT / "examples" / name / "policy.yaml").dataset == name


def test_the_committed_json_schema_is_current():
    assert json.loads(FILE.read_text(encoding="utf-8")) == json_schema(), "run python -m dpbeam.policy.json_schema"


@pytest.mark.parametrize("name", ["ngrams", "adult"])
def test_the_json_schema_accepts_every_example(name):
    jsonschema.validate(read_yaml(ROOT / "examples" / name / "policy.yaml").data, json_schema())


@pytest.mark.parametrize(
    ("key", "value"), [("dataset", "../x"), ("run", {"epsilon": "1", "delta": 1e-8}), ("stages", []), ("extra", 1)]
)
def test_the_json_schema_refuses(key, value):
    data = read_yaml(ROOT / "examples" / "ngrams" / "policy.yaml").data | {key: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema())
