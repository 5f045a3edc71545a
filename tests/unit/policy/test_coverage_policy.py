"""Coverage in a policy: what is refused, in whole messages; and that a policy without it is what it was."""

from __future__ import annotations

import re

import pytest

import dpbeam
from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError
from tests.helpers import policy_text as shared

SHARE = "Give a part of the stage's budget, above 0 and below 1, such as 0.02."
FLOOR = "Give a share of rows, above 0 and below 1, such as 0.5, or leave the key out."
CASES = {
    "no share": ("coverage: {}", "coverage.share is required", SHARE),
    "all of the budget": ("coverage: {share: 1}", "coverage.share must be below 1, got 1", SHARE),
    "none of it": ("coverage: {share: 0}", "coverage.share must be above 0, got 0", SHARE),
    "a floor without it": (
        "guardrails: {min_coverage: 0.5}",
        "guardrails.min_coverage needs coverage, the noisy figure that it is compared with, got 0.5",
        "Write coverage: {share: 0.02}, or leave the key out.",
    ),
    "a floor of everything": (
        "coverage: {share: 0.02}\nguardrails: {min_coverage: 1}",
        "guardrails.min_coverage must be below 1, got 1",
        FLOOR,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_with_its_remedy(name, tmp_path) -> None:
    text, rule, remedy = CASES[name]
    base = re.sub(r"guardrails: .*\n", "", shared.BASE)
    (tmp_path / "policy.yaml").write_text(f"{base}{text}\n")
    with pytest.raises(PolicyError) as refused:
        load_policy(tmp_path / "policy.yaml")
    said = str(refused.value).split("\n")
    assert [line.partition("yaml:")[2].partition(": ")[2] for line in said[:1]] == [rule]
    assert said[1:] == [f"    Remedy: {remedy}"]


KEYS = """\
version: 1
dataset: visits
source: {format: csv, path: d.csv}
privacy_unit: u
columns: {u: {type: string}, p: {type: string}, n: {type: int64}}
run: {epsilon: 1, delta: 1e-8}
coverage: {share: 0.02}
stages:
  - name: by_p
    group_by: [p]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 3}
    metrics: []
"""


def test_a_stage_without_noise_has_none(tmp_path) -> None:
    (tmp_path / "policy.yaml").write_text(KEYS)
    with pytest.raises(PolicyError) as refused:
        load_policy(tmp_path / "policy.yaml")
    assert str(refused.value).split("yaml:")[1] == (
        "13: stages[0].metrics must have at least one entry with coverage, which gets the noise of the stage's "
        "metrics, got []\n"
        "    Remedy: List a metric, such as privacy_id_count, and noise; or leave coverage out."
    )


def test_rows_that_are_aggregated_already_have_none(tmp_path) -> None:
    text = KEYS.replace("path: d.csv}", "path: d.csv, pre_aggregated: {count: n}}")
    text = text.replace("{l0: 3}", "{l0: 3, linf: 2}").replace("metrics: []", "metrics: [count]\n    noise: laplace")
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(PolicyError) as refused:
        load_policy(tmp_path / "policy.yaml")
    assert str(refused.value).split("yaml:")[1] == (
        "7: coverage must be left out with source.pre_aggregated, whose rows each stand for several\n"
        "    Remedy: Leave the key out."
    )


def asked(tmp_path):
    (tmp_path / "v.csv").write_text("who,city\n")
    columns = {"who": "string", "city": "string"}
    begun = dpbeam.query("v", source=tmp_path / "v.csv", unit="who", columns=columns, epsilon=1.0, delta=1e-6)
    return begun.group_by("city").public(["a"]).bounds(l0=1).privacy_id_count()


def test_python_says_it_by_a_call_of_its_name(tmp_path) -> None:
    assert asked(tmp_path).coverage().policy().coverage.share == 0.02
    assert asked(tmp_path).coverage(share=0.1).policy().coverage.share == 0.1


def test_it_is_part_of_the_digest_where_it_is_asked_for_and_of_no_other(tmp_path) -> None:
    without, with_it = asked(tmp_path).policy(), asked(tmp_path).coverage().policy()
    assert "coverage" not in without.canonical_form()
    assert with_it.canonical_form()["coverage"] == {"share": 0.02}
    assert without.digest != with_it.digest


def test_a_plan_says_what_it_costs(tmp_path) -> None:
    said = dpbeam.plan(asked(tmp_path).coverage()).explain()
    (figure,) = dpbeam.plan(asked(tmp_path).coverage()).plan.utility.coverage
    assert (
        "by_city: 2 % of its budget says which share of rows passes the rules and counts (coverage), to within 5 "
        f"percentage points from {figure.units_5_points:,} privacy units on. That makes the noise of all else 1 % "
        "larger."
    ) in said
    assert figure.units_5_points == pytest.approx(1.96 * 2**0.5 * figure.std / 0.05, rel=1e-3)
    assert figure.noise_growth == pytest.approx(0.98**-0.5, rel=1e-3)


def test_a_plan_says_of_a_table_that_it_may_well_be_empty(tmp_path) -> None:
    query = asked(tmp_path).private("truncated_geometric").bounds(l0=500).spend(1.0, 1e-6)
    needed = dpbeam.plan(query).plan.utility.selections[0].units_50
    assert needed > 1000
    assert (
        f"Note: by_city may well be empty: a partition of {needed:,} privacy units is kept with probability 50 %, a "
        "smaller one less often. Group by coarser keys, raise epsilon or delta, or lower l0, if the data has no "
        "partitions as large as that."
    ) in dpbeam.plan(query).explain()
    assert "may well be empty" not in dpbeam.plan(asked(tmp_path)).explain()
