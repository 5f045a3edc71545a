"""A starter policy loads as it is, whatever the columns are called, and guesses no bounds."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.accounting.plan import plan
from dpbeam.policy.compile import query
from dpbeam.policy.load import load_policy
from dpbeam.policy.starter import starter_policy
from dpbeam.policy.writings import Writing
from dpbeam.reading import vectors

TYPES = [
    pa.string(),
    pa.large_binary(),
    pa.int8(),
    pa.uint64(),
    pa.float32(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("ns", "UTC"),
    pa.dictionary(pa.int8(), pa.string()),
    pa.decimal128(10, 2),
    pa.list_(pa.field("a\nb: {", pa.int8())),
    pa.list_(pa.field("a\nb: {", pa.string())),
    pa.list_(pa.float64(), 3),
    pa.list_(pa.float64(), 0),
    pa.null(),
]
NAMES = st.one_of(
    st.sampled_from(
        ["user_id", "row", "everyone", "__x", "", "true", "1e5", "a: b", "- x", "#", "null", "NO", "😀", "x\n"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)


def load(tmp_path, schema, **others):
    text = starter_policy(schema, **({"path": "data.parquet", "format": "parquet"} | others))
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    return text, load_policy(tmp_path / "policy.yaml")


VISITS = pa.schema(
    [("visit", pa.string()), ("patient_id", pa.int64()), ("cost", pa.float64()), ("x", pa.list_(pa.int8()))]
)


def test_the_privacy_unit_is_guessed_by_its_name(tmp_path):
    assert load(tmp_path, VISITS)[1].privacy_unit == "patient_id"


def test_without_a_name_that_sounds_like_a_person_each_row_is_a_unit(tmp_path):
    policy = load(tmp_path, pa.schema([("place", pa.string())]))[1]
    assert (policy.privacy_unit, policy.stages[0].bounds.l0, policy.stages[0].bounds.linf) == ("row", 1, 1)


def test_each_table_says_which_share_of_rows_counts_in_it(tmp_path):
    assert load(tmp_path, VISITS)[1].coverage.share == 0.02


def test_columns_have_the_types_of_the_file(tmp_path):
    columns = load(tmp_path, VISITS)[1].columns
    assert {name: rules.type for name, rules in columns.items()} == {
        "visit": "string",
        "patient_id": "int64",
        "cost": "float64",
    }


def test_a_type_that_can_not_be_read_is_left_out_and_said(tmp_path):
    schema = pa.schema([*VISITS, ("y", pa.list_(pa.string()))])
    assert '# left out: "y", a type that dpbeam doesn\'t read, "list<item: string>"' in load(tmp_path, schema)[0]


def test_a_vector_has_the_length_that_the_file_states(tmp_path):
    text, policy = load(tmp_path, pa.schema([*VISITS, ("e: ", pa.list_(pa.float32(), 384))]))
    assert (policy.columns["e: "].type, policy.columns["e: "].length) == ("vector", 384)
    assert '      # - vector_sum: {columns: ["e: "], norm: l2, max_norm: MOST}\n' in text


def test_a_length_that_the_file_leaves_to_its_rows_is_left_to_fill_in(tmp_path):
    text, policy = load(tmp_path, VISITS)
    assert "x" not in policy.columns
    assert "  # x: {type: vector, length: LENGTH, on_null: drop, on_invalid: fail}\n" in text
    filled = text.replace("  # x: {", "  x: {").replace("LENGTH", "3")
    filled = filled.replace("      # - vector_sum: {columns: [x]", "      - vector_sum: {columns: [x]")
    (tmp_path / "policy.yaml").write_text(filled.replace("MOST", "1"), encoding="utf-8")
    assert load_policy(tmp_path / "policy.yaml").columns["x"].length == 3


def test_a_vector_longer_than_a_policy_may_have_is_left_out(tmp_path):
    text, policy = load(tmp_path, pa.schema([*VISITS, ("e", pa.list_(pa.float32(), vectors.MAX_LENGTH + 1))]))
    assert "# left out: e, a type that dpbeam doesn't read" in text.replace('"e"', "e")
    assert "e" not in policy.columns


def test_sums_and_means_are_left_to_fill_in(tmp_path):
    text, policy = load(tmp_path, VISITS)
    assert "      # - sum: {column: cost, low: LOW, high: HIGH}\n" in text
    assert [metric.kind for metric in policy.stages[0].metrics] == ["privacy_id_count"]


def test_what_a_csv_file_can_not_say_is_asked_for(tmp_path):
    names = pa.schema([("person", pa.string()), ("cost", pa.string())])
    text, _ = load(tmp_path, names, format="csv")
    assert "  # CHECK: a CSV file states no types" in text
    assert "      # - mean: {column: COLUMN, low: LOW, high: HIGH}\n" in text
    text, _ = load(tmp_path, names, format="parquet")
    assert "states no types" not in text
    assert "sum" not in text


def test_a_dataset_named_as_a_number_stays_text(tmp_path):
    assert load(tmp_path, VISITS, dataset="2024")[1].dataset == "2024"


def test_odd_paths_are_kept(tmp_path):
    policy = load(tmp_path, VISITS, path='a b/"c": d#.csv', format="csv")[1]
    assert policy.source.path == (str(tmp_path / 'a b/"c": d#.csv'),)


@settings(deadline=None, max_examples=200)
@given(fields=st.lists(st.tuples(NAMES, st.sampled_from(TYPES)), max_size=6))
def test_it_loads_whatever_the_columns_are(tmp_path_factory, fields):
    text, policy = load(tmp_path_factory.getbasetemp(), pa.schema(fields))
    known = {each for name, _ in fields for each in (name, name.strip())}
    assert set(policy.columns) - {"everyone", *(f"everyone{i}" for i in range(12))} <= known
    assert "CHECK" in text


WRITINGS = st.sampled_from(
    [
        Writing(),
        Writing(type="int64", says="whole numbers", is_category=True),
        Writing(type="date", expression="parse_date(x, '%-d.%-m.%Y')", says="dates"),
        Writing(type="float64", expression=r"parse_float64(nullif(nullif(x, '-'), '\N'), ',')", says="numbers"),
        Writing(alternatives=("parse_date(x, '%-d/%-m/%Y')", "parse_date(x, '%-m/%-d/%Y')")),
        Writing(is_utf8=False),
    ]
)


@settings(deadline=None, max_examples=200)
@given(columns=st.dictionaries(NAMES, WRITINGS, max_size=6))
def test_it_loads_whatever_the_columns_are_and_however_they_are_written(tmp_path_factory, columns):
    names = pa.schema([(name, pa.string()) for name in columns])
    _, policy = load(tmp_path_factory.getbasetemp(), names, format="csv", read=columns)
    assert {metric.kind for stage in policy.stages for metric in stage.metrics} == {"privacy_id_count"}


def test_text_is_trimmed_and_nothing_else_is(tmp_path):
    columns = load(tmp_path, pa.schema([*VISITS, ("hash", pa.binary(16))]))[1].columns
    assert {name for name, rules in columns.items() if rules.trim} == {"visit"}


def test_what_is_no_value_of_its_type_ends_the_run(tmp_path):
    assert {rules.on_invalid for rules in load(tmp_path, VISITS)[1].columns.values()} == {"fail"}


def test_the_selection_shares_its_count_with_the_metric(tmp_path):
    _, policy = load(tmp_path, VISITS)
    kinds = [(each.stage.partition(".")[2], each.kind) for each in plan(query(policy)).mechanisms]
    assert kinds == [("", "gaussian_thresholding"), ("coverage", "gaussian")]


def test_text_written_otherwise_is_read_under_another_name_by_an_expression(tmp_path):
    seen = Writing(type="date", expression="parse_date(x, '%-d.%-m.%Y')", says="dates written %-d.%-m.%Y")
    text, policy = load(tmp_path, pa.schema([("day seen", pa.string())]), format="csv", read={"day seen": seen})
    rules = policy.columns["day seen_text"]
    assert (rules.type, rules.field, rules.trim) == ("string", "day seen", True)
    assert policy.derive["day seen"].expression == "parse_date(`day seen_text`, '%-d.%-m.%Y')"
    assert "  # dates written %-d.%-m.%Y\n" in text


def test_a_name_is_had_without_the_blanks_around_it(tmp_path):
    _, policy = load(tmp_path, pa.schema([(" user id", pa.string()), ("city ", pa.string())]), format="csv")
    assert {name: rules.field for name, rules in policy.columns.items()} == {"user id": " user id", "city": "city "}
    assert policy.privacy_unit == "user id"


def test_a_name_stays_as_it_is_where_another_column_has_it_without_blanks(tmp_path):
    _, policy = load(tmp_path, pa.schema([("a", pa.string()), ("a ", pa.string())]), format="csv")
    assert {name: rules.field for name, rules in policy.columns.items()} == {"a": None, "a ": None}


def test_a_delimiter_and_a_compression_are_said(tmp_path):
    _, policy = load(tmp_path, pa.schema([("a", pa.string())]), format="csv", delimiter="\t", compression="gzip")
    assert (policy.source.delimiter, policy.source.compression) == ("\t", "gzip")


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (["user_id", "order_id", "email", "city"], "city"),
        (["user_id", "comment", "colour"], "colour"),
        (["user_id", "created_at", "age", "cost"], "created_at"),
        (["user_id", "colour", "device_type"], "device_type"),
    ],
)
def test_the_group_is_none_that_sounds_like_an_id_or_a_quantity_where_there_is_another(tmp_path, names, group):
    _, policy = load(tmp_path, pa.schema([(name, pa.string()) for name in names]), format="csv")
    assert policy.stages[0].group_by == (group,)


def test_the_group_is_one_that_has_categories(tmp_path):
    read = {"user_id": Writing(), "colour": Writing(), "taste": Writing(is_category=True)}
    _, policy = load(tmp_path, pa.schema([(name, pa.string()) for name in read]), format="csv", read=read)
    assert policy.stages[0].group_by == ("taste",)


def test_a_sample_that_tells_too_little_leaves_text_and_says_what_could_be_meant(tmp_path):
    either = Writing(alternatives=("parse_date(x, '%-d/%-m/%Y')", "parse_date(x, '%-m/%-d/%Y')"))
    text, policy = load(tmp_path, pa.schema([("day", pa.string())]), format="csv", read={"day": either})
    assert policy.columns["day"].type == "string"
    assert (
        """# CHECK: "parse_date(day, '%-d/%-m/%Y')" or "parse_date(day, '%-m/%-d/%Y')"? The sample doesn't tell"""
        in text
    )
