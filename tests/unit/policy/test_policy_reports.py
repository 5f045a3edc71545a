"""All that is wrong with a policy is said at once, in the order of the file, as one error."""

from __future__ import annotations

import pickle

import pytest

from dpbeam.errors import UsageError
from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError
from tests.helpers import policy_text as shared

BASE, problems = shared.BASE, shared.problems


def test_two_stages_of_one_name_are_refused(tmp_path):
    stage = BASE[BASE.index("  - name") :]
    assert problems(tmp_path, BASE + stage) == [
        ("23: stages[1].name must not stand twice, got 'by_place'", "Give every stage a name of its own.")
    ]


def test_all_violations_are_reported_at_once_in_the_order_of_the_file(tmp_path):
    text = BASE
    for old, new in [
        ("dataset: visits", "dataset: Visits"),
        ("privacy_unit: person", "privacy_unit: nobody"),
        ("epsilon: 1,", "epsilon: .nan,"),
        ("group_by: [place]", "group_by: [nowhere]"),
        ("l0: 4", "l0: 0"),
        ("low: 0", "low: 8"),
        ("noise: gaussian", "noise: none"),
    ]:
        text = text.replace(old, new)
    assert [said.split(" ")[:2] for said, _ in problems(tmp_path, text)] == [
        ["2:", "dataset"],
        ["4:", "privacy_unit"],
        ["14:", "run.epsilon"],
        ["18:", "stages[0].group_by[0]"],
        ["20:", "stages[0].bounds.l0"],
        ["21:", "stages[0].metrics[1].sum.low"],
        ["22:", "stages[0].noise"],
    ]


def test_long_values_are_cut(tmp_path):
    ((said, _),) = problems(tmp_path, BASE.replace("dataset: visits", f"dataset: {'X' * 500}"))
    assert said.endswith("got '" + "X" * 58 + "…")


def test_the_error_is_a_usage_error_and_ends_with_exit_code_2(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_policy(tmp_path / "none.yaml")
    assert caught.value.exit_code == 2


def test_the_error_survives_pickling(tmp_path):
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path / "none.yaml")
    assert pickle.loads(pickle.dumps(caught.value)).violations == caught.value.violations  # noqa: S301
