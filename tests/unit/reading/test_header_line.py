"""A CSV file's first line: by what it is cut, and whether it may stand in a policy."""

from __future__ import annotations

import pytest

from dpbeam.errors import UsageError
from dpbeam.reading.formats.header_line import check_names, delimiter_of


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [
        (b"a,b,c", ","),
        (b"a;b;c", ";"),
        (b"a\tb\tc", "\t"),
        (b"a|b|c", "|"),
        (b"only", ","),
        (b'"a;b","c;d","e;f"', ","),
        (b'"price, net";"price, gross";city;street', ";"),
        (b"temp (a, b);hum;wind;rain", ";"),
        ("größe;stadt".encode(), ";"),
    ],
)
def test_the_delimiter_is_what_cuts_the_line_into_most_names(line, delimiter) -> None:
    assert delimiter_of(line, "x.csv") == delimiter


def test_where_two_could_be_meant_the_reader_is_asked() -> None:
    with pytest.raises(UsageError) as refused:
        delimiter_of(b"a,b;c", "x.csv")
    assert str(refused.value) == (
        "x.csv: its first line can be cut at a comma or a semicolon; say which by --delimiter"
    )


@pytest.mark.parametrize(
    "value",
    ["17", "-3.5", "1,5", "1e5", "31.12.2024", "2024-05-01", "2024-05-01T10:00", "10:30", "a.b@example.org",
     "12345678-1234-1234-1234-123456789abc", "0123456789abcdef", " 5 ", "+49 30 1234"],
)  # fmt: skip
def test_a_line_with_what_looks_like_a_value_is_refused_without_showing_it(value) -> None:
    with pytest.raises(UsageError) as refused:
        check_names(["city", value], "x.csv")
    assert str(refused.value) == (
        "x.csv seems to have no header: its first line has what looks like values (numbers, dates, addresses), and a "
        "policy would show them. Put a line of column names on top of the file; if that is what these are, say --header"
    )


def test_names_may_have_digits_blanks_and_signs() -> None:
    check_names(["", "q1", "2nd visit", "price [€/kg]", "e-mail", "x.y", "Unnamed: 0", "a@b", "%", "deadbeef"], "x.csv")
