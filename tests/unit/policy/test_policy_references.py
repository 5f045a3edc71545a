"""What is wrong between the parts of a policy (columns, types, names) is said as whole messages."""

from __future__ import annotations

import pytest

from dpbeam.policy.load import load_policy
from tests.helpers import policy_text as shared

BASE, problems = shared.BASE, shared.problems

COLUMNS = "Declared: person, place, hours, seen, at"
RULE = "Write drop, fail or {replace: VALUE}."
NAMELESS = "Give the metric another name: {column: …, name: …}."


def test_the_policy_that_the_cases_change_is_right(tmp_path):
    (tmp_path / "policy.yaml").write_text(BASE)
    assert load_policy(tmp_path / "policy.yaml").dataset == "visits"


CASES = {
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
        "20: stages[0].bounds must be l0: 1 and linf: 1 with privacy_unit: row, for each row is a unit of its own",
        "Write bounds: {l0: 1, linf: 1}.",
    ),
    "a count without a bound on rows": (
        "bounds: {l0: 4, linf: 2}\n    metrics: [count, sum: {column: hours, low: 0, high: 8}]",
        "bounds: {l0: 4}\n    metrics: [count, sum: {column: hours, low_total: 0, high_total: 8}]",
        "21: stages[0].metrics[0].count adds up rows, and bounds.l0 alone doesn't say how many one unit may have in a"
        " partition",
        "Give bounds.linf too, or sum totals: low_total and high_total.",
    ),
    "totals that fall": (
        "low: 0, high: 8}",
        "low_total: 8, high_total: 0}",
        "21: stages[0].metrics[1].sum.low_total must be below high_total, 0.0, got 8.0",
        "Give the bounds in rising order.",
    ),
    "an unknown type": (
        "seen: {type: date}",
        "seen: {type: dat}",
        "9: columns.seen.type must be 'string', 'int64', 'float64', 'bool', 'date', 'timestamp' or 'vector', got 'dat'",
        "Write string, int64, float64, bool, date, timestamp or vector. Did you mean 'date'?",
    ),
    "on_nan for text": (
        "place: {type: string}",
        "place: {type: string, on_nan: fail}",
        "7: columns.place.on_nan applies to float64 columns and vectors only, and place is string",
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
        "Sort the list and remove repeated numbers.",
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
        "11: derive.band must be {bin: …, edges: …}, {truncate: …, to: …}, {lower: …}, {expression: …} "
        "or {lookup: …, table: …}, got a mapping",
        "Write derive: {age_band: {bin: age, edges: [18, 65]}}, or leave the key out.",
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
    "a metric of another's name whose columns differ": (
        "high: 8}",
        "high: 8, name: a}, histogram: {column: hours, edges: [0, 1], name: a}",
        "21: stages[0].metrics[2].histogram has the name of metrics[1], which isn't made from the same noisy quantity",
        NAMELESS,
    ),
    "quantiles of a column by two pairs of bounds": (
        "high: 8}",
        "high: 8}, quantiles: {column: hours, low: 0, high: 8, ranks: [0.5]}, "
        "quantiles: {column: hours, low: 0, high: 4, ranks: [0.25]}",
        "21: stages[0].metrics[3].quantiles has the name of metrics[2], which isn't made from the same noisy quantity",
        NAMELESS,
    ),
    "ranks that fall": (
        "high: 8}",
        "high: 8}, quantiles: {column: hours, low: 0, high: 8, ranks: [0.5, 0.25]}",
        "21: stages[0].metrics[2].quantiles.ranks must rise strictly, got [0.5, 0.25]",
        "Sort the list and remove repeated numbers.",
    ),
    "ranks of one name": (
        "high: 8}",
        "high: 8}, quantiles: {column: hours, low: 0, high: 8, ranks: [0.1, 0.1000000000001]}",
        "21: stages[0].metrics[2].quantiles would make a result column 'hours_p10', which is already a result column of"
        " metrics[2]",
        "Give ranks that are further apart.",
    ),
    "a histogram of no bin": (
        "high: 8}",
        "high: 8}, histogram: {column: hours, edges: [0]}",
        "21: stages[0].metrics[2].histogram.edges must have at least 2 entries, got [0]",
        "List the limits of the intervals as finite numbers, in rising order: [18, 30, 45, 65].",
    ),
    "a histogram of text": (
        "high: 8}",
        "high: 8}, histogram: {column: place, edges: [0, 1]}",
        "21: stages[0].metrics[2].histogram.column must name a column of type int64 or float64, and place is string,"
        " got 'place'",
        "Name another column, or declare another type for it.",
    ),
    "a vector with a column twice": (
        "high: 8}",
        "high: 8}, vector_sum: {columns: [hours, hours], norm: l2, max_norm: 1}",
        "21: stages[0].metrics[2].vector_sum.columns[1] must not stand twice, got 'hours'",
        "Name each column once.",
    ),
    "quantiles that meet another column": (
        "high: 8}",
        "high: 8, name: hours_p50}, quantiles: {column: hours, low: 0, high: 8, ranks: [0.5]}",
        "21: stages[0].metrics[2].quantiles would make a result column 'hours_p50', which is already a result column of"
        " metrics[1]",
        "Give the metric another name: {column: …, name: …}.",
    ),
    "distinct floats": (
        "high: 8}",
        "high: 8}, distinct_count: {column: hours}",
        "21: stages[0].metrics[2].distinct_count.column must name a column of type string or int64 or bool or date or"
        " timestamp, and hours is float64, got 'hours'",
        "Name another column, or declare another type for it.",
    ),
    "the most frequent times": (
        "high: 8}",
        "high: 8}, top_k: {column: at, k: 1, max_values: 1, pre_threshold: 5}",
        "21: stages[0].metrics[2].top_k.column must name a column of type string or int64 or bool or date, and at is"
        " timestamp, got 'at'",
        "Name another column, or declare another type for it.",
    ),
    "values that fewer units may have than the guardrail says": (
        "high: 8}",
        "high: 8}, top_k: {column: band, k: 1, max_values: 1}",
        "21: stages[0].metrics[2].top_k.pre_threshold must be at least guardrails.min_pre_threshold, 5, got 1",
        "Write pre_threshold: 5 or more.",
    ),
    "a candidate of another type": (
        "high: 8}",
        "high: 8}, top_k: {column: seen, k: 1, max_values: 1, candidates: [2024-05-01, 7]}",
        "21: stages[0].metrics[2].top_k.candidates[1] must be a date as YYYY-MM-DD, for seen is date, got 7",
        "Give a value of the column's type.",
    ),
    "a candidate listed twice": (
        "high: 8}",
        "high: 8}, top_k: {column: band, k: 1, max_values: 1, candidates: [a, b, a]}",
        "21: stages[0].metrics[2].top_k.candidates[2] must not stand twice, got 'a'",
        "Name each candidate once.",
    ),
    "fewer candidates than are asked for": (
        "high: 8}",
        "high: 8}, top_k: {column: band, k: 3, max_values: 1, candidates: [a, b]}",
        "21: stages[0].metrics[2].top_k must have at least k candidates, and with candidates no pre_threshold, got"
        " a mapping",
        "Ask for fewer values, list more candidates, or leave pre_threshold out beside them.",
    ),
    "a sum named as a value of a top_k": (
        "high: 8}",
        "high: 8, name: band_top_k_1}, top_k: {column: band, k: 1, max_values: 1, pre_threshold: 5}",
        "21: stages[0].metrics[2].top_k would make a result column 'band_top_k_1', which is already a result column of"
        " metrics[1]",
        NAMELESS,
    ),
    "a sum named as the selection": (
        "high: 8}",
        "high: 8, name: partitions}",
        "21: stages[0].metrics[1].sum.name must not start with __ or partitions. or end with .sum or .squares or "
        ".tree; only a count may be called count or privacy_id_count or partitions, got 'partitions'",
        "Give another name.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_violation_has_its_line_key_rule_value_and_remedy(case, tmp_path):
    old, new, said, remedy = CASES[case]
    text = BASE.replace("l0: 4, linf: 2", "l0: 4, linf: 1") if case.startswith("bounds above 1") else BASE
    assert text.count(old) == 1
    found = problems(tmp_path, text.replace(old, new))
    assert found == [(said, remedy)]
