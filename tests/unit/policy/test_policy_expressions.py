"""Derived columns that are expressions or looked up: what a policy may say, whole errors, types, order and digest."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import dpbeam
from dpbeam.policy.compile import input_spec, query
from dpbeam.policy.load import load_policy
from dpbeam.policy.schema.policy import Policy, derived_of
from dpbeam.policy.violations import PolicyError
from dpbeam.queries.source import Lookup
from dpbeam.reading.rows import prepare
from tests.helpers import policy_text as shared

DERIVE = "derive: {band: {bin: hours, edges: [1, 2]}}\n"
FUNCTIONS = "Write it as in cost / guests, upper(trim(city)) or case when age < 18 then 'minor' else 'adult' end."
CONVERT = "Convert with string, int64, float64, bool, date or timestamp."
COLUMNS = "Columns: person, place, hours, seen, at, band, x"


def policy(derive: str) -> str:
    assert shared.BASE.count(DERIVE) == 1
    return shared.BASE.replace(DERIVE, f"derive:\n{derive}")


def entry(expression: str) -> str:
    return policy(f"  band: {{bin: hours, edges: [1, 2]}}\n  x: {{expression: {expression}}}\n")


ERRORS = {
    "a function that isn't there": (
        '"weak(seen)"',
        "13:20: derive.x.expression is wrong at character 1: weak is no function, got 'weak(seen)'",
        None,
    ),
    "an operator by its inner name": (
        '"less(hours, 1)"',
        "13:20: derive.x.expression is wrong at character 1: less is no function, got 'less(hours, 1)'",
        None,
    ),
    "a column that isn't there": (
        "1 + hour",
        "13:23: derive.x.expression is wrong at character 5: 'hour' is no column, got 'hour'",
        f"{COLUMNS}. Did you mean 'hours'?",
    ),
    "a null": (
        '"coalesce(place, null)"',
        "13:36: derive.x.expression is wrong at character 17: 'null' is no column, got 'null'",
        "Nothing is written null: a case without else is missing, and so is what nullif leaves out.",
    ),
    "types that don't go together": (
        "hours + place",
        "13:19: derive.x.expression is wrong at character 1: x + y can't be had of float64, string,"
        " got 'hours + place'",
        f"Types that it takes: (int64, int64), (float64, float64). {CONVERT}",
    ),
    "a case of two types": (
        "case when hours > 1 then 1 else 'many' end",
        "13:51: derive.x.expression is wrong at character 33: a case has one type, and this is string after int64,"
        " got \"'many'\"",
        CONVERT,
    ),
    "a condition that is none": (
        "case when hours then 1 end",
        "13:29: derive.x.expression is wrong at character 11: when needs a bool, and this is float64, got 'hours'",
        "Write a condition, such as age < 18.",
    ),
    "an end too early": (
        '"upper(place"',
        "13:31: derive.x.expression is wrong at character 12: it ends where more is needed",
        FUNCTIONS,
    ),
    "two names side by side": (
        "hours place",
        "13:25: derive.x.expression is wrong at character 7: 'place' may not stand there, got 'place'",
        FUNCTIONS,
    ),
    "text in double quotes": (
        "'concat(place, \"x\")'",
        "13:34: derive.x.expression is wrong at character 15: '\"' begins nothing that may stand there, got '\"'",
        "Put text into single quotes: 'north'; a column's name into backticks: `price[/kg]`.",
    ),
    "one sign of equality": (
        "hours = 1",
        "13:25: derive.x.expression is wrong at character 7: '=' begins nothing that may stand there, got '='",
        "Compare with ==.",
    ),
    "a format that says nothing": (
        "\"parse_date(place, '%d.%q')\"",
        "13:38: derive.x.expression is wrong at character 19: the format has %q, which stands for nothing; there are"
        " %Y, %m, %-m, %b, %d, %-d, %H, %-H, %I, %-I, %p, %M, %S, %f, %z, %%, got \"'%d.%q'\"",
        "Write it as in parse_date(s, '%d.%m.%Y').",
    ),
    "a format without a year": (
        "\"parse_date(place, '%d.%m')\"",
        "13:38: derive.x.expression is wrong at character 19: the format must have a year, a month and a day: %Y, one"
        " of %m, %-m and %b, and one of %d and %-d, got \"'%d.%m'\"",
        "Write it as in parse_date(s, '%d.%m.%Y').",
    ),
    "a format that differs from row to row": (
        '"parse_date(place, person)"',
        "13:38: derive.x.expression is wrong at character 19: parse_date needs it written out, the same in every row,"
        " got 'person'",
        "Write it out, as in parse_date(s, '%d.%m.%Y').",
    ),
    "a mark that is a digit": (
        "\"parse_float64(place, '1')\"",
        "13:41: derive.x.expression is wrong at character 22: a mark must be one character that is no letter, digit or"
        " sign, got \"'1'\"",
        "Write it as in parse_float64(s, ',', '.').",
    ),
    "constants that make nothing": (
        "\"days_between(seen, date('2024-02-30'))\"",
        "13:39: derive.x.expression is wrong at character 20: it has no value, in whichever row, got"
        " \"date('2024-02-30')\"",
        "Correct it, or use a column in it.",
    ),
    "a number beyond int64": (
        "hours + 9223372036854775808",
        "13:27: derive.x.expression is wrong at character 9: a number lies beyond int64 or float64, got"
        " '9223372036854775808'",
        "Write a smaller one.",
    ),
    "a depth beyond reason": (
        '"' + "not " * 49 + '(hours > 1)"',
        "13:20: derive.x.expression is wrong at character 1: it nests deeper than 50 levels, got "
        + repr("not " * 49 + "(hours > 1)")[:59] + "…",
        "Make several derived columns of it: one may use another.",
    ),
    "itself": (
        "x + 1",
        "13: derive.x is made from itself",
        "Make it from columns that are read.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_in_an_expression_has_its_line_and_column(case, tmp_path):
    expression, said, remedy = ERRORS[case]
    ((found, offered),) = shared.problems(tmp_path, entry(expression))
    assert found == said
    assert remedy is None or offered == remedy


def test_the_remedy_for_an_unknown_function_names_those_that_there_are(tmp_path):
    ((_, remedy),) = shared.problems(tmp_path, entry('"weak(seen)"'))
    assert remedy.startswith("Functions: coalesce, try, nullif, least, greatest, abs, floor, ceil, round, trim, ")
    assert remedy.endswith(", parse_date, parse_timestamp. Did you mean 'week'?")


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("  x:\n    expression: |\n      hours +\n      plce\n", "15:7"),
        ("  x:\n    expression: |-\n\n      hours + plce\n", "15:15"),
        ("  x:\n    expression: >\n      hours +\n      plce\n", "13"),
        ('  x: {expression: "hours + \\x70lce"}\n', "12"),
        ("  x:\n    expression: hours +\n      plce\n", "13"),
        ("  x: {expression: 'concat(''a'', plce)'}\n", "12"),
        ("  é: {lower: place}\n  x: {expression: hours + plce}\n", "13:27"),
    ],
)
def test_a_column_is_named_where_the_file_holds_the_text_as_it_reads(tmp_path, written, place):
    ((found, _),) = shared.problems(tmp_path, policy(written + "  band: {lower: place}\n"))
    assert found.startswith(f"{place}: derive.x.expression is wrong at character ")


def test_the_place_in_a_file_of_other_line_ends_is_the_same(tmp_path):
    text = policy("  band: {lower: place}\n  x: {expression: hours + plce}\n")
    (tmp_path / "policy.yaml").write_bytes(text.replace("\n", "\r\n").encode())
    with pytest.raises(PolicyError, match=r"policy\.yaml:13:27: derive\.x\.expression is wrong at character 9: "):
        load_policy(tmp_path / "policy.yaml")


OTHERS = {
    "a stand-in of another type": (
        "  x: {expression: length(place), on_invalid: {replace: many}}\n",
        ("12: derive.x.on_invalid.replace must be a whole number within int64, for x is int64, got 'many'",
         "Give a value of the column's type."),
    ),
    "a rule that isn't one": (
        "  x: {expression: length(place), on_null: skip}\n",
        ("12: derive.x.on_null must be 'drop' or 'fail', got 'skip'", "Write drop, fail or {replace: VALUE}."),
    ),
    "an unknown key": (
        "  x: {expression: length(place), on_nan: drop}\n",
        ("12: derive.x.on_nan is not a known key",
         "Known keys here: bin, edges, truncate, to, lower, expression, on_null, on_invalid, lookup, table, values,"
         " key, column, type. Did you mean 'on_invalid'?"),
    ),
    "a circle": (
        "  x: {bin: y, edges: [1]}\n  y: {expression: length(z)}\n  z: {lower: x}\n",
        ("12: derive.x is made from itself, by way of y, z, x", "Make it from columns that are read."),
    ),
    "a bin of text": (
        "  x: {bin: y, edges: [1]}\n  y: {expression: upper(place)}\n",
        ("12: derive.x.bin must name a column of type int64 or float64, and y is string, got 'y'",
         "Name another column, or declare another type for it."),
    ),
    "no expression": (
        '  x: {expression: ""}\n',
        ("12: derive.x.expression must not be empty, got ''",
         'Write it as in "cost / guests" or "upper(trim(city))"; docs/expressions.md says what there is.'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_wrong_with_a_derived_column_is_said(case, tmp_path):
    written, expected = OTHERS[case]
    assert expected in shared.problems(tmp_path, policy(written + "  band: {lower: place}\n"))


def test_a_column_that_uses_a_wrong_one_is_not_said_to_be_wrong_too(tmp_path):
    found = shared.problems(tmp_path, policy("  band: {expression: plce}\n  x: {expression: upper(band)}\n"))
    assert [said for said, _ in found] == [
        "12:22: derive.band.expression is wrong at character 1: 'plce' is no column, got 'plce'"
    ]


def loaded(tmp_path, derive: str, stages: str = ""):
    text = policy(derive)
    if stages:
        text = text[: text.index("stages:")] + stages
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    return load_policy(tmp_path / "policy.yaml")


MANY = """\
  late: {bin: ratio, edges: [0.5]}
  ratio: {expression: "hours / (week + 1)", on_invalid: {replace: 0}}
  week: {expression: week(seen)}
  town: {expression: trim(place)}
  region: {lookup: town, values: {paris: 1, rome: 2}, type: int64, on_null: {replace: 0}}
"""
STAGES = """\
stages:
  - name: by_region
    group_by: [region, late]
    partitions: {public: {values: [[1, "< 0.5"], [0, "≥ 0.5"]]}}
    bounds: {l0: 2, linf: 2}
    metrics: [sum: {column: ratio, low: 0, high: 1}, mean: {column: week, low: 0, high: 53}]
    noise: gaussian
"""
ROWS = pa.RecordBatch.from_pydict(
    {
        "person": ["a", "b", "c"],
        "place": [" paris", "oslo", "rome"],
        "hours": [1.0, 9.0, -1.0],
        "seen": [date(2024, 1, 1), date(2024, 1, 9), date(2024, 1, 1)],
        "at": pa.array([0, 0, 0], pa.timestamp("us")),
    }
)


def test_derived_columns_use_each_other_in_whatever_order_they_stand(tmp_path):
    spec = input_spec(loaded(tmp_path, MANY, STAGES))
    assert [item.name for item in spec.derived] == ["week", "town", "region", "ratio", "late"]
    found = prepare(ROWS, spec)
    assert found.select(["late", "ratio", "week", "town", "region"]).to_pydict() == {
        "late": ["≥ 0.5", "≥ 0.5"],
        "ratio": [0.5, 3.0],
        "week": [1, 2],
        "town": ["paris", "oslo"],
        "region": [1, 0],
    }


def test_keys_and_metrics_have_the_types_of_derived_columns(tmp_path):
    (stage,) = query(loaded(tmp_path, MANY, STAGES)).stages
    assert stage.key_types == ("int64", "string")


def test_a_query_with_expressions_travels_to_workers(tmp_path):
    asked = query(loaded(tmp_path, MANY, STAGES))
    assert prepare(ROWS, pickle.loads(pickle.dumps(asked.source))).equals(prepare(ROWS, asked.source))  # noqa: S301


def test_a_rule_that_fails_names_column_and_rule_alone(tmp_path):
    spec = input_spec(loaded(tmp_path, "  band: {expression: string(int64(place)), on_invalid: fail}\n"))
    with pytest.raises(dpbeam.DpbeamError) as caught:
        prepare(ROWS.slice(0, 1), spec)
    assert str(caught.value) == (
        "derived column band breaks on_invalid: fail. Something in its expression can't be computed or read. "
        "Correct the source, or declare another rule for the column, such as on_invalid: drop."
    )


def test_a_row_that_one_column_drops_breaks_no_rule_of_those_that_use_it(tmp_path):
    derive = "  band: {lower: place}\n  n: {expression: int64(place)}\n  m: {expression: 1 // n, on_invalid: fail}\n"
    assert prepare(ROWS, input_spec(loaded(tmp_path, derive))).num_rows == 0


DIGESTS = {
    "white space": ("upper( trim(place))", "upper(trim(place))", True),
    "parentheses": ("(hours * 2) + 1", "hours * 2 + 1", True),
    "other parentheses": ("hours * (2 + 1)", "hours * 2 + 1", False),
    "a number written otherwise": ("hours + 1", "hours + 1.0", True),
    "a default spelled out": ("upper(place), on_null: drop", "upper(place)", True),
    "another rule": ("upper(place), on_null: fail", "upper(place)", False),
    "another function": ("upper(place)", "lower(place)", False),
    "another order": ("hours * 2", "2 * hours", False),
    "quotes around a name": ('"`hours` * 2"', "hours * 2", True),
}


@pytest.mark.parametrize("case", DIGESTS)
def test_the_digest_is_that_of_what_an_expression_says(case, tmp_path):
    first, second, same = DIGESTS[case]
    more = "  band: {lower: place}\n"
    digests = {loaded(tmp_path, f"{more}  x: {{expression: {each}}}\n").digest for each in (first, second)}
    assert (len(digests) == 1) == same


@pytest.mark.parametrize(
    ("derive", "digest"),
    [
        ("", "0af536ac98e1132c91841199ceebf89188cf434275c602d7d7227a88f21f5b8f"),
        (DERIVE, "8c0e91c68b5cce59001fbafe9337000077862e817ade84977cf83ec8a3cfacd3"),
        (
            "derive: {low: {lower: place}, day: {truncate: at, to: day}, band: {bin: hours, edges: [1, 2]}}\n",
            "bf20e15aaf338716c2eaa5cecf0d240a6179ac5d9d7cf96620c6649b14e65207",
        ),
    ],
)
def test_policies_without_expressions_have_the_digests_that_they_had_before_there_were_any(tmp_path, derive, digest):
    (tmp_path / "policy.yaml").write_text(shared.BASE.replace(DERIVE, derive), encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").digest == f"sha256:{digest}"


TOWNS = "  band: {lower: place}\n  region: {lookup: place, table: towns.csv, key: name}\n"


def towns(tmp_path, text: str) -> None:
    (tmp_path / "towns.csv").write_text(text, encoding="utf-8")


def test_a_table_is_read_with_the_policy_and_belongs_to_its_digest(tmp_path):
    towns(tmp_path, "name,region,rest\nparis,FR,1\nrome,,2\n")
    first = loaded(tmp_path, TOWNS)
    (found,) = (item for item in input_spec(first).derived if isinstance(item, Lookup))
    assert (found.keys.to_pylist(), found.values.to_pylist()) == (["paris", "rome"], ["FR", None])
    towns(tmp_path, "name,region,rest\nparis,FR,1\nrome,,3\n")
    assert loaded(tmp_path, TOWNS).digest != first.digest
    towns(tmp_path, "name,region,rest\nparis,FR,1\nrome,,2\n")
    (tmp_path / "towns.csv").rename(tmp_path / "other.csv")
    assert loaded(tmp_path, TOWNS.replace("towns.csv", "other.csv")).digest == first.digest


def test_a_parquet_table_is_looked_up_as_well(tmp_path):
    pq.write_table(pa.table({"seen": [date(2024, 1, 1)], "week": [1]}), tmp_path / "days.parquet")
    derive = "  band: {lower: place}\n  week: {lookup: seen, table: days.parquet, type: int64}\n"
    assert prepare(ROWS, input_spec(loaded(tmp_path, derive))).column("week").to_pylist() == [1]


BAD_TABLES = {
    "a key twice": (
        "name,region\nparis,FR\nparis,IT\n",
        "must have each key once, and column name has one several times, got 'towns.csv'",
        "Remove all but one row of each key: a lookup adds no rows.",
    ),
    "no such column": (
        "town,region\nparis,FR\n",
        "must have one column name, got 'towns.csv'",
        "Say how its columns are called: {lookup: city, table: towns.csv, key: name, column: region}.",
    ),
    "a missing key": (
        "name,region\n,FR\n",
        "has a missing value, or one that isn't text, in name, got 'towns.csv'",
        "Correct the file.",
    ),
    "no rows": (
        "name,region\n",
        "must have between 1 and 1,000,000 rows, got 'towns.csv'",
        "Look up in a smaller table.",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_cannot_be_looked_up_is_refused_by_file_and_column(case, tmp_path):
    text, said, remedy = BAD_TABLES[case]
    towns(tmp_path, text)
    assert shared.problems(tmp_path, policy(TOWNS)) == [(f"13: derive.region.table {said}", remedy)]


def test_a_value_of_another_type_in_a_table_is_refused(tmp_path):
    towns(tmp_path, "name,region\nparis,FR\n")
    ((said, _),) = shared.problems(tmp_path, policy(TOWNS.replace("key: name", "key: name, type: int64")))
    assert said == "13: derive.region.table has one that isn't a whole number within int64, in region, got 'towns.csv'"


def test_a_table_that_is_not_there_is_refused(tmp_path):
    assert shared.problems(tmp_path, policy(TOWNS)) == [
        ("13: derive.region.table does not exist, got 'towns.csv'", "Check the path; it starts at the policy's folder.")
    ]


LISTED = {
    "a value of another type": (
        "region: {lookup: place, values: {paris: 1}}",
        "13: derive.region.values.paris must be text, for the derived column is string, got 1",
    ),
    "a key of another type": (
        "region: {lookup: seen, values: {paris: a}}",
        "13: derive.region.values must have keys that are a date as YYYY-MM-DD, for seen is date, got 'paris'",
    ),
    "a key twice": (
        'region: {lookup: n, values: {"1": a, "01": b}}\n  n: {expression: length(place)}',
        "13: derive.region.values must have each key once",
    ),
    "two tables": (
        "region: {lookup: place, values: {a: b}, table: towns.csv}",
        "13: derive.region must have exactly one of the keys table, values, got a mapping",
    ),
    "a float as the key": (
        "region: {lookup: hours, values: {a: b}}",
        "13: derive.region.lookup must name a column of type string or int64 or bool or date or timestamp, and hours is"
        " float64, got 'hours'",
    ),
}


@pytest.mark.parametrize("case", LISTED)
def test_a_table_in_the_policy_is_checked(case, tmp_path):
    written, expected = LISTED[case]
    found = shared.problems(tmp_path, policy(f"  band: {{lower: place}}\n  {written}\n"))
    assert expected in [said for said, _ in found]


def test_a_query_in_python_takes_expressions_and_writes_them_down():
    frame = pa.table({"who": ["a", "b"], "cost": [1.0, 2.0], "guests": pa.array([1, 0]), "unused": [1, 2]})
    asked = (
        dpbeam.query("visits", source=frame, unit="who", epsilon=1.0, delta=1e-6)
        .derive(head="cost / guests", size={"expression": "least(guests, 3)", "on_null": "fail"})
        .group_by("size")
        .public([0, 1])
        .bounds(l0=1, linf=1)
        .sum("head", low=0, high=5)
    )
    stated = yaml.safe_load(asked.to_yaml())
    assert stated["derive"] == {
        "head": {"expression": "cost / guests"},
        "size": {"expression": "least(guests, 3)", "on_null": "fail"},
    }
    assert set(stated["columns"]) == {"who", "cost", "guests"}
    assert query(asked.policy()).stages[0].key_types == ("int64",)


def test_an_error_of_a_query_in_python_names_the_character():
    asked = dpbeam.query("visits", source="v.csv", unit="who", epsilon=1.0, delta=1e-6, columns={"who": "string"})
    with pytest.raises(PolicyError) as caught:
        asked.derive(head="upper(wo)").total().bounds(l0=1, linf=1).count().policy()
    assert str(caught.value) == (
        "query: derive.head.expression is wrong at character 7: 'wo' is no column, got 'wo'\n"
        "    Remedy: Columns: who, head."
    )


def test_a_policy_has_its_derived_columns_from_its_making_and_keeps_them_in_copies(tmp_path):
    (tmp_path / "policy.yaml").write_text(shared.BASE, encoding="utf-8")
    loaded = load_policy(tmp_path / "policy.yaml")
    copy = loaded.model_copy()
    assert [[item.name for item in derived_of(each)] for each in (loaded, copy)] == [["band"], ["band"]]
    with pytest.raises(ValueError, match="resolved when it is loaded, by load_policy or policy_of"):
        query(Policy.model_validate(loaded.model_dump()))


def test_a_policy_without_expressions_loads_no_parser(tmp_path):
    (tmp_path / "policy.yaml").write_text(shared.BASE, encoding="utf-8")
    load = f"from dpbeam.policy.load import load_policy; load_policy({str(tmp_path / 'policy.yaml')!r})"
    check = f"{load}; import sys; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
