"""How text is written is told from a sample where it fits one writing, and no value of the sample is told with it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.policy import writings
from dpbeam.policy.writings import MARKERS, Writing, writing_of


def told(*values: str | bytes | None) -> tuple[str, str | None]:
    found = writing_of(pa.array([v.encode() if isinstance(v, str) else v for v in values], pa.binary()))
    return found.type, found.expression


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", " 2 ", "", None], "int64"),
        (["0", "1"], "int64"),
        (["1.5", "2"], "float64"),
        (["1.5", "nan"], "float64"),
        (["true", "FALSE"], "bool"),
        (["2024-05-01"], "date"),
        (["2024-05-01T10:00:00Z", "2024-05-01"], "timestamp"),
        (["a", "1"], "string"),
        (["nan", "inf"], "string"),
        ([None, "", "  "], "string"),
        (["NA", "-"], "string"),
    ],
)
def test_what_is_read_as_it_stands_is_declared(values, kind) -> None:
    assert told(*values) == (kind, None)


@pytest.mark.parametrize("values", [["01234", "99999"], ["+49", "5"], ["12345678901234567890"], ["01234", "NA"]])
def test_what_a_number_would_lose_stays_text(values) -> None:
    assert told(*values) == ("string", None)


@pytest.mark.parametrize(
    ("values", "kind", "expression"),
    [
        (["17000.0", "3.00"], "int64", "int64(float64(x))"),
        (["1,234", "1,234,567"], "int64", "parse_int64(x, ',')"),
        (["1 234", "5"], "int64", "parse_int64(x, ' ')"),
        (["12,5", "3,25"], "float64", "parse_float64(x, ',')"),
        (["1.234,50", "3,2"], "float64", "parse_float64(x, ',', '.')"),
        (["1,234.50", "7.1"], "float64", "parse_float64(x, '.', ',')"),
        (["31.12.2024", "1.2.2024"], "date", "parse_date(x, '%-d.%-m.%Y')"),
        (["12/31/2024"], "date", "parse_date(x, '%-m/%-d/%Y')"),
        (["2024/5/1"], "date", "parse_date(x, '%Y/%-m/%-d')"),
        (["3 Jan 2024"], "date", "parse_date(x, '%-d %b %Y')"),
        (["31.12.2024 9:30"], "timestamp", "parse_timestamp(x, '%-d.%-m.%Y %-H:%M')"),
        (["1/31/2024 3:05 PM"], "timestamp", "parse_timestamp(x, '%-m/%-d/%Y %-I:%M %p')"),
        (["NA", "5"], "int64", "int64(nullif(x, 'NA'))"),
        (["5.5", r"\N", "?"], "float64", r"float64(nullif(nullif(x, '?'), '\N'))"),
        (["17000.0", "NA"], "int64", "int64(float64(nullif(x, 'NA')))"),
        (["2024-05-01", "-"], "date", "date(nullif(x, '-'))"),
        (
            ["Yes", "no"],
            "bool",
            "case when lower(x) == 'yes' then true when lower(x) == 'no' then false else bool(x) end",
        ),
    ],
)
def test_what_is_written_otherwise_is_read_by_an_expression(values, kind, expression) -> None:
    assert told(*values) == (kind, expression)


@pytest.mark.parametrize(
    ("values", "alternatives"),
    [
        (["01/02/2024"], ("parse_date(x, '%-d/%-m/%Y')", "parse_date(x, '%-m/%-d/%Y')")),
        (["1,234"], ("parse_int64(x, ',')", "parse_float64(x, ',')")),
        (["1,234", "NA"], ("parse_int64(nullif(x, 'NA'), ',')", "parse_float64(nullif(x, 'NA'), ',')")),
    ],
)
def test_where_two_writings_fit_none_is_taken(values, alternatives) -> None:
    found = writing_of(pa.array(values))
    assert (found.type, found.expression, found.alternatives) == ("string", None, alternatives)


def test_one_value_that_does_not_fit_leaves_text() -> None:
    assert told(*["31.12.2024"] * 500, "x") == ("string", None)
    assert told(*["5"] * 500, "x") == ("string", None)


def test_bytes_that_are_not_utf8_are_told() -> None:
    assert writing_of(pa.array([b"caf\xe9", b"a"])) == Writing(says="text, some of it not UTF-8", is_utf8=False)


def test_few_values_each_often_are_categories() -> None:
    assert writing_of(pa.array(["a", "b"] * 20)).is_category
    assert not writing_of(pa.array([f"v{i}" for i in range(40)])).is_category
    assert not writing_of(pa.array([f"v{i}" for i in range(51)] * 20)).is_category


EXAMPLES = ["5", "5.0", "1,5", "1.2.2024", "01/02/2024", "yes", "no", "NA", "?", "true", "2024-05-01", "a", ""]


@given(values=st.lists(st.sampled_from(EXAMPLES) | st.text(max_size=6), min_size=1, max_size=8))
def test_what_is_told_is_chosen_from_a_list_that_no_value_adds_to(values: list[str]) -> None:
    found = writing_of(pa.array(values))
    forms = {form.expression: form for group in writings._groups() for form in group}

    def bare(expression: str) -> str:
        for word in MARKERS:
            expression = expression.replace("nullif(x, '" + word + "')", "x")
        return expression

    for expression in (*([found.expression] if found.expression else []), *found.alternatives):
        assert bare(expression) in forms
    declared = {"text", "text: no value in the sample", "true and false", "whole numbers", "numbers"}
    declared |= {"dates as in ISO 8601", "times as in ISO 8601"}
    assert found.says.partition("; ")[0] in {form.says for form in forms.values()} | declared
