"""The JSON Schemas: each is valid, accepts its example, and refuses every mutation of it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dpbeam.ledger.accounts import Balance, Budget, budget_json
from dpbeam.ledger.amounts import ZERO, Amount
from dpbeam.ledger.entries import GENESIS
from dpbeam.ledger.meters import BASIC
from dpbeam.ledger.scope import Protected
from dpbeam.reporting.formats import FORMATS, schema, violations

DIGEST = "sha256:" + "a" * 64
GUARANTEE = {"epsilon": 1.0, "delta": 1e-8, "unit": "author_id", "neighbours": "add_or_remove_one"}
CHARGE = {"id": "c1", "meter": "basic", "epsilon": 1.0, "delta": 1e-8}
MECHANISMS = [
    {"stage": "a", "metric": "count", "kind": "laplace", "scale": 2.0, "l1": 1.0},
    {"stage": "a", "metric": "x", "kind": "gaussian", "sigma": 2.0, "l2": 1.0},
    {
        "stage": "a",
        "metric": "partitions",
        "kind": "truncated_geometric",
        "epsilon": 0.5,
        "delta": 1e-9,
        "l0": 1,
        "pre_threshold": 1,
    },
    {
        "stage": "b",
        "metric": "partitions",
        "kind": "laplace_thresholding",
        "scale": 2.0,
        "l1": 1.0,
        "threshold": 9.5,
        "delta": 1e-9,
        "l0": 1,
        "pre_threshold": 1,
    },
    {
        "stage": "c",
        "metric": "partitions",
        "kind": "gaussian_thresholding",
        "sigma": 2.0,
        "l2": 1.0,
        "threshold": 9.5,
        "delta": 1e-9,
        "l0": 1,
        "pre_threshold": 1,
    },
]
CERTIFICATE = {"naive": 2.0, "rdp": 1.2, "pld": 0.99}
AMOUNT = {"epsilon": 1.0, "delta": 1e-8, "epsilon_units": 10**12, "delta_units": 10**10}
EXAMPLES: dict[str, Any] = {
    "manifest": {
        "version": 1,
        "release_id": "ngrams-1",
        "release_name": "default",
        "dataset": "ngrams",
        "created": "2026-11-24T00:30:00Z",
        "dpbeam_version": "0.1.0",
        "policy_digest": DIGEST,
        "input_fingerprint": DIGEST,
        "guarantee": GUARANTEE,
        "certificate": CERTIFICATE,
        "mechanisms": MECHANISMS,
        "charge": CHARGE,
        "files": [{"path": "a.csv", "sha256": "a" * 64, "rows": 1}],
    },
    "plan": {
        "version": 1,
        "dataset": "ngrams",
        "policy_digest": DIGEST,
        "epsilon": 1.0,
        "delta": 1e-8,
        "mechanisms": MECHANISMS,
        "certificate": CERTIFICATE,
    },
    "run": {
        "version": 1,
        "release_id": "ngrams-1",
        "path": "releases/ngrams/ngrams-1",
        "cached": False,
        "guarantee": GUARANTEE,
        "charge": CHARGE,
    },
    "dry_run": {
        "version": 1,
        "dataset": "ngrams",
        "release_name": "default",
        "outcome": "would_charge",
        "reason": "no release of this name is in releases",
        "charge": AMOUNT,
        "left": AMOUNT,
        "path": None,
    },
    "releases": {
        "version": 1,
        "releases": [
            {
                "dataset": "ngrams",
                "release_id": "ngrams-1",
                "path": "releases/ngrams/ngrams-1",
                "standing": "verified",
                "release_name": "week-2026-W48",
                "period": "2026-W48",
                "created": "2026-11-24T00:30:00Z",
                "policy_digest": DIGEST,
                "guarantee": GUARANTEE,
                "charge": CHARGE,
            }
        ],
    },
    "budget": {
        "version": 2,
        "dataset": "ngrams",
        "privacy_unit": "author_id",
        "neighbours": "add_or_remove_one",
        "sources": ["/data/ngrams.csv"],
        "meter": "basic",
        "cap": AMOUNT,
        "spent": AMOUNT,
        "held": AMOUNT,
        "left": AMOUNT,
    },
    "error": {
        "version": 1,
        "error": {
            "code": 4,
            "kind": "RunFailed",
            "message": "step Read failed with OSError (Input/output error); nothing was published",
            "remedy": "the same command on the same input tries again under the same charge, at no further cost",
            "charge": {
                "id": "c1",
                "dataset": "ngrams",
                "epsilon": 1.0,
                "delta": 1e-08,
                "attempt": 1,
                "max_attempts": 3,
                "attempts_left": 2,
            },
            "log": "/data/releases/.logs/ngrams-20261124T003000Z-0123abcd.log",
        },
    },
    "benchmarks": [
        {
            "case": "count_sum",
            "system": "dpbeam",
            "rows": 1000,
            "seconds": 1.5,
            "rows_per_second": 666.7,
            "peak_mib": 300.0,
        }
    ],
}


def objects(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Every object inside a document, with the way to it."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from objects(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from objects(value, (*path, i))


def mutants(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with a field more, a field less or a field of an impossible type, for every field."""
    for path, node in objects(document):
        changes = [("unknown field", {**node, "surprise": 1})]
        for key in node:
            changes.append((f"no {key}", {k: v for k, v in node.items() if k != key}))
            changes.append((f"odd {key}", {**node, key: [[]]}))
            if isinstance(node[key], int | float) and not isinstance(node[key], bool):
                changes.append((f"negative {key}", {**node, key: -1}))
                changes.append((f"true {key}", {**node, key: True}))
        for what, changed in changes:
            mutant = copy.deepcopy(document)
            if not path:
                yield what, changed
                continue
            inner = mutant
            for part in path[:-1]:
                inner = inner[part]
            inner[path[-1]] = changed
            yield f"{path}: {what}", mutant


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_is_valid_draft_2020_12(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_accepts_its_example(name: str) -> None:
    assert violations(name, EXAMPLES[name]) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_refuses_every_mutation_of_its_example(name: str) -> None:
    accepted = [what for what, mutant in mutants(EXAMPLES[name]) if not violations(name, mutant)]
    assert accepted == []


def test_a_manifest_of_version_2_keeps_the_schema_and_no_mutation_of_it_does() -> None:
    chosen = {"stage": "a", "metric": "x", "parameter": "low", "value": 0.5, "fallback": False}
    document = EXAMPLES["manifest"] | {"version": 2, "chosen_bounds": [chosen, chosen | {"metric": None}]}
    assert violations("manifest", document) == []
    accepted = [what for what, mutant in mutants(document) if not violations("manifest", mutant)]
    assert accepted == [f"('chosen_bounds', {i}): negative value" for i in (0, 1)]  # a clipping bound may be


def test_a_manifest_of_version_3_keeps_the_schema_and_no_mutation_of_it_but_what_says_less_does() -> None:
    document = EXAMPLES["manifest"] | {"version": 3, "about": {"owner": "Ward 3", "contact": "ward3@example.org"}}
    assert violations("manifest", document) == []
    accepted = [what for what, mutant in mutants(document) if not violations("manifest", mutant)]
    assert accepted == ["('about',): no owner", "('about',): no contact"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_object_of_a_schema_refuses_unknown_fields(name: str) -> None:
    loose = [path for path, node in objects(schema(name)) if "properties" in node and "type" in node]
    assert loose
    for path, node in objects(schema(name)):
        if "properties" in node and node.get("type") == "object":
            assert node["additionalProperties"] is False, path


def test_shared_definitions_are_the_same_in_all_schemas() -> None:
    definitions: dict[str, Any] = {}
    for name in FORMATS:
        for key, value in schema(name).get("$defs", {}).items():
            assert definitions.setdefault(key, value) == value, f"{name}: {key}"


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError) as caught:
        schema("../x")
    assert (
        str(caught.value)
        == "a format must be one of manifest, plan, run, dry_run, releases, budget, error, benchmarks, got '../x'"
    )


DOCS = Path(__file__).parents[3] / "docs" / "formats.md"


@pytest.mark.parametrize("name", FORMATS)
def test_the_example_in_the_docs_keeps_the_schema(name: str) -> None:
    section = re.split(r"^## ", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    [own] = [part for part in section if part.startswith((f"{name},", f"{name}.json,"))]
    [example] = re.findall(r"```json\n(.*?)```", own, flags=re.DOTALL)
    assert violations(name, json.loads(example)) == []


@pytest.mark.parametrize("name", FORMATS)
def test_the_docs_name_every_field_of_a_format(name: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    fields = {key for _, node in objects(schema(name)) for key in node.get("properties", {})}
    assert {field for field in fields if f"`{field}`" not in text} == set()


@pytest.mark.parametrize("bound", [{}, {"protected": Protected(unit="author"), "sources": ("/data/a.csv",)}])
def test_a_budget_is_printed_as_the_budget_format_says(bound) -> None:
    balance = Balance(meter=BASIC, cap=Amount.cap("10", "1e-6"), spent=Amount.charge("1", "1e-8"), held=ZERO)
    budget = Budget(dataset="ngrams", balance=balance, head_seq=1, head_hash=GENESIS, **bound)
    assert violations("budget", budget_json(budget)) == []
