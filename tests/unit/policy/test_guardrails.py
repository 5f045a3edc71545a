"""Hostile edits of a policy against an organisation's guardrails: whatever way a rule is broken by, it is found.

Each edit is a policy that loads; each is tried on a policy of one stage, and behind a harmless one, as the second.
"""

from __future__ import annotations

import pytest
import yaml

from dpbeam.accounting.plan import plan
from dpbeam.pipelines.lifecycle import guarding
from dpbeam.policy.compile import query
from dpbeam.policy.guardrails.load import guardrails_of, load_guardrails
from dpbeam.policy.load import load_text
from dpbeam.policy.violations import PolicyError
from tests.helpers.signing import guardrails

ORGANISATION = """\
version: 1
run: {max_epsilon: 2, max_delta: 1e-6}
budget: {max_epsilon: 20, max_delta: 1e-4}
bounds: {max_l0: 8, max_linf: 4}
partitions: {min_pre_threshold: 5, min_people: 100, strategies: [truncated_geometric, gaussian_thresholding, mad]}
noises: [gaussian]
metrics: [count, privacy_id_count, sum, mean, top_k, median]
sources: {formats: [csv, parquet], paths: [/data/visits/**, "gs://ours/visits/*"]}
privacy_units: [person]
forbidden_columns: [ssn, "*_mail"]
min_coverage: 0.5
"""
BASE = """\
version: 1
dataset: visits
source: {format: csv, path: /data/visits/all.csv}
privacy_unit: person
columns:
  person: {type: string}
  place: {type: string}
  town: {type: string}
  hours: {type: float64}
budget: {epsilon: 10, delta: 1e-5}
run: {epsilon: 1, delta: 1e-7}
guardrails: {min_coverage: 0.6}
coverage: {share: 0.02}
stages:
  - name: by_place
    group_by: [place]
    partitions: {private: {strategy: truncated_geometric, pre_threshold: 10}}
    bounds: {l0: 4, linf: 2}
    metrics: [count, sum: {column: hours, low: 0, high: 8}]
    noise: gaussian
"""

TOP_K = "{top_k: {column: town, k: 3, max_values: 2, pre_threshold: 10}}"
GEOMETRIC = "{private: {strategy: truncated_geometric, pre_threshold: 10}}"

# By rule, what to set where; `s` is the attacked stage. A name is looked up from the policy's root, or the stage's.
OF_POLICY: dict[str, list[dict[str, str]]] = {
    "run.max_epsilon": [
        {"run.epsilon": "2.0000001"},
        {"run.epsilon": "1000", "budget": None},
        {"run.epsilon": "3", "guardrails.max_epsilon_per_run": "5"},
        {"run.epsilon": "2.5", "coverage.share": "0.9"},
    ],
    "run.max_delta": [
        {"run.delta": "1.1e-6"},
        {"run.delta": "0.5", "budget": None},
        {"run.delta": "1e-5", "guardrails.max_delta_per_run": "0.1"},
    ],
    "budget.max_epsilon": [{"budget.epsilon": "21"}, {"budget.epsilon": "1e6"}],
    "budget.max_delta": [{"budget.delta": "2e-4"}, {"budget.delta": "0.99"}],
    "privacy_units": [
        {"privacy_unit": "town"},
        {"columns.person.field": "session"},
        {"source.format": "parquet", "columns.person.field": "[person, visit]"},
        {"columns.other": "{type: string, field: place}", "privacy_unit": "other"},
        {"columns.number": "{type: int64}", "privacy_unit": "number"},
    ],
    "forbidden_columns": [
        {"columns.ssn": "{type: string}"},
        {"columns.harmless": "{type: string, field: ssn}"},
        {"columns.harmless": "{type: string, field: SSN}"},
        {"columns.harmless": "{type: string, field: person.ssn}"},
        {"source.format": "parquet", "columns.harmless": "{type: string, field: [person, ssn]}"},
        {"source.format": "parquet", "columns.harmless": "{type: string, field: [ssn, digits]}"},
        {"columns.harmless": "{type: string, field: work_mail}"},
        {"columns.home_mail": "{type: string}", "derive.domain": "{lower: home_mail}", "s.group_by": "[domain]"},
        {"columns.x": "{type: int64, field: ssn}", "derive.band": "{bin: x, edges: [1, 2]}", "s.group_by": "[band]"},
        {"columns.x": "{type: int64, field: ssn}", "derive.y": "{expression: 'x * 2 + 1'}"},
        {"columns.x": "{type: string, field: ssn}", "derive.y": "{lookup: x, values: {a: b}}"},
        {"columns.x": "{type: string, field: ssn}", "where": "[{column: x, op: '==', value: a}]"},
        {"columns.\uff53\uff53\uff4e": "{type: string}"},
        {"source.path_columns": "[ssn]", "columns.ssn": "{type: string}"},
        {"columns.x": "{type: float64, field: ssn}", "s.metrics": "[{mean: {column: x, low: 0, high: 1, name: m}}]"},
    ],
    "sources.formats": [{"source.format": "avro"}, {"source.format": "jsonl"}],
    "sources.paths": [
        {"source.path": "/data/payroll/all.csv"},
        {"source.path": "/data/visits/../payroll/all.csv"},
        {"source.path": "'/data/visits/*/../../payroll/all.csv'"},
        {"source.path": "[/data/visits/all.csv, /data/payroll/all.csv]"},
        {"source.path": "data/visits/all.csv"},
        {"source.path": "'/data/**'"},
        {"source.path": "'/data/visit[s]/../all.csv'"},
        {"source.path": "gs://theirs/visits/all.csv"},
        {"source.path": "gs://ours/visits/deeper/all.csv"},
        {"source.path": "gs://ours/visits/../all.csv"},
    ],
    "min_coverage": [
        {"guardrails.min_coverage": "0.4"},
        {"guardrails": None},
        {"guardrails": None, "coverage": None},
        {"guardrails.min_coverage": "0.4999999"},
    ],
}
OF_STAGE: dict[str, list[dict[str, str]]] = {
    "bounds.max_l0": [
        {"s.bounds": "{l0: 9, linf: 1}"},
        {"s.bounds": "{l0: {auto: {max: 9}}, linf: 1}"},
        {"s.bounds": "{l0: {auto: {max: 100, otherwise: 2}}, linf: 2}"},
        {"s.bounds": "{l1: 9}"},
        {"s.bounds": "{l1: {auto: {max: 9}}}"},
        {"s.partitions.private.other": "true", "s.partitions.private.other_l0": "9", "s.bounds": "{l0: 9, linf: 1}"},
        {"s.group_by": "[town, place]", "s.partitions.private.hierarchical": "true", "s.bounds": "{l0: 20, linf: 1}"},
    ],
    "bounds.max_linf": [
        {"s.bounds": "{l0: 1, linf: 5}"},
        {"s.bounds": "{l0: 1, linf: {auto: {max: 5}}}"},
        {"s.bounds": "{l1: 5}"},
        {"s.bounds": "{l1: {auto: {max: 5, otherwise: 1}}}"},
        {"s.metrics": "[{top_k: {column: town, k: 3, max_values: 5, pre_threshold: 10}}]"},
    ],
    "partitions.min_pre_threshold": [
        {"s.partitions": "{private: {strategy: truncated_geometric, pre_threshold: 4}}"},
        {"s.partitions": "{private: {strategy: truncated_geometric}}"},
        {"s.partitions": "{private: {strategy: mad}}"},
        {"s.metrics": f"[count, {TOP_K.replace('10}', '4}')}]"},
        {"s.metrics": "[{top_k: {column: town, k: 3, max_values: 2, name: best}}]"},
        {"s.partitions": "{private: {strategy: truncated_geometric}}", "guardrails.min_pre_threshold": "1"},
    ],
    "partitions.min_people": [
        {"s.partitions": GEOMETRIC, "s.bounds": "{l0: 1, linf: 1}", "run.delta": "1e-6", "run.epsilon": "2"},
        {"s.metrics": "[privacy_id_count]", "s.bounds": "{l0: 1, linf: 1}", "s.weight": "100", "run.epsilon": "2"},
        {"s.partitions.private.weight": "1000", "run.epsilon": "2", "s.bounds": "{l0: 1, linf: 1}"},
    ],
    "partitions.strategies": [
        {"s.partitions": "{private: {strategy: laplace_thresholding, pre_threshold: 10}}"},
        {"s.partitions": "{private: {strategy: dp_sips, pre_threshold: 10, rounds: 2}}"},
        {"s.partitions": "{public: {values: [a, b]}}"},
        {"s.partitions": "{public: {product: {place: [a, b]}}}"},
        {"s.partitions": "{public: {values: [a, b], other: rest}}"},
    ],
    "noises": [
        {"s.noise": "laplace"},
        {"s.noise": "laplace", "s.metrics": "[count]"},
        {"s.noise": "laplace", "s.group_by": "[]", "s.partitions": None, "s.bounds": "{l0: 1, linf: 1}"},
    ],
    "metrics": [
        {"s.metrics": "[{variance: {column: hours, low: 0, high: 8}}]"},
        {"s.metrics": "[count, {distinct_count: {column: town, name: count_of_towns}}]"},
        {"s.metrics": "[{count_if: {column: hours, op: '>', value: 1, name: counted}}]"},
    ],
}
SECOND = """\
name: harmless
group_by: [town]
partitions: {private: {strategy: truncated_geometric, pre_threshold: 50}}
bounds: {l0: 1, linf: 1}
metrics: [count]
noise: gaussian
"""


def edited(edit: dict[str, str | None], *, behind: bool) -> str:
    policy = yaml.load(BASE, Loader=yaml.CSafeLoader)
    policy["run"], policy["budget"] = {"epsilon": 1.0, "delta": 1e-7}, {"epsilon": 10.0, "delta": 1e-5}
    stage = policy["stages"][0]
    if behind:
        policy["stages"].insert(0, yaml.safe_load(SECOND))
    for name, value in edit.items():
        *path, last = name.split(".")
        at = policy
        if path[:1] == ["s"]:
            at, path = stage, path[1:]
        for part in path:
            at = at.setdefault(part, {})
        if value is None:
            at.pop(last, None)
        else:
            try:
                at[last] = float(value) if last in ("epsilon", "delta", "share", "min_coverage") else None
            except ValueError:
                at[last] = None
            if at[last] is None:
                at[last] = yaml.safe_load(value)
    return yaml.safe_dump(policy, allow_unicode=True, sort_keys=False)


EDITS = [(rule, edit, False) for rules in (OF_POLICY, OF_STAGE) for rule, edits in rules.items() for edit in edits]
EDITS += [(rule, edit, True) for rule, edits in OF_STAGE.items() for edit in edits]


def broken(text: str) -> set[str]:
    """The rules that the policy breaks, by the one function that plan, check and submit ask."""
    policy = load_text(text, name="policy.yaml")
    held = guardrails_of(TEXT)
    return {breach.rule for breach in guarding.all_breaches(held, policy, plan(query(policy)))}


@pytest.fixture(scope="module", autouse=True)
def _text(tmp_path_factory) -> None:
    global TEXT
    path = tmp_path_factory.mktemp("guardrails") / "guardrails.yaml"
    path.write_text(ORGANISATION, encoding="utf-8")
    from dpbeam.ledger.canonical import canonical

    TEXT = canonical(load_guardrails(path).canonical_form())


TEXT = ""


def test_there_are_a_hundred() -> None:
    assert len(EDITS) >= 100


def test_the_policy_as_it_was_keeps_to_them() -> None:
    assert broken(BASE) == set()
    assert broken(edited({}, behind=True)) == set()


@pytest.mark.parametrize(("rule", "edit", "behind"), EDITS)
def test_a_hostile_edit_is_refused_by_the_rule_that_it_breaks(rule, edit, behind) -> None:
    assert rule in broken(edited(edit, behind=behind))


def test_a_file_of_guardrails_that_is_wrong_is_refused_with_its_line(tmp_path) -> None:
    path = tmp_path / "guardrails.yaml"
    path.write_text("version: 1\nrun: {max_epsilon: 2, max_epsilom: 3}\nnoises: [uniform]\napprovals: 1\n")
    with pytest.raises(PolicyError) as caught:
        load_guardrails(path)
    said = str(caught.value)
    assert f"{path}:2: run.max_epsilom is no key of guardrails" in said
    assert f"{path}:3: noises[0] is wrong" in said


def test_two_names_for_one_key_are_refused(tmp_path) -> None:
    path = tmp_path / "guardrails.yaml"
    one = "ed25519:" + "0" * 64
    path.write_text(f"version: 1\napprovals: 1\napprovers: {{alice: '{one}'}}\nsubmitters: {{bob: '{one}'}}\n")
    with pytest.raises(PolicyError, match="each key once"):
        load_guardrails(path)


def test_the_digest_is_of_what_they_say() -> None:
    assert guardrails_of(guardrails()).digest == guardrails_of(guardrails()).digest
    assert guardrails_of(guardrails(approvals=2)).digest != guardrails_of(guardrails()).digest
