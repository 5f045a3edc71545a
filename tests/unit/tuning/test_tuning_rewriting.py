"""A policy with some values changed is the same file but for them: to the byte, with a reason above each."""

from __future__ import annotations

import difflib

import pytest
import yaml

from dpbeam.errors import UsageError
from dpbeam.pipelines.tuning.reasons import Change
from dpbeam.pipelines.tuning.rewriting import HEAD, rewritten

TEXT = """\
# mine
stages:
  - name: a   # first
    bounds: {l0: 4, linf: 2}   # both
    partitions:
      private:
        strategy: "truncated_geometric"  # quoted
    metrics: [count, sum: {column: x, low: 0, high: 8}]

    noise: gaussian
  - name: b
    metrics:
      - privacy_id_count
      - mean:
          column: x
          low: -1
          high: 8
"""
A, B = ("stages", 0), ("stages", 1)


def changed(path, key, new, *, old=1, text=TEXT):
    return rewritten(text, [Change(path=path, key=key, old=old, new=new, why="because")])


def differences(text, new):
    assert new.startswith(HEAD)
    lines = difflib.ndiff(text.splitlines(), new.removeprefix(HEAD).splitlines())
    return [line for line in lines if line[0] in "+-"]


@pytest.mark.parametrize(
    ("path", "key", "new", "before", "after"),
    [
        ((*A, "bounds"), "l0", 12, "    bounds: {l0: 4, linf: 2}   # both", "    bounds: {l0: 12, linf: 2}   # both"),
        ((*A, "partitions", "private"), "strategy", "mad", '        strategy: "truncated_geometric"  # quoted',
         "        strategy: mad  # quoted"),
        (A, "noise", "laplace", "    noise: gaussian", "    noise: laplace"),
        ((*A, "metrics", 0), "weight", 2.0, "    metrics: [count, sum: {column: x, low: 0, high: 8}]",
         "    metrics: [count: {weight: 2}, sum: {column: x, low: 0, high: 8}]"),
        ((*A, "metrics", 1), "high", 2.5, "    metrics: [count, sum: {column: x, low: 0, high: 8}]",
         "    metrics: [count, sum: {column: x, low: 0, high: 2.5}]"),
        ((*B, "metrics", 0), "weight", 0.25, "      - privacy_id_count", "      - privacy_id_count: {weight: 0.25}"),
        ((*B, "metrics", 1), "low", -0.5, "          low: -1", "          low: -0.5"),
    ],
)  # fmt: skip
def test_one_value_is_another_and_the_line_above_says_why(path, key, new, before, after) -> None:
    found = changed(path, key, new)
    indent = before[: len(before) - len(before.lstrip())]
    expected = [f"- {before}", f"+ {indent}# tune: {key} was 1: because", f"+ {after}"]
    assert sorted(differences(TEXT, found)) == sorted(expected)
    assert yaml.safe_load(found) != yaml.safe_load(TEXT)


def test_a_key_that_isnt_there_is_put_in() -> None:
    flow = changed((*A, "bounds"), "weight", 2)
    assert "bounds: {l0: 4, linf: 2, weight: 2}   # both" in flow
    block = yaml.safe_load(changed((*A, "partitions", "private"), "weight", 0.5))
    assert block["stages"][0]["partitions"]["private"] == {"weight": 0.5, "strategy": "truncated_geometric"}
    stage = yaml.safe_load(changed(B, "weight", 2))["stages"][1]
    assert (stage["weight"], stage["name"]) == (2, "b")
    metric = yaml.safe_load(changed((*B, "metrics", 1), "weight", 4))["stages"][1]["metrics"][1]
    assert metric == {"mean": {"column": "x", "low": -1, "high": 8, "weight": 4}}


def test_several_changes_of_one_line_have_their_reasons_in_order() -> None:
    both = [Change(path=(*A, "bounds"), key=key, old=1, new=new, why=key) for key, new in (("l0", 3), ("linf", 1))]
    assert "    # tune: l0 was 1: l0\n    # tune: linf was 1: linf\n    bounds: {l0: 3, linf: 1}" in rewritten(
        TEXT, both
    )


def test_line_ends_of_another_system_stay() -> None:
    found = changed((*A, "bounds"), "l0", 12, text=TEXT.replace("\n", "\r\n"))
    assert found.count("\r\n") == TEXT.count("\n")


def test_what_is_written_in_no_usual_way_is_refused() -> None:
    text = "stages:\n  - metrics:\n      - count:\n"
    with pytest.raises(UsageError) as caught:
        changed(("stages", 0, "metrics", 0), "weight", 2, text=text)
    assert str(caught.value) == (
        "stages.0.metrics.0.weight is written in a way that can't be changed by itself; set it to 2 by hand"
    )
