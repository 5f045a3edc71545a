"""What each function and operator of an expression gives, value by value."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from dpbeam.queries.functions import FUNCTIONS
from dpbeam.reading.expressions.evaluate import FORMATTED, KERNELS
from tests.helpers.expressions import INVALID, read, value

MOST, LEAST = 2**63 - 1, -(2**63)
NOON = datetime(2024, 2, 29, 12, 30, 59, 999_999)

CASES = {
    "add": [
        ("n + m", {"n": 2, "m": 3}, 5),
        ("n + m", {"n": MOST, "m": 1}, INVALID),
        ("n + m", {"n": LEAST, "m": -1}, INVALID),
        ("n + x", {"n": 1, "x": 0.5}, 1.5),
        ("x + y", {"x": 0.1, "y": 0.2}, 0.1 + 0.2),
        ("x + y", {"x": 1.7e308, "y": 1.7e308}, INVALID),
    ],
    "subtract": [
        ("n - m", {"n": 2, "m": 3}, -1),
        ("n - m", {"n": LEAST, "m": 1}, INVALID),
        ("n - m", {"n": 0, "m": LEAST}, INVALID),
        ("n - m - 1", {"n": 5, "m": 2}, 2),
        ("x - y", {"x": 1.0, "y": 0.9}, 1.0 - 0.9),
    ],
    "multiply": [
        ("n * m", {"n": -2, "m": 3}, -6),
        ("n * m", {"n": 2**32, "m": 2**31}, INVALID),
        ("n * m", {"n": -1, "m": LEAST}, INVALID),
        ("n * m", {"n": LEAST, "m": -1}, INVALID),
        ("n * m", {"n": -1, "m": MOST}, -MOST),
        ("n * m", {"n": 1, "m": LEAST}, LEAST),
        ("x * y", {"x": 1e200, "y": 1e200}, INVALID),
        ("n + m * 2", {"n": 1, "m": 2}, 5),
    ],
    "divide": [
        ("n / m", {"n": 1, "m": 2}, 0.5),
        ("n / m", {"n": 1, "m": 0}, INVALID),
        ("x / y", {"x": 0.0, "y": 0.0}, INVALID),
        ("x / y", {"x": 1e300, "y": 1e-300}, INVALID),
    ],
    "floor_divide": [
        ("n // m", {"n": -7, "m": 2}, -4),
        ("n // m", {"n": 7, "m": 0}, INVALID),
        ("n // m", {"n": LEAST, "m": -1}, INVALID),
    ],
    "modulo": [
        ("n % m", {"n": -7, "m": 2}, 1),
        ("n % m", {"n": 7, "m": -2}, -1),
        ("n % m", {"n": 7, "m": 0}, INVALID),
        ("n % m", {"n": LEAST, "m": -1}, 0),
    ],
    "negate": [("-n", {"n": 5}, -5), ("-n", {"n": LEAST}, INVALID), ("-x", {"x": 1.5}, -1.5)],
    "equal": [
        ("n == m", {"n": 1, "m": 1}, True),
        ("x == 0", {"x": -0.0}, True),
        ("s == 'it''s'", {"s": "it's"}, True),
        ("d == date('2024-05-01')", {"d": date(2024, 5, 1)}, True),
        ("b == c", {"b": True, "c": False}, False),
    ],
    "not_equal": [("s != 'a'", {"s": "A"}, True)],
    "less": [("n < 1.5", {"n": 1}, True), ("s < 'é'", {"s": "z"}, True), ("s < '𐀀'", {"s": "\uffff"}, True)],
    "less_equal": [("d <= e", {"d": date(2024, 1, 1), "e": date(2024, 1, 1)}, True)],
    "greater": [("t > timestamp('2024-02-29T12:30+01:00')", {"t": NOON}, True)],
    "greater_equal": [("n >= 2", {"n": 1}, False)],
    "in": [
        ("n in (1, 2)", {"n": 2}, True),
        ("n not in (1, 2)", {"n": 2}, False),
        ("s in ('a', r)", {"s": "b", "r": "b"}, True),
        ("x in (1, 2)", {"x": 2.0}, True),
    ],
    "and": [
        ("b and c", {"b": True, "c": True}, True),
        ("n > 0 and m / n > 1", {"n": 0, "m": 1}, False),
        ("m / n > 1 and n > 0", {"n": 0, "m": 1}, False),
        ("b and m / n > 1", {"b": True, "n": 0, "m": 1}, INVALID),
        ("b and nullif(c, true)", {"b": True, "c": True}, None),
        ("b and nullif(c, true)", {"b": False, "c": True}, False),
        ("nullif(c, true) and n / m > 1", {"c": True, "n": 1, "m": 0}, INVALID),
    ],
    "or": [
        ("b or c", {"b": False, "c": False}, False),
        ("n / m > 1 or b", {"n": 1, "m": 0, "b": True}, True),
        ("n / m > 1 or b", {"n": 1, "m": 0, "b": False}, INVALID),
        ("b or nullif(c, true)", {"b": False, "c": True}, None),
        ("b or c and n == 0", {"b": True, "c": True, "n": 1}, True),
    ],
    "not": [("not b", {"b": True}, False), ("not n == m", {"n": 1, "m": 2}, True)],
    "coalesce": [
        ("coalesce(nullif(n, 0), m)", {"n": 0, "m": 7}, 7),
        ("coalesce(nullif(n, 0), m)", {"n": 5, "m": 7}, 5),
        ("coalesce(n, m / 0.5)", {"n": 5, "m": 7}, 5.0),
        ("coalesce(try(n / m), -1)", {"n": 1, "m": 0}, -1.0),
        ("coalesce(n / m, -1.0)", {"n": 1, "m": 0}, INVALID),
        ("coalesce(n, n // m)", {"n": 1, "m": 0}, 1),
        ("coalesce(nullif(n, 1), nullif(m, 0))", {"n": 1, "m": 0}, None),
    ],
    "try": [("try(n // m)", {"n": 1, "m": 0}, None), ("try(n // m)", {"n": 1, "m": 1}, 1)],
    "nullif": [("nullif(s, '')", {"s": ""}, None), ("nullif(s, '')", {"s": "a"}, "a")],
    "least": [("least(n, m, 3)", {"n": 5, "m": 4}, 3), ("least(s, r)", {"s": "b", "r": "a"}, "a")],
    "greatest": [("greatest(n, x)", {"n": 5, "x": 5.5}, 5.5)],
    "abs": [("abs(n)", {"n": -5}, 5), ("abs(n)", {"n": LEAST}, INVALID), ("abs(x)", {"x": -0.5}, 0.5)],
    "floor": [
        ("floor(x)", {"x": -1.5}, -2),
        ("floor(x)", {"x": 2.0**63}, INVALID),
        ("floor(x)", {"x": -(2.0**63)}, LEAST),
    ],
    "ceil": [("ceil(x)", {"x": -1.5}, -1), ("ceil(x)", {"x": 1e300}, INVALID)],
    "round": [
        ("round(x)", {"x": 2.5}, 2),
        ("round(x)", {"x": 3.5}, 4),
        ("round(x)", {"x": -0.4}, 0),
        ("round(x)", {"x": 1e300}, INVALID),
    ],
    "trim": [("trim(s)", {"s": "\u00a0 a b\u3000\t\r\n"}, "a b"), ("trim(s)", {"s": "\u200ba"}, "\u200ba")],
    "upper": [("upper(s)", {"s": "straße ıi σς ﬁ"}, "STRAẞE II ΣΣ ﬁ")],
    "lower": [("lower(s)", {"s": "ÀΣΣ STRAẞE"}, "àσσ straße")],
    "concat": [
        ("concat(s, '-', r)", {"s": "a", "r": "b"}, "a-b"),
        ("concat(s, s)", {"s": "é" * 2**18}, "é" * 2**19),
        ("concat(s, 'x', s)", {"s": "é" * 2**18}, INVALID),
    ],
    "length": [("length(s)", {"s": "aé😀"}, 3)],
    "left": [("left(s, 2)", {"s": "aé😀"}, "aé"), ("left(s, 9)", {"s": "a"}, "a"), ("left(s, 0)", {"s": "a"}, "")],
    "right": [("right(s, 2)", {"s": "aé😀"}, "é😀"), ("right(s, 9)", {"s": "a"}, "a"), ("right(s, 0)", {"s": "a"}, "")],
    "starts_with": [("starts_with(s, 'a.')", {"s": "a.c"}, True), ("starts_with(s, 'a.')", {"s": "abc"}, False)],
    "ends_with": [("ends_with(s, 'c')", {"s": "abc"}, True)],
    "contains": [("contains(s, 'b')", {"s": "abc"}, True), ("contains(s, '.')", {"s": "abc"}, False)],
    "year": [("year(d)", {"d": date(1, 1, 1)}, 1), ("year(t)", {"t": NOON}, 2024)],
    "quarter": [("quarter(d)", {"d": date(2024, 3, 31)}, 1), ("quarter(d)", {"d": date(2024, 10, 1)}, 4)],
    "month": [("month(t)", {"t": datetime(1969, 12, 31, 23, 59)}, 12)],
    "week": [("week(d)", {"d": date(2021, 1, 3)}, 53), ("week(d)", {"d": date(2024, 12, 30)}, 1)],
    "iso_year": [("iso_year(d)", {"d": date(2021, 1, 3)}, 2020), ("iso_year(d)", {"d": date(2024, 12, 30)}, 2025)],
    "day": [("day(t)", {"t": NOON}, 29)],
    "weekday": [("weekday(d)", {"d": date(2024, 4, 29)}, 1), ("weekday(d)", {"d": date(2024, 5, 5)}, 7)],
    "day_of_year": [("day_of_year(d)", {"d": date(2024, 12, 31)}, 366)],
    "hour": [("hour(t)", {"t": NOON}, 12), ("hour(t)", {"t": datetime(1969, 12, 31, 23)}, 23)],
    "minute": [("minute(t)", {"t": NOON}, 30)],
    "second": [("second(t)", {"t": NOON}, 59)],
    "days_between": [
        ("days_between(d, e)", {"d": date(2024, 2, 28), "e": date(2024, 3, 1)}, 2),
        ("days_between(t, u)", {"t": NOON, "u": datetime(2024, 3, 1, 12, 30, 59)}, 0),
        ("days_between(t, u)", {"t": NOON, "u": datetime(2024, 2, 29, 12, 30, 59)}, -1),
    ],
    "hours_between": [("hours_between(t, u)", {"t": NOON, "u": datetime(2024, 2, 29, 14)}, 1)],
    "minutes_between": [("minutes_between(t, u)", {"t": NOON, "u": datetime(2024, 2, 29, 14)}, 89)],
    "seconds_between": [("seconds_between(t, u)", {"t": NOON, "u": datetime(2024, 2, 29, 12, 31)}, 0)],
    "add_days": [
        ("add_days(d, n)", {"d": date(2024, 2, 28), "n": 2}, date(2024, 3, 1)),
        ("add_days(d, n)", {"d": date(9999, 12, 31), "n": 1}, INVALID),
        ("add_days(d, n)", {"d": date(2024, 2, 28), "n": MOST}, INVALID),
        ("add_days(t, n)", {"t": NOON, "n": -1}, datetime(2024, 2, 28, 12, 30, 59, 999_999)),
        ("add_days(t, n)", {"t": NOON, "n": LEAST}, INVALID),
    ],
    "string": [
        ("string(n)", {"n": -12}, "-12"),
        ("string(b)", {"b": True}, "true"),
        ("string(d)", {"d": date(7, 5, 1)}, "0007-05-01"),
    ],
    "int64": [
        ("int64(s)", {"s": "+007"}, 7),
        ("int64(s)", {"s": " 7"}, INVALID),
        ("int64(s)", {"s": str(MOST + 1)}, INVALID),
        ("int64(x)", {"x": 3.0}, 3),
        ("int64(x)", {"x": 3.5}, INVALID),
        ("int64(x)", {"x": 1e19}, INVALID),
        ("int64(b)", {"b": True}, 1),
    ],
    "float64": [
        ("float64(s)", {"s": "1e5"}, 1e5),
        ("float64(s)", {"s": "inf"}, INVALID),
        ("float64(s)", {"s": "nan"}, INVALID),
        ("float64(n)", {"n": 2**53 + 1}, 2.0**53),
    ],
    "bool": [("bool(s)", {"s": "TRUE"}, True), ("bool(s)", {"s": "yes"}, INVALID)],
    "date": [
        ("date(s)", {"s": "2024-02-30"}, INVALID),
        ("date(s)", {"s": "2024-02-29"}, date(2024, 2, 29)),
        ("date(t)", {"t": datetime(1969, 12, 31, 23)}, date(1969, 12, 31)),
    ],
    "timestamp": [
        ("timestamp(s)", {"s": "2024-02-29T12:30+02:00"}, datetime(2024, 2, 29, 10, 30)),
        ("timestamp(s)", {"s": "2024-02-29T25:00"}, INVALID),
        ("timestamp(d)", {"d": date(2024, 2, 29)}, datetime(2024, 2, 29)),
    ],
    "parse_int64": [
        ("parse_int64(s, ',')", {"s": "-1,234,567"}, -1_234_567),
        ("parse_int64(s, ',')", {"s": "1234"}, 1234),
        ("parse_int64(s, ',')", {"s": "12,34"}, INVALID),
        ("parse_int64(s, ',')", {"s": "1,234,"}, INVALID),
        ("parse_int64(s, ',')", {"s": ""}, INVALID),
    ],
    "parse_float64": [
        ("parse_float64(s, ',', '.')", {"s": "1.234,5"}, 1234.5),
        ("parse_float64(s, ',', '.')", {"s": "1234,5"}, 1234.5),
        ("parse_float64(s, ',', '.')", {"s": "1.23,5"}, INVALID),
        ("parse_float64(s, ',')", {"s": "1.234"}, INVALID),
        ("parse_float64(s, ',')", {"s": "+0,1"}, 0.1),
        ("parse_float64(s, ',')", {"s": "9" * 400}, INVALID),
        ("parse_float64(s, ',')", {"s": "1e5"}, INVALID),
    ],
    "parse_date": [
        ("parse_date(s, '%d.%m.%Y')", {"s": "29.02.2024"}, date(2024, 2, 29)),
        ("parse_date(s, '%d.%m.%Y')", {"s": "29.02.2023"}, INVALID),
        ("parse_date(s, '%d.%m.%Y')", {"s": "31.12.0000"}, INVALID),
        ("parse_date(s, '%d.%m.%Y')", {"s": "00.01.2024"}, INVALID),
        ("parse_date(s, '%d.%m.%Y')", {"s": "1.2.2024"}, INVALID),
        ("parse_date(s, '%d.%m.%Y')", {"s": "29.02.2024 "}, INVALID),
        ("parse_date(s, '%-m/%-d/%Y')", {"s": "1/2/2024"}, date(2024, 1, 2)),
        ("parse_date(s, '%d %b %Y (100%%)')", {"s": "05 MAY 2024 (100%)"}, date(2024, 5, 5)),
    ],
    "parse_timestamp": [
        ("parse_timestamp(s, '%d.%m.%Y %H:%M')", {"s": "29.02.2024 23:59"}, datetime(2024, 2, 29, 23, 59)),
        ("parse_timestamp(s, '%d.%m.%Y %H:%M')", {"s": "29.02.2024 24:00"}, INVALID),
        ("parse_timestamp(s, '%d.%m.%Y %H:%M')", {"s": "29.02.2024 00:60"}, INVALID),
        ("parse_timestamp(s, '%Y-%m-%d %-I:%M %p')", {"s": "2024-02-29 12:05 am"}, datetime(2024, 2, 29, 0, 5)),
        ("parse_timestamp(s, '%Y-%m-%d %I:%M %p')", {"s": "2024-02-29 13:05 PM"}, INVALID),
        ("parse_timestamp(s, '%Y-%m-%d %I:%M %p')", {"s": "2024-02-29 12:05 PM"}, datetime(2024, 2, 29, 12, 5)),
        (
            "parse_timestamp(s, '%Y%m%d%H%M%S.%f%z')",
            {"s": "20240229000000.05-0130"},
            datetime(2024, 2, 29, 1, 30, 0, 50_000),
        ),
        ("parse_timestamp(s, '%Y-%m-%d %H%z')", {"s": "2024-02-29 00+24:00"}, INVALID),
        ("parse_timestamp(s, '%Y-%m-%d %H%z')", {"s": "0001-01-01 00+01:00"}, INVALID),
    ],
}  # fmt: skip
ROWS = [(name, *case) for name, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(("text", "row", "expected"), [case[1:] for case in ROWS], ids=[case[1] for case in ROWS])
def test_a_function_gives(text, row, expected):
    found = value(text, **row)
    assert (type(found), found) == (type(expected), expected)


def test_every_function_has_cases_and_a_kernel():
    assert list(CASES) == list(FUNCTIONS)
    assert {*KERNELS, *FORMATTED, "and", "or", "coalesce", "try"} == set(FUNCTIONS)


def test_what_can_be_invalid_is_said_of_each_function():
    said = {name for name, function in FUNCTIONS.items() if function.invalid}
    shown = {name for name, _, _, expected in ROWS if expected == INVALID}
    assert shown - said == {"and", "or", "coalesce"}, "these only hand on what their arguments are"
    assert said - shown == set()


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("case when n < 18 then 'minor' when n < 65 then 'adult' else 'old' end", {"n": 18}, "adult"),
        ("case when n < 18 then 'minor' end", {"n": 18}, None),
        ("case when n > 0 then m / n else 0 end", {"n": 0, "m": 1}, 0.0),
        ("case when n > 0 then m / n end", {"n": 2, "m": 1}, 0.5),
        ("case when m / n > 1 then 'a' else 'b' end", {"n": 0, "m": 1}, INVALID),
        ("case when n == 0 then 'a' when m / n > 1 then 'b' else 'c' end", {"n": 0, "m": 1}, "a"),
        ("case when nullif(b, true) then 'a' else 'b' end", {"b": True}, "b"),
        ("case when b then n else x end", {"b": True, "n": 1, "x": 0.5}, 1.0),
    ],
)
def test_a_case_looks_no_further_than_the_branch_that_it_takes(text, row, expected):
    assert value(text, **row) == expected


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("nullif(n, 0) + 1", {"n": 0}, None),
        ("n // m + nullif(n, 1)", {"n": 1, "m": 0}, INVALID),
        ("concat(s, nullif(r, ''))", {"s": "a", "r": ""}, None),
        ("parse_date(nullif(s, ''), '%Y%m%d')", {"s": ""}, None),
        ("int64(nullif(s, ''))", {"s": ""}, None),
        ("least(nullif(n, 0), m)", {"n": 0, "m": 1}, None),
        ("n in (nullif(m, 1), 2)", {"n": 2, "m": 1}, None),
    ],
)
def test_what_is_missing_stays_missing_and_what_is_invalid_goes_first(text, row, expected):
    assert value(text, **row) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n + m * 2 - 1", "((n + (m * 2)) - 1)"),
        ("-n * m", "((-n) * m)"),
        ("not b and c or b", "(((not b) and c) or b)"),
        ("n // m % 2 == 0", "(((n // m) % 2) == 0)"),
        ("not n in (1, 2)", "(not (n in (1, 2)))"),
        ("n - -m", "(n - (-m))"),
    ],
)
def test_operators_bind_as_in_arithmetic(text, expected):
    assert read(text) == read(expected)
