"""Automatic bounds in a policy file: where they may stand, and what is said where they may not."""

from __future__ import annotations

import jsonschema
import pytest

from dpbeam.policy.json_schema import json_schema
from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError
from dpbeam.policy.yamlfile import read_yaml

TEXT = """\
version: 1
dataset: visits
source: {format: csv, path: data.csvSOURCE}
privacy_unit: UNIT
columns:
  person: {type: string}
  place: {type: string}
  hours: {type: float64}
  n: {type: int64}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: by_place
    group_by: GROUP
    PARTITIONS
    bounds: BOUNDS
    metrics: [METRIC]
    noise: gaussian
"""
WHOLE = {
    "SOURCE": "",
    "UNIT": "person",
    "GROUP": "[place]",
    "PARTITIONS": "partitions: {public: {values: [a]}}",
    "BOUNDS": "{l0: 2, linf: 2}",
    "METRIC": "count",
}


def written(tmp_path, **changes):
    text = TEXT
    for word, part in (WHOLE | changes).items():
        text = text.replace(word, part)
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


AUTO = "{auto: {}}"
RIGHT = [
    {"BOUNDS": "{l0: {auto: {max: 10}}, linf: 3}"},
    {"BOUNDS": "{l0: 3, linf: {auto: {max: 10, weight: 2}}}"},
    {"BOUNDS": "{l1: {auto: {max: 10}}}"},
    {"BOUNDS": "{l0: {auto: {max: 10}}}", "METRIC": "privacy_id_count"},
    {"BOUNDS": "{l0: 1, linf: {auto: {max: 10}}}", "GROUP": "[]", "PARTITIONS": "# the whole table"},
    {"METRIC": f"sum: {{column: hours, low: 0, high: {AUTO}}}"},
    {"METRIC": f"sum: {{column: hours, low: {AUTO}, high: 0.5}}"},
    *({"METRIC": f"{kind}: {{column: hours, low: {AUTO}, high: {AUTO}}}"}
      for kind in ("sum", "mean", "variance", "stddev", "median", "min", "max")),
    {"METRIC": f"quantiles: {{column: hours, low: {AUTO}, high: {AUTO}, ranks: [0.5]}}"},
    {"METRIC": "sum: {column: hours, low: 0, high: {auto: {least: 1e-12, most: 5e14, weight: 0.1}}}"},
    {"BOUNDS": "{l0: {auto: {max: 50, otherwise: 4}}, linf: 3}"},
    {"METRIC": "sum: {column: hours, low: {auto: {otherwise: -0.5}}, high: {auto: {otherwise: 1024}}}"},
    {"UNIT": "row", "BOUNDS": "{l0: 1, linf: 1}", "METRIC": f"sum: {{column: hours, low: 0, high: {AUTO}}}"},
]  # fmt: skip


@pytest.mark.parametrize("changes", RIGHT)
def test_a_bound_may_be_automatic_wherever_it_bounds_rows_or_values(tmp_path, changes):
    path = written(tmp_path, **changes)
    assert load_policy(path).stages
    jsonschema.validate(read_yaml(path).data, json_schema())


COUNTS = "Write {auto: {max: 100}} for a bound on contributions, {auto: {}} for a clipping bound."
OTHERWISE = (
    "Give what the bound is to be where nothing stands out, one that the run may find: from 1 to max, or 0 or ± a "
    "power of two from least to most. Or leave the key out."
)
WRONG = {
    "a bound without a most": (
        {"BOUNDS": "{l0: {auto: {}}, linf: 1}"},
        "15: stages[0].bounds.l0.auto.max is required",
        "Give the most that the bound may become, a whole number: {auto: {max: 100}}.",
    ),
    "a most of 0": (
        {"BOUNDS": "{l0: {auto: {max: 0}}, linf: 1}"},
        "15: stages[0].bounds.l0.auto.max must be at least 1, got 0",
        "Give the most that the bound may become, a whole number: {auto: {max: 100}}.",
    ),
    "no mapping under auto": (
        {"BOUNDS": "{l0: {auto: 5}, linf: 1}"},
        "15: stages[0].bounds.l0.auto must be a mapping, got 5",
        COUNTS,
    ),
    "a mapping that isn't auto": (
        {"BOUNDS": "{l0: {}, linf: 1}"},
        "15: stages[0].bounds.l0.auto is required",
        COUNTS,
    ),
    "an unknown key": (
        {"BOUNDS": "{l0: {auto: {max: 5, min: 2}}, linf: 1}"},
        "15: stages[0].bounds.l0.auto.min is not a known key",
        "Known keys here: max, weight, otherwise.",
    ),
    "a magnitude out of range": (
        {"METRIC": "sum: {column: hours, low: 0, high: {auto: {most: 1e15}}}"},
        "16: stages[0].metrics[0].sum.high.auto.most must be at most 5e14, got 1000000000000000.0",
        "Give the largest magnitude that the bound may become, from 1e-12 to 5e14, or leave the key out: 1e12.",
    ),
    "magnitudes out of order": (
        {"METRIC": "sum: {column: hours, low: 0, high: {auto: {least: 2, most: 2}}}"},
        "16: stages[0].metrics[0].sum.high.auto must have least below most, got a mapping",
        COUNTS,
    ),
    "a stated bound that leaves no room": (
        {"METRIC": "sum: {column: hours, low: 5, high: {auto: {most: 8}}}"},
        "16: stages[0].metrics[0].sum.low must be at most half of what high may become, 8.0, got 5.0",
        "Raise its most.",
    ),
    "a stated bound that leaves no room below": (
        {"METRIC": "sum: {column: hours, low: {auto: {most: 8}}, high: -5}"},
        "16: stages[0].metrics[0].sum.high must be at least half of what low may become, -8.0, got -5.0",
        "Raise its most.",
    ),
    "an otherwise beyond the most": (
        {"BOUNDS": "{l0: {auto: {max: 5, otherwise: 6}}, linf: 1}"},
        "15: stages[0].bounds.l0.auto must have an otherwise that it may find, got a mapping",
        OTHERWISE,
    ),
    "an otherwise that is no power of two": (
        {"METRIC": "sum: {column: hours, low: 0, high: {auto: {otherwise: 100.0}}}"},
        "16: stages[0].metrics[0].sum.high.auto must have an otherwise that it may find, got a mapping",
        OTHERWISE,
    ),
    "an otherwise below the other bound": (
        {"METRIC": "sum: {column: hours, low: 10, high: {auto: {otherwise: 8.0}}}"},
        "16: stages[0].metrics[0].sum.high.auto.otherwise must lie above low, 10.0, got 8.0",
        "Give the bounds in rising order.",
    ),
    "an otherwise above the other bound": (
        {"METRIC": "sum: {column: hours, low: {auto: {otherwise: 8.0}}, high: 5}"},
        "16: stages[0].metrics[0].sum.low.auto.otherwise must lie below high, 5.0, got 8.0",
        "Give the bounds in rising order.",
    ),
    "an otherwise of one of two bounds": (
        {"METRIC": "sum: {column: hours, low: {auto: {otherwise: 0}}, high: {auto: {}}}"},
        "16: stages[0].metrics[0].sum.high.auto must state an otherwise where low does: both are found together",
        "Give one to both.",
    ),
    "totals": (
        {"METRIC": f"sum: {{column: hours, low_total: 0, high_total: {AUTO}}}"},
        "16: stages[0].metrics[0].sum.high_total must be a number: this can't be found by the run, got a mapping",
        "Give the most that one person's rows in a partition may add up to; a higher total is lowered to it.",
    ),
    "a norm": (
        {"METRIC": f"vector_sum: {{columns: [hours], norm: l2, max_norm: {AUTO}}}"},
        "16: stages[0].metrics[0].vector_sum.max_norm must be a number: this can't be found by the run, got a mapping",
        "Give the greatest norm that one row's vector may count for; longer ones are scaled down.",
    ),
    "l0 of the whole table": (
        {"BOUNDS": "{l0: {auto: {max: 3}}, linf: 1}", "GROUP": "[]", "PARTITIONS": "# none"},
        "15: stages[0].bounds.l0 must be 1 where group_by is empty: there is one partition",
        "Write l0: 1; a larger one would only add noise.",
    ),
    "linf of rows aggregated already": (
        {"SOURCE": ", pre_aggregated: {count: n}", "BOUNDS": "{l0: 2, linf: {auto: {max: 9}}}"},
        "15: stages[0].bounds.linf must be a number: from rows aggregated already, each of which stands for several, "
        "it can't be found",
        "Write the most that a unit's rows may count for in a partition.",
    ),
    "bounds of rows that are units": (
        {"UNIT": "row", "BOUNDS": "{l0: {auto: {max: 3}}, linf: 1}"},
        "15: stages[0].bounds must be l0: 1 and linf: 1 with privacy_unit: row, for each row is a unit of its own",
        "Write bounds: {l0: 1, linf: 1}.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place_and_remedy(tmp_path, case):
    changes, message, remedy = WRONG[case]
    path = written(tmp_path, **changes)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    lines = str(caught.value).replace(f"{path}:", "").split("\n")
    assert lines == [message, f"    Remedy: {remedy}"]


def test_two_metrics_of_a_column_can_not_ask_for_different_histograms(tmp_path):
    metric = f"sum: {{column: hours, low: 0, high: {AUTO}}}}}, {{mean: {{column: hours, low: 0, high: "
    path = written(tmp_path, METRIC=f"{{{metric}{{auto: {{most: 64}}}}}}}}")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert str(caught.value).replace(f"{path}:", "").split("\n") == [
        "16: stages[0].metrics[1].mean.high.auto must have the same least and most as the other automatic bounds of "
        "hours here",
        "    Remedy: Write {least: 1e-06, most: 1000000000000.0}, or change the others.",
    ]


def test_the_digest_covers_auto_as_it_is_written(tmp_path):
    def digest(auto):
        return load_policy(written(tmp_path, METRIC=f"sum: {{column: hours, low: 0, high: {auto}}}")).digest

    assert digest("{auto: {}}") == digest("{auto: {most: 1e12}}")
    assert digest("{auto: {}}") == digest("{auto: {otherwise: null}}")
    written_so = ("{auto: {}}", "{auto: {most: 64}}", "{auto: {weight: 1}}", "{auto: {otherwise: 64}}", "64")
    assert len({digest(auto) for auto in written_so}) == 5
