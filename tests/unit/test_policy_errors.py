"""What is wrong with a policy is said with file, line, key, value, rule and remedy: whole messages."""

from __future__ import annotations

import pickle

import pytest

from dpbeam.errors import UsageError
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

KEYS = "Known keys here: "
EPSILON = "Give a number from 1e-6 to 1e6, such as 1; the smaller, the more private."
DELTA = "Give a small number above 0 and below 1, such as 1e-8: well below one over the number of people."
L0 = "Say how many partitions one person may count in; with more of them the noise grows."
LINF = "Say how many rows one person may add to one partition; with more of them the noise grows."
LOW = "Give the least value one row may count for, between -1e15 and 1e15; values below are raised to it."
STAGE = "Name it with a-z, 0-9 and _, starting with a letter, at most 64 characters."
COLUMNS = "Declared: person, place, hours, seen, at"
RULE = "Write drop, fail or {replace: VALUE}."
WEIGHT = "Give a number from 1e-6 to 1e6; twice the weight gets about half the noise."
NAMELESS = "Give the metric another name: {column: …, name: …}."


def problems(tmp_path, text):
    """The error's blocks as (rest of the first line, remedy), without the file's name."""
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    message = str(caught.value).replace(f"{path}:", "")
    lines = message.split("\n")
    return list(zip(lines[::2], [line.removeprefix("    Remedy: ") for line in lines[1::2]], strict=True))


def changed(old, new):
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def test_the_policy_that_the_cases_change_is_right(tmp_path):
    (tmp_path / "policy.yaml").write_text(BASE)
    assert load_policy(tmp_path / "policy.yaml").dataset == "visits"


CASES = {
    "an unknown key": (
        "dataset: visits",
        "dataset: visits\nprivcy_unit: x",
        "3: privcy_unit is not a known key",
        KEYS
        + "version, dataset, source, privacy_unit, columns, derive, where, budget, run, guardrails, stages, output."
        " Did you mean 'privacy_unit'?",
    ),
    "an unknown key inside": (
        "linf: 2}",
        "linf: 2, l1: 3}",
        "20: stages[0].bounds.l1 is not a known key",
        KEYS + "l0, linf.",
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
    "no stage": ("stages:\n", "stages: []\nx_stages:\n", None, None),
    "no metric": (
        "metrics: [count, sum: {column: hours, low: 0, high: 8}]",
        "metrics: []",
        "21: stages[0].metrics must have at least one entry, got []",
        "List at least one of count, privacy_id_count, {sum: …} and {mean: …}.",
    ),
    "an unknown metric": (
        "metrics: [count,",
        "metrics: [cout,",
        "21: stages[0].metrics[0] must be count, privacy_id_count, {sum: …} or {mean: …}, got 'cout'",
        "List at least one of count, privacy_id_count, {sum: …} and {mean: …}. Did you mean 'count'?",
    ),
    "a bare sum": (
        "metrics: [count,",
        "metrics: [mean,",
        "21: stages[0].metrics[0] must be count, privacy_id_count, {sum: …} or {mean: …}, got 'mean'",
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
    "a privacy unit that isn't declared": (
        "privacy_unit: person",
        "privacy_unit: persn",
        "4: privacy_unit must name a column that stands under columns, got 'persn'",
        COLUMNS + ". Did you mean 'person'?",
    ),
    "a privacy unit of another type": (
        "privacy_unit: person",
        "privacy_unit: seen",
        "4: privacy_unit must name a column of type string or int64, and seen is date, got 'seen'",
        "Name another column, or declare another type for it.",
    ),
    "a stand-in for a privacy unit": (
        "person: {type: string}",
        "person: {type: string, on_null: {replace: x}}",
        "6: columns.person.on_null must be drop or fail for the privacy unit: a stand-in would make one unit of many"
        " people",
        "Write drop or fail.",
    ),
    "a column called row": (
        "seen: {type: date}",
        "seen: {type: date}\n  row: {type: int64}",
        "10: columns.row must not be called row, for privacy_unit: row means that every row is a unit of its own",
        "Rename the column in the source.",
    ),
    "a column of dpbeam's own": (
        "seen: {type: date}",
        "seen: {type: date}\n  __count: {type: int64}",
        "10: columns.__count must have a name that is not empty and doesn't start with __",
        "Rename the column in the source.",
    ),
    "bounds above 1 where rows are units": (
        "privacy_unit: person",
        "privacy_unit: row",
        "20: stages[0].bounds.l0 must be 1 with privacy_unit: row, for each row is a unit of its own, got 4",
        "Write 1.",
    ),
    "an unknown type": (
        "seen: {type: date}",
        "seen: {type: dat}",
        "9: columns.seen.type must be 'string', 'int64', 'float64', 'bool', 'date' or 'timestamp', got 'dat'",
        "Write string, int64, float64, bool, date or timestamp. Did you mean 'date'?",
    ),
    "on_nan for text": (
        "place: {type: string}",
        "place: {type: string, on_nan: fail}",
        "7: columns.place.on_nan applies to float64 columns only, and place is string",
        "Leave the key out.",
    ),
    "an unknown rule": (
        "place: {type: string}",
        "place: {type: string, on_null: keep}",
        "7: columns.place.on_null must be 'drop' or 'fail', got 'keep'",
        RULE,
    ),
    "a stand-in of another type": (
        "seen: {type: date}",
        "seen: {type: date, on_null: {replace: 2020-02-30}}",
        "9: columns.seen.on_null.replace must be a date as YYYY-MM-DD, for seen is date, got '2020-02-30'",
        "Give a value of the column's type.",
    ),
    "a stand-in that is NaN": (
        "hours: {type: float64}",
        "hours: {type: float64, on_nan: {replace: .nan}}",
        "8: columns.hours.on_nan.replace must be text, a finite number, true or false, got nan",
        "Give a value of the column's type; NaN and infinity can't stand in for anything.",
    ),
    "group_by of a float": (
        "group_by: [place]",
        "group_by: [hours]",
        "18: stages[0].group_by[0] must name a column of type string or int64 or bool or date or timestamp,"
        " and hours is float64, got 'hours'",
        "Name another column, or declare another type for it.",
    ),
    "group_by of a column that isn't declared": (
        "group_by: [place]",
        "group_by: [plce]",
        "18: stages[0].group_by[0] must name a column that stands under columns or derive, got 'plce'",
        COLUMNS + ", band. Did you mean 'place'?",
    ),
    "group_by twice": (
        "group_by: [place]",
        "group_by: [place, place]",
        "18: stages[0].group_by[1] must not stand twice, got 'place'",
        "Name each column once.",
    ),
    "group_by of the privacy unit": (
        "group_by: [place]",
        "group_by: [person]",
        "18: stages[0].group_by[0] must not be the privacy unit: each partition would be one person, got 'person'",
        "Group by other columns.",
    ),
    "bin of text": (
        "bin: hours",
        "bin: place",
        "11: derive.band.bin must name a column of type int64 or float64, and place is string, got 'place'",
        "Name another column, or declare another type for it.",
    ),
    "edges that fall": (
        "edges: [1, 2]",
        "edges: [2, 1]",
        "11: derive.band.edges must rise strictly, got [2.0, 1.0]",
        "Sort the edges and remove repeated ones.",
    ),
    "an edge that is NaN": (
        "edges: [1, 2]",
        "edges: [1, .nan]",
        "11: derive.band.edges[1] must be a finite number, got nan",
        "List the limits of the intervals as finite numbers, in rising order: [18, 30, 45, 65].",
    ),
    "a date cut to the hour": (
        "{bin: hours, edges: [1, 2]}",
        "{truncate: seen, to: hour}",
        "11: derive.band.truncate must name a column of type timestamp, and seen is date, got 'seen'",
        "Name another column, or declare another type for it.",
    ),
    "lower of a number": (
        "{bin: hours, edges: [1, 2]}",
        "{lower: hours}",
        "11: derive.band.lower must name a column of type string, and hours is float64, got 'hours'",
        "Name another column, or declare another type for it.",
    ),
    "an unknown derivation": (
        "{bin: hours, edges: [1, 2]}",
        "{upper: place}",
        "11: derive.band must be {bin: …, edges: …}, {truncate: …, to: …} or {lower: …}, got a mapping",
        "Correct the value.",
    ),
    "a derived column named as a read one": (
        "band: {bin",
        "place: {bin",
        "11: derive.place has the name of a column that is read",
        "Give the derived column a name of its own.",
    ),
    "a condition of another type": (
        "value: 0}",
        'value: "0"}',
        "12: where[0].value must be a finite number, for hours is float64, got '0'",
        "Compare with a value of the column's type.",
    ),
    "a list for an operator of one value": (
        "value: 0}",
        "value: [0]}",
        "12: where[0].value must be one value for the operator >=",
        "Change the value or the operator.",
    ),
    "an empty list": (
        'op: ">=", value: 0}',
        "op: in, value: []}",
        "12: where[0].value must have at least one entry, got []",
        "List the values, or remove the condition.",
    ),
    "a sum of text": (
        "sum: {column: hours",
        "sum: {column: place",
        "21: stages[0].metrics[1].sum.column must name a column of type int64 or float64, and place is string,"
        " got 'place'",
        "Name another column, or declare another type for it.",
    ),
    "a metric named as a key": (
        "high: 8}",
        "high: 8, name: place}",
        "21: stages[0].metrics[1].sum would make a result column 'place', which is already a column of group_by",
        NAMELESS,
    ),
    "a metric named as another's interval": (
        "high: 8}",
        "high: 8, name: count_low}",
        "21: stages[0].metrics[1].sum would make a result column 'count_low', which is already a result column of"
        " metrics[0]",
        NAMELESS,
    ),
    "a sum named as the selection": (
        "high: 8}",
        "high: 8, name: partitions}",
        "21: stages[0].metrics[1].sum.name must not start with __ or end with .sum; a sum or mean must not be count or"
        " privacy_id_count or partitions, got 'partitions'",
        "Give another name.",
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
    text = BASE.replace("l0: 4, linf: 2", "l0: 4, linf: 1") if case.startswith("bounds above 1") else BASE
    assert text.count(old) == 1
    found = problems(tmp_path, text.replace(old, new))
    assert (said, remedy) in found
    if not said.startswith(("19: stages[0].partitions must", "3: source.path")):
        assert found == [(said, remedy)]


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
    ((said, _),) = problems(tmp_path, changed("dataset: visits", f"dataset: {'X' * 500}"))
    assert said.endswith("got '" + "X" * 58 + "…")


def test_the_error_is_a_usage_error_and_ends_with_exit_code_2(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_policy(tmp_path / "none.yaml")
    assert caught.value.exit_code == 2


def test_the_error_survives_pickling(tmp_path):
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path / "none.yaml")
    assert pickle.loads(pickle.dumps(caught.value)).violations == caught.value.violations  # noqa: S301
