"""What is wrong with a policy is said with file, line, key, value, rule and remedy: whole messages."""

from __future__ import annotations

import pytest

from dpbeam.policy.load import load_policy
from tests.helpers import policy_text as shared

BASE, problems = shared.BASE, shared.problems

KEYS = "Known keys here: "
EPSILON = "Give a number from 1e-6 to 1e6 (of a run to 1e3), such as 1; the smaller, the more private."
DELTA = "Give a small number above 0 and below 1, such as 1e-8: well below one over the number of people."
L0 = "Say how many partitions one person may count in; with more of them the noise grows."
LINF = "Say how many rows one person may add to one partition; with more of them the noise grows."
LOW = "Give the least value one row may count for, between -1e15 and 1e15; values below are raised to it."
STAGE = "Name it with a-z, 0-9 and _, starting with a letter, at most 64 characters."
WEIGHT = "Give a number from 1e-6 to 1e6; twice the weight gets about half the noise."


def test_the_policy_that_the_cases_change_is_right(tmp_path):
    (tmp_path / "policy.yaml").write_text(BASE)
    assert load_policy(tmp_path / "policy.yaml").dataset == "visits"


PRIVATE = "    partitions: {private: {strategy: truncated_geometric, pre_threshold: 10}}\n"

CASES = {
    "groups without partitions": (
        PRIVATE,
        "",
        "17: stages[0].partitions is required where group_by names columns",
        "Write partitions: {private: {strategy: truncated_geometric}} or {public: {values: [a, b]}}.",
    ),
    "partitions of the whole table": (
        "group_by: [place]\n" + PRIVATE + "    bounds: {l0: 4",
        "group_by: []\n" + PRIVATE + "    bounds: {l0: 1",
        "19: stages[0].partitions must be left out where group_by is empty: the whole table is the one partition, and "
        "it is public",
        "Remove it, or group by a column.",
    ),
    "several partitions of the whole table": (
        "group_by: [place]\n" + PRIVATE,
        "group_by: []\n",
        "19: stages[0].bounds.l0 must be 1 where group_by is empty: there is one partition, got 4",
        "Write l0: 1; a larger one would only add noise.",
    ),
    "an unknown key": (
        "dataset: visits",
        "dataset: visits\nprivcy_unit: x",
        "3: privcy_unit is not a known key",
        KEYS
        + "version, dataset, source, privacy_unit, columns, derive, where, budget, run, guardrails, coverage, stages,"
        " output, about. Did you mean 'privacy_unit'?",
    ),
    "an unknown key inside": (
        "linf: 2}",
        "linf: 2, l3: 3}",
        "20: stages[0].bounds.l3 is not a known key",
        KEYS + "l0, linf, l1.",
    ),
    "a later version": (
        "version: 1",
        "version: 2",
        "1: version must be at most 1, got 2",
        "Write version: 1; a higher one needs a newer dpbeam.",
    ),
    "epsilon NaN": (
        "run: {epsilon: 1",
        "run: {epsilon: .nan",
        "14: run.epsilon must be a finite number, got nan",
        EPSILON,
    ),
    "epsilon infinite": (
        "run: {epsilon: 1",
        "run: {epsilon: .inf",
        "14: run.epsilon must be a finite number, got inf",
        EPSILON,
    ),
    "epsilon 0": ("run: {epsilon: 1", "run: {epsilon: 0", "14: run.epsilon must be at least 1e-6, got 0", EPSILON),
    "epsilon negative": (
        "run: {epsilon: 1",
        "run: {epsilon: -1",
        "14: run.epsilon must be at least 1e-6, got -1",
        EPSILON,
    ),
    "epsilon a string": (
        "run: {epsilon: 1",
        'run: {epsilon: "1"',
        "14: run.epsilon must be a number, got '1'",
        "Write the number without quotes. " + EPSILON,
    ),
    "epsilon a boolean": (
        "run: {epsilon: 1",
        "run: {epsilon: true",
        "14: run.epsilon must be a number, got true",
        EPSILON,
    ),
    "epsilon so large that nothing is private": (
        "run: {epsilon: 1",
        "run: {epsilon: 1001",
        "14: run.epsilon must be at most 1000, got 1001",
        EPSILON,
    ),
    "epsilon missing": ("run: {epsilon: 1, ", "run: {", "14: run.epsilon is required", EPSILON),
    "delta NaN": ("delta: 1e-8", "delta: .NaN", "14: run.delta must be a finite number, got nan", DELTA),
    "delta infinite": ("delta: 1e-8", "delta: -.inf", "14: run.delta must be a finite number, got -inf", DELTA),
    "delta 0": ("delta: 1e-8", "delta: 0", "14: run.delta must be above 0, got 0", DELTA),
    "delta negative": ("delta: 1e-8", "delta: -1e-8", "14: run.delta must be above 0, got -1e-08", DELTA),
    "delta a string": (
        "delta: 1e-8",
        "delta: '1e-8'",
        "14: run.delta must be a number, got '1e-8'",
        "Write the number without quotes. " + DELTA,
    ),
    "delta 1": (
        "delta: 1e-6",
        "delta: 1",
        "13: budget.delta must be below 1, got 1",
        DELTA,
    ),
    "a run above the budget": (
        "budget: {epsilon: 10,",
        "budget: {epsilon: 0.5,",
        "14: run.epsilon must be at most budget.epsilon, 0.5, got 1.0",
        "Ask for less in a run.",
    ),
    "a run above a guardrail": (
        "max_delta_per_run: 1e-7",
        "max_delta_per_run: 1e-9",
        "14: run.delta must be at most guardrails.max_delta_per_run, 1e-09, got 1e-08",
        "Ask for less in a run.",
    ),
    "a pre_threshold below a guardrail": (
        ", pre_threshold: 10",
        "",
        "19: stages[0].partitions.private.pre_threshold must be at least guardrails.min_pre_threshold, 5, got 1",
        "Write pre_threshold: 5 or more.",
    ),
    "l0 0": ("l0: 4", "l0: 0", "20: stages[0].bounds.l0 must be at least 1, got 0", L0),
    "l0 a boolean": ("l0: 4", "l0: true", "20: stages[0].bounds.l0 must be a whole number, got true", L0),
    "l0 a fraction": ("l0: 4", "l0: 4.0", "20: stages[0].bounds.l0 must be a whole number, got 4.0", L0),
    "linf too large": (
        "linf: 2",
        "linf: 2147483648",
        "20: stages[0].bounds.linf must be at most 2147483647, got 2147483648",
        LINF,
    ),
    "low = high": (
        "low: 0",
        "low: 8",
        "21: stages[0].metrics[1].sum.low must be below high, 8.0, got 8.0",
        "Give the bounds in rising order.",
    ),
    "low above high": (
        "low: 0",
        "low: 9",
        "21: stages[0].metrics[1].sum.low must be below high, 8.0, got 9.0",
        "Give the bounds in rising order.",
    ),
    "low NaN": ("low: 0", "low: .nan", "21: stages[0].metrics[1].sum.low must be a finite number, got nan", LOW),
    "low too large": (
        "low: 0",
        "low: -1.1e15",
        "21: stages[0].metrics[1].sum.low must be at least -1e15, got -1100000000000000.0",
        LOW,
    ),
    "bounds too close": (
        "low: 0, high: 8",
        "low: 0, high: 1e-20",
        "21: stages[0].metrics[1].sum.low must lie at least 1e-15 below high, 1e-20, got 0.0",
        "Use another unit.",
    ),
    "a stage that climbs": (
        "name: by_place",
        "name: ../x",
        "17: stages[0].name must match [a-z][a-z0-9_]* and have at most 64 characters, got '../x'",
        STAGE,
    ),
    "a stage with a newline": (
        "name: by_place",
        'name: "x\\n"',
        "17: stages[0].name must match [a-z][a-z0-9_]* and have at most 64 characters, got 'x\\n'",
        STAGE,
    ),
    "a dataset that climbs": (
        "dataset: visits",
        "dataset: ..",
        "2: dataset must match [a-z0-9][a-z0-9_-]* and have at most 64 characters, got '..'",
        "Name it with a-z, 0-9, _ and -, starting with a letter or digit, at most 64 characters.",
    ),
    "no metric": (
        "metrics: [count, sum: {column: hours, low: 0, high: 8}]",
        "metrics: []",
        "22: stages[0].noise must be left out where there are no metrics to add it to",
        "Remove it, or list metrics.",
    ),
    "metrics without noise": (
        "    noise: gaussian\n",
        "",
        "17: stages[0].noise is required",
        "Write laplace or gaussian.",
    ),
    "no metric of public partitions": (
        "{private: {strategy: truncated_geometric, pre_threshold: 10}}\n    bounds: {l0: 4, linf: 2}\n"
        "    metrics: [count, sum: {column: hours, low: 0, high: 8}]\n    noise: gaussian",
        "{public: {values: [a]}}\n    bounds: {l0: 4, linf: 2}\n    metrics: []",
        "21: stages[0].metrics must have at least one entry where the partitions are known beforehand, got []",
        "List at least one of count, privacy_id_count, {sum: …} and {mean: …}.",
    ),
    "rounds of a strategy without": (
        "pre_threshold: 10}}",
        "pre_threshold: 10, rounds: 2}}",
        "19: stages[0].partitions.private.rounds applies to the strategy dp_sips only, got 2",
        "Leave the key out.",
    ),
    "hierarchical keys without a hierarchy": (
        "truncated_geometric, pre_threshold: 10}}",
        "truncated_geometric, pre_threshold: 10, hierarchical: true}}",
        "19: stages[0].partitions.private.hierarchical needs at least two columns in group_by, from coarse to fine, "
        "and a metric",
        "Leave the key out, or list them.",
    ),
    "leaves of an other without a hierarchy": (
        "truncated_geometric, pre_threshold: 10}}",
        "truncated_geometric, pre_threshold: 10, other_l0: 2}}",
        "19: stages[0].partitions.private.other_l0 applies to hierarchical keys only, got 2",
        "Leave the key out, or write hierarchical: true.",
    ),
    "more leaves of an other than a unit has": (
        "[place]\n    partitions: {private: {strategy: truncated_geometric, pre_threshold: 10}}",
        "[place, band]\n    partitions: {private: {strategy: mad, pre_threshold: 10, hierarchical: true, other_l0: 5}}",
        "19: stages[0].partitions.private.other_l0 must be at most bounds.l0, 4: a unit counts in no more leaves, "
        "got 5",
        "Lower it, or leave it out to lose nothing.",
    ),
    "leaves of an other beside l1": (
        "[place]\n    partitions: {private: {strategy: truncated_geometric, pre_threshold: 10}}\n"
        "    bounds: {l0: 4, linf: 2}",
        "[place, band]\n"
        "    partitions: {private: {strategy: mad, pre_threshold: 10, hierarchical: true, other_l0: 5}}\n"
        "    bounds: {l1: 4}",
        "19: stages[0].partitions.private.other_l0 must be left out with bounds.l1, which lets all rows of a unit into "
        "one other at no more noise, got 5",
        "Remove it, or bound by l0 and linf.",
    ),
    "hierarchical public partitions": (
        "{private: {strategy: truncated_geometric, pre_threshold: 10}}",
        "{public: {values: [a], hierarchical: true}}",
        "19: stages[0].partitions.public.hierarchical is not a known key",
        "Known keys here: values, product, file, other.",
    ),
    "no round": (
        "truncated_geometric, pre_threshold: 10}}",
        "dp_sips, pre_threshold: 10, rounds: 0}}",
        "19: stages[0].partitions.private.rounds must be at least 1, got 0",
        "Give a whole number from 1 to 10, or leave the key out for 3.",
    ),
    "weight sent on to too many partitions": (
        "truncated_geometric, pre_threshold: 10}}\n    bounds: {l0: 4, linf: 2}",
        "mad, pre_threshold: 10}}\n    bounds: {l0: 257, linf: 2}",
        "19: stages[0].partitions.private.strategy must be dp_sips, or one that counts units, where one unit may be in "
        "more than 256 partitions, got 'mad'",
        "Write dp_sips, or lower l0 or l1 to 256.",
    ),
    "weight shared by too many partitions": (
        "truncated_geometric, pre_threshold: 10}}\n    bounds: {l0: 4, linf: 2}",
        "dp_sips, pre_threshold: 10}}\n    bounds: {l0: 65537, linf: 2}",
        "19: stages[0].partitions.private.strategy must be one that counts units, where one unit may be in more than "
        "65536 partitions, got 'dp_sips'",
        "Lower l0 or l1 to 65536, or write gaussian_thresholding.",
    ),
    "an unknown metric": (
        "metrics: [count,",
        "metrics: [cout,",
        "21: stages[0].metrics[0] must be count, privacy_id_count, or a mapping from one of sum, mean, variance, "
        "stddev, quantiles, median, min, max, vector_sum, histogram, distinct_count, top_k, custom, count_if, "
        "got 'cout'",
        "List at least one of count, privacy_id_count, {sum: …} and {mean: …}; [] for the kept keys alone. "
        "Did you mean 'count'?",
    ),
    "a bare sum": (
        "metrics: [count,",
        "metrics: [mean,",
        "21: stages[0].metrics[0] must be count, privacy_id_count, or a mapping from one of sum, mean, variance, "
        "stddev, quantiles, median, min, max, vector_sum, histogram, distinct_count, top_k, custom, count_if, "
        "got 'mean'",
        "Write mean: {column: …, low: …, high: …}.",
    ),
    "an unknown noise": (
        "noise: gaussian",
        "noise: gausian",
        "22: stages[0].noise must be 'laplace' or 'gaussian', got 'gausian'",
        "Write laplace or gaussian. Did you mean 'gaussian'?",
    ),
    "a weight of 0": (
        "noise: gaussian",
        "noise: gaussian\n    weight: 0",
        "23: stages[0].weight must be at least 1e-6, got 0",
        WEIGHT,
    ),
    "both kinds of partitions": (
        "pre_threshold: 10}}",
        "pre_threshold: 10}, public: {values: [a]}}",
        "19: stages[0].partitions must have exactly one of the keys private, public, got a mapping",
        "Write {private: {strategy: truncated_geometric}} or {public: {values: [a, b]}}.",
    ),
    "a delimiter for Parquet": (
        "format: csv, path: data.csv",
        "format: parquet, path: x.parquet, delimiter: ;",
        "3: source.delimiter applies to the format csv only, got ';'",
        "Leave the key out.",
    ),
    "a key that isn't text": (
        "seen: {type: date}",
        "seen: {type: date}\n  2020: {type: date}",
        "10: columns must not have a key that isn't text, got 2020",
        "Put the key in quotes.",
    ),
    "a key that stands twice": (
        "seen: {type: date}",
        "seen: {type: date}\n  place: {type: string}",
        "10: columns.place must stand only once; it stands in line 7 too",
        "Keep one of the two.",
    ),
    "a YAML tag": (
        "path: data.csv",
        "path: !!python/name:os.system data.csv",
        "3: source.path must not carry a YAML tag, got 'tag:yaml.org,2002:python/name:os.system'",
        "Remove the tag.",
    ),
}
CASES["no stage"] = (
    BASE[BASE.index("stages:") :],
    "stages: []\n",
    "16: stages must have at least one entry, got []",
    "List at least one stage.",
)


@pytest.mark.parametrize("case", CASES)
def test_each_violation_has_its_line_key_rule_value_and_remedy(case, tmp_path):
    old, new, said, remedy = CASES[case]
    text = BASE
    assert text.count(old) == 1
    found = problems(tmp_path, text.replace(old, new))
    assert (said, remedy) in found
    if not said.startswith(("19: stages[0].partitions must", "3: source.path")):
        assert found == [(said, remedy)]
