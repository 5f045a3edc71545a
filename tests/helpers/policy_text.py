"""A policy that is right, for tests to change; and all that is wrong with one that isn't, as whole messages."""

from __future__ import annotations

import pytest

from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError

BASE = """\
version: 1
dataset: visits
source: {format: csv, path: data.csv}
privacy_unit: person
columns:
  person: {type: string}
  place: {type: string}
  hours: {type: float64}
  seen: {type: date}
  at: {type: timestamp}
derive: {band: {bin: hours, edges: [1, 2]}}
where: [{column: hours, op: ">=", value: 0}]
budget: {epsilon: 10, delta: 1e-6}
run: {epsilon: 1, delta: 1e-8}
guardrails: {max_epsilon_per_run: 2, max_delta_per_run: 1e-7, min_pre_threshold: 5}
stages:
  - name: by_place
    group_by: [place]
    partitions: {private: {strategy: truncated_geometric, pre_threshold: 10}}
    bounds: {l0: 4, linf: 2}
    metrics: [count, sum: {column: hours, low: 0, high: 8}]
    noise: gaussian
"""


def problems(tmp_path, text):
    """The error's blocks as (rest of the first line, remedy), without the file's name."""
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    message = str(caught.value).replace(f"{path}:", "")
    lines = message.split("\n")
    return list(zip(lines[::2], [line.removeprefix("    Remedy: ") for line in lines[1::2]], strict=True))
