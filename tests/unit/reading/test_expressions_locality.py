"""An expression gives each row the same bits, whichever rows are beside it and however Arrow lays them out."""

from __future__ import annotations

import calendar
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.queries.expressions import Call, Case, Expression
from dpbeam.queries.functions import FUNCTIONS
from dpbeam.queries.source import Bin, Computed, Lookup, Lower, Rule, Truncate
from dpbeam.reading.derived_columns import add_derived
from dpbeam.reading.expressions.evaluate import evaluate
from tests.helpers.expressions import INVALID, TYPES, columns, read, shown, value

TEXTS = [
    "case when n + m > 0 then n - m when n * m < 5 then -n else abs(m) end",
    "coalesce(try(x / y), least(x, y), greatest(x, y))",
    "case when m != 0 and n // m >= 1 or not b then n % m else floor(x) + ceil(y) + round(x) end",
    "concat(upper(trim(s)), lower(r), left(s, 2), right(r, 2), string(n), string(b), string(d))",
    "case when starts_with(s, 'a') or ends_with(s, 'b') or contains(r, '1') then length(s) end",
    "year(d) + quarter(d) + month(t) + week(d) + iso_year(t) + day(d) + weekday(t) + day_of_year(d)",
    "hour(t) + minute(t) + second(t)",
    "days_between(d, e) + days_between(t, u) + hours_between(t, u) + minutes_between(u, t) + seconds_between(t, u)",
    "add_days(d, n)",
    "add_days(t, m)",
    "coalesce(try(int64(s)), try(parse_int64(s, ',')), int64(x))",
    "coalesce(try(float64(s)), try(parse_float64(s, '.', ',')), float64(n))",
    "coalesce(try(bool(s)), n in (1, 2, m), x == y, x <= y)",
    "coalesce(try(date(s)), try(parse_date(s, '%-d.%-m.%Y')), date(t))",
    "coalesce(try(timestamp(s)), try(parse_timestamp(s, '%d %b %Y %-I:%M:%S.%f %p %z')), timestamp(d))",
    "nullif(s, r)",
    "x * y + x / y - x",
]

whole = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
fraction = st.floats(allow_nan=False, allow_infinity=False)
word = (
    st.text(max_size=4)
    | st.dates().map(str)
    | st.dates().map(lambda day: f"{day.day}.{day.month}.{day.year:04}")
    | st.datetimes().map(lambda at: at.strftime("%d %b ") + f"{at.year:04}" + at.strftime(" %I:%M:%S.%f %p +01:00"))
    | st.sampled_from(["a1", " b ", "1,234", "1,234.5", "7", "-1e3", "true", "0", "ﬁß", "\u00a0"])
)
day, moment, flag = st.dates(), st.datetimes(), st.booleans()
OF = {"int64": whole, "float64": fraction, "string": word, "bool": flag, "date": day, "timestamp": moment}
row = st.fixed_dictionaries({name: OF[kind] for name, kind in TYPES.items()})


def arrays(rows: list[dict[str, Any]]) -> dict[str, pa.Array]:
    return columns({name: [each[name] for each in rows] for name in TYPES})


def bits(expression: Expression, given_columns: dict[str, pa.Array], rows: int) -> list[Any]:
    """Each row's value as text that tells all floats apart."""
    return list(map(repr, shown(evaluate(expression, given_columns, rows))))


@given(rows=st.lists(row, min_size=1, max_size=8), text=st.sampled_from(TEXTS), data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_row_has_the_same_bits_alone_as_among_others_and_in_whatever_layout(rows, text, data):
    expression = read(text)
    together = bits(expression, arrays(rows), len(rows))
    assert [bits(expression, arrays([each]), 1)[0] for each in rows] == together
    order = data.draw(st.permutations(range(len(rows))))
    assert bits(expression, arrays([rows[at] for at in order]), len(rows)) == [together[at] for at in order]
    cut = data.draw(st.integers(0, len(rows) - 1))
    sliced = {name: column.slice(cut) for name, column in arrays(rows).items()}
    assert bits(expression, sliced, len(rows) - cut) == together[cut:]


def test_a_text_that_grows_too_long_leaves_its_neighbours_alone():
    found = evaluate(read("concat(s, r)"), columns({"s": ["a" * 2**20, "b"], "r": ["c", "d"]}), 2)
    assert shown(found) == [INVALID, "bd"]


def functions_in(expression: Expression) -> set[str]:
    match expression:
        case Call():
            return {expression.function}.union(*map(functions_in, expression.arguments))
        case Case():
            values = [value for _, value in expression.branches] + [expression.otherwise or expression.branches[0][1]]
            return set().union(*map(functions_in, values), *(functions_in(when) for when, _ in expression.branches))
    return set()


def test_these_expressions_use_every_function():
    assert set().union(*(functions_in(read(text)) for text in TEXTS)) == set(FUNCTIONS)


DERIVED = (
    Computed(name="q", expression=read("x / y"), on_invalid=Rule(action="drop")),
    Computed(name="k", expression=read("left(s, 1)")),
    Computed(name="z", expression=read("case when b then n // m end"), on_null=Rule(action="replace", value=5)),
    Lookup(name="l", column="k", keys=pa.array(["a", "1", ""]), values=pa.array([1, None, 3]), type="int64"),
    Bin(name="qb", column="q", edges=(0.0, 1.0)),
    Lower(name="kl", column="k"),
    Truncate(name="w", column="t", unit="week"),
)


@given(rows=st.lists(row, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_derived_columns_and_their_rules_look_at_no_other_row(rows):
    found, dropped = add_derived(arrays(rows), DERIVED, len(rows))
    for at, each in enumerate(rows):
        own, gone = add_derived(arrays([each]), DERIVED, 1)
        is_gone = dropped is not None and bool(dropped[at])
        assert (gone is not None and bool(gone[0])) == is_gone
        if not is_gone:
            assert {name: repr(column[0].as_py()) for name, column in own.items()} == {
                name: repr(column[at].as_py()) for name, column in found.items()
            }


@given(rows=st.lists(row, min_size=1, max_size=8), order=st.permutations(DERIVED[:3]))
def test_the_order_of_columns_that_do_not_use_each_other_changes_nothing(rows, order):
    first, dropped = add_derived(arrays(rows), DERIVED[:3], len(rows))
    second, again = add_derived(arrays(rows), order, len(rows))
    assert (None if dropped is None else dropped.tolist()) == (None if again is None else again.tolist())
    assert all(first[name].equals(second[name]) for name in first)


@given(n=whole, m=whole)
@settings(max_examples=500)
def test_whole_numbers_are_those_of_mathematics_or_invalid(n, m):
    def held(number: int) -> Any:
        return number if -(2**63) <= number < 2**63 else INVALID

    assert value("n + m", n=n, m=m) == held(n + m)
    assert value("n - m", n=n, m=m) == held(n - m)
    assert value("n * m", n=n, m=m) == held(n * m)
    assert value("n // m", n=n, m=m) == (held(n // m) if m else INVALID)
    assert value("n % m", n=n, m=m) == (held(n % m) if m else INVALID)


@given(x=fraction, y=fraction)
@settings(max_examples=500)
def test_floats_are_the_nearest_to_the_exact_result_or_invalid(x, y):
    def nearest(exact: Fraction) -> Any:
        try:
            return float(exact)  # rounded once, half to even
        except OverflowError:
            return INVALID

    assert value("x + y", x=x, y=y) == nearest(Fraction(x) + Fraction(y))
    assert value("x * y", x=x, y=y) == nearest(Fraction(x) * Fraction(y))
    assert value("x / y", x=x, y=y) == (nearest(Fraction(x) / Fraction(y)) if y else INVALID)


@given(d=day, e=day, t=moment, u=moment)
@settings(max_examples=500)
def test_parts_and_differences_of_dates_are_those_of_the_calendar(d, e, t, u):
    year, week, weekday = d.isocalendar()
    found = [
        value(f"{part}(d)", d=d) for part in ("year", "month", "day", "iso_year", "week", "weekday", "day_of_year")
    ]
    assert found == [d.year, d.month, d.day, year, week, weekday, d.timetuple().tm_yday]
    assert [value(f"{part}(t)", t=t) for part in ("hour", "minute", "second")] == [t.hour, t.minute, t.second]
    assert value("days_between(d, e)", d=d, e=e) == (e - d).days
    assert value("seconds_between(t, u)", t=t, u=u) == (u - t) // timedelta(seconds=1)
    assert value("hours_between(t, u)", t=t, u=u) == (u - t) // timedelta(hours=1)
    assert value("date(t)", t=t) == t.date()
    assert value("timestamp(d)", d=d) == datetime(d.year, d.month, d.day)


@given(year=st.integers(0, 9999), month=st.integers(0, 14), number=st.integers(0, 33))
@settings(max_examples=500)
def test_a_date_by_its_format_is_one_of_the_calendar(year, month, number):
    is_day = year >= 1 and 1 <= month <= 12 and 1 <= number <= calendar.monthrange(max(year, 1), month)[1]
    expected = date(year, month, number) if is_day else INVALID
    assert value("parse_date(s, '%d/%m/%Y')", s=f"{number:02}/{month:02}/{year:04}") == expected
