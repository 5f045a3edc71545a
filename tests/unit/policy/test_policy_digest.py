"""The digest changes with what a policy says, and with nothing else."""

from __future__ import annotations

import re

import pytest

from dpbeam.policy.load import load_policy

BASE = """\
version: 1
dataset: visits
source: {format: csv, path: data.csv}
privacy_unit: person
columns:
  person: {type: string}
  place: {type: string}
  hours: {type: float64}
derive: {band: {bin: hours, edges: [1, 2]}}
where: [{column: hours, op: ">=", value: 0}]
budget: {epsilon: 10, delta: 1e-6}
run: {epsilon: 1, delta: 1e-8}
guardrails: {max_epsilon_per_run: 2}
stages:
  - name: by_place
    group_by: [place]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 4, linf: 2}
    metrics: [count, sum: {column: hours, low: 0, high: 8}]
    noise: gaussian
  - name: by_band
    group_by: [band]
    partitions: {public: {file: bands.csv}}
    bounds: {l0: 3, linf: 2}
    metrics: [count]
    noise: laplace
"""


@pytest.fixture
def digest(tmp_path):
    (tmp_path / "bands.csv").write_text("band\n< 1\n≥ 2\n", encoding="utf-8")

    def of(text=BASE, **overrides):
        (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
        return load_policy(tmp_path / "policy.yaml", **overrides).digest

    return of


def changed(old, new):
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def test_the_digest_is_a_sha256(digest):
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest())


def test_the_digest_is_the_same_in_every_version_of_dpbeam(digest):
    assert digest() == "sha256:204a8c25a68ee93af3ad0af873d2deaa48c6d541dc6f49b41b2866ff831f8c03"


SAME = {
    "comments": ("dataset: visits", "# why\ndataset: visits   # what"),
    "the order of keys": ("run: {epsilon: 1, delta: 1e-8}", "run: {delta: 1e-8, epsilon: 1}"),
    "the order of columns": (
        "  person: {type: string}\n  place: {type: string}\n",
        "  place: {type: string}\n  person: {type: string}\n",
    ),
    "another way to write a number": ("delta: 1e-8", "delta: 0.00000001"),
    "a whole number as a fraction": ("epsilon: 1,", "epsilon: 1.0,"),
    "quotes": ("noise: gaussian", 'noise: "gaussian"'),
    "a default rule": ("place: {type: string}", "place: {type: string, on_null: drop, on_nan: drop}"),
    "the default meter": ("budget: {", "budget: {meter: basic, "),
    "the default weight": ("noise: gaussian", "noise: gaussian\n    weight: 1"),
    "text as it stands": ("place: {type: string}", "place: {type: string, trim: false}"),
    "the default delimiter": ("format: csv,", 'format: csv, delimiter: ",",'),
    "the default fingerprint": ("format: csv,", "format: csv, fingerprint: times,"),
    "the default pre_threshold": ("truncated_geometric}", "truncated_geometric, pre_threshold: 1, weight: 1}"),
    "a count spelled out": ("metrics: [count, ", "metrics: [count: {weight: 1, name: count}, "),
    "a default metric name": ("high: 8}", "high: 8, name: hours_sum}"),
    "the source's path": ("path: data.csv", "path: elsewhere/*.csv"),
    "what it says to readers": ("dataset: visits", "dataset: visits\nabout: {owner: Ward 3, contact: a@b.example}"),
    "the output": ("dataset: visits", "dataset: visits\noutput: {path: elsewhere, shards: 2}"),
}


@pytest.mark.parametrize("what", SAME)
def test_the_digest_does_not_depend_on(what, digest):
    assert digest(changed(*SAME[what])) == digest()


def test_the_digest_does_not_depend_on_flags(digest):
    assert digest(source=["x.csv", "gs://b/y.csv"], output="out") == digest()


def test_the_digest_does_not_depend_on_the_name_of_a_file_of_partitions(digest, tmp_path):
    (tmp_path / "other.csv").write_bytes((tmp_path / "bands.csv").read_bytes())
    assert digest(changed("bands.csv", "other.csv")) == digest()


OTHER = {
    "dataset": ("dataset: visits", "dataset: visit"),
    "format": ("format: csv", "format: parquet"),
    "delimiter": ("format: csv,", "format: csv, delimiter: ;,"),
    "fingerprint": ("format: csv,", "format: csv, fingerprint: content,"),
    "privacy unit": ("privacy_unit: person", "privacy_unit: place2"),
    "column type": ("hours: {type: float64}", "hours: {type: int64}"),
    "rule": ("place: {type: string}", "place: {type: string, on_null: fail}"),
    "text that is trimmed": ("place: {type: string}", "place: {type: string, trim: true}"),
    "stand-in": ("place: {type: string}", "place: {type: string, on_null: {replace: x}}"),
    "edges": ("edges: [1, 2]", "edges: [1, 3]"),
    "condition": ("value: 0}", "value: 1}"),
    "operator": ('op: ">="', 'op: ">"'),
    "budget": ("budget: {epsilon: 10", "budget: {epsilon: 11"),
    "run epsilon": ("run: {epsilon: 1", "run: {epsilon: 1.5"),
    "run delta": ("delta: 1e-8", "delta: 1e-9"),
    "guardrails": ("max_epsilon_per_run: 2", "max_epsilon_per_run: 3"),
    "stage name": ("name: by_place", "name: by_places"),
    "grouping": ("group_by: [place]", "group_by: [place, band]"),
    "strategy": ("truncated_geometric", "laplace_thresholding"),
    "pre_threshold": ("truncated_geometric}", "truncated_geometric, pre_threshold: 2}"),
    "selection weight": ("truncated_geometric}", "truncated_geometric, weight: 2}"),
    "l0": ("l0: 4", "l0: 5"),
    "linf": ("l0: 4, linf: 2", "l0: 4, linf: 3"),
    "metric": ("metrics: [count, ", "metrics: [privacy_id_count, "),
    "metric name": ("high: 8}", "high: 8, name: total}"),
    "metric weight": ("high: 8}", "high: 8, weight: 2}"),
    "low": ("low: 0", "low: -1"),
    "high": ("high: 8", "high: 9"),
    "noise": ("noise: gaussian", "noise: laplace"),
    "stage weight": ("noise: gaussian", "noise: gaussian\n    weight: 2"),
}


@pytest.mark.parametrize("what", OTHER)
def test_the_digest_depends_on(what, digest):
    text = changed(*OTHER[what])
    if what == "privacy unit":
        text = text.replace("  hours:", "  place2: {type: string}\n  hours:")
        assert digest(text) != digest(text.replace("privacy_unit: place2", "privacy_unit: person"))
    else:
        assert digest(text) != digest()


def test_the_digest_depends_on_what_a_file_of_partitions_holds(digest, tmp_path):
    before = digest()
    (tmp_path / "bands.csv").write_text("band\n< 1\n", encoding="utf-8")
    assert digest() != before
