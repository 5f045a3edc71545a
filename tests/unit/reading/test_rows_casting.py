"""What is a value of each type, and what isn't: from CSV text and from Parquet's types."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dpbeam.queries.column_types import ColumnType
from dpbeam.reading.casting import ARROW_TYPES, accepts, to_type

MAX, MIN = 2**63 - 1, -(2**63)


def cast(values: list[Any], kind: ColumnType, arrow: pa.DataType | None = None) -> list[Any]:
    result = to_type(pa.array(values, arrow or pa.binary()), kind)
    assert result.type == ARROW_TYPES[kind]
    return result.to_pylist()


def parsed(text: str, kind: ColumnType) -> Any:
    """What `text` means alone, and the same beside neighbours that are valid, invalid and null."""
    (alone,) = cast([text.encode()], kind)
    valid = {
        "int64": b"7",
        "float64": b"7",
        "bool": b"1",
        "date": b"2024-05-01",
        "timestamp": b"2024-05-01",
        "string": b"",
    }
    for neighbours in ([valid[kind]], [b"2024-05-01T10:00Z"], [b"?", None, b"\xff"]):
        assert repr(cast([*neighbours, text.encode()], kind)[-1]) == repr(alone)
        assert repr(cast([text.encode(), *neighbours], kind)[0]) == repr(alone)
    return alone


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-5", -5), ("+5", 5), ("007", 7), ("-0", 0), (str(MAX), MAX), (str(MIN), MIN)],
)
def test_whole_numbers_are_decimal_digits_with_a_sign_or_none(text: str, value: int) -> None:
    assert parsed(text, "int64") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 12",
        "12 ",
        "1_000",
        "1,000",
        "1.0",
        "1e5",
        "0x1F",
        "１",
        "٣",
        "--1",
        "+",
        "-",
        "abc",
        "1\n",
        "1\x00",
        str(MAX + 1),
        str(MIN - 1),
        "9" * 400,
    ],
)
def test_other_text_and_integers_beyond_64_bits_are_invalid_as_whole_numbers(text: str) -> None:
    assert parsed(text, "int64") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12.0),
        ("-1.5", -1.5),
        ("+1.5", 1.5),
        ("1e5", 1e5),
        ("1E-5", 1e-5),
        (".5", 0.5),
        ("5.", 5.0),
        ("4.9e-324", 5e-324),
        ("1e-400", 0.0),
        ("0.1", 0.1),
        ("9007199254740993", 9007199254740992.0),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("Infinity", math.inf),
        ("17976931348623157e292", 1.7976931348623157e308),
    ],
)
def test_numbers_are_decimal_with_or_without_exponent_or_infinite(text: str, value: float) -> None:
    assert parsed(text, "float64") == value


@pytest.mark.parametrize("text", ["1e400", "-1e400", "10e308", "1.8e308", "9" * 400, "1e99999999999999999999"])
def test_a_number_that_no_float64_holds_is_invalid_as_a_whole_number_beyond_64_bits_is(text: str) -> None:
    values = to_type(pa.array([text, "inf", "-INFINITY", "1.5", None]), "float64").to_pylist()
    assert values == [None, math.inf, -math.inf, 1.5, None]


NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:nan)|(?i:inf)(?i:inity)?)", re.ASCII)
WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)


@pytest.mark.parametrize(("alphabet", "longest"), [("+-.e1E0 _", 4), ("+-nNaAiIfFtTyY", 3)])
def test_numbers_are_spelled_as_the_docs_say_and_no_other_way(alphabet: str, longest: int) -> None:
    words = ["", "inf", "infinity", "nan"]
    texts = [
        "".join(made) + word
        for word in words
        for length in range(longest + 1)
        for made in itertools.product(alphabet, repeat=length)
    ]
    floats, wholes = (to_type(pa.array(texts, pa.string()), kind).to_pylist() for kind in ("float64", "int64"))
    for text, number, whole in zip(texts, floats, wholes, strict=True):
        assert repr(number) == (repr(float(text)) if NUMBER.fullmatch(text) else "None"), text
        assert whole == (int(text) if WHOLE.fullmatch(text) else None), text


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan"])
def test_nan_is_a_number_for_on_nan_to_judge(text: str) -> None:
    assert math.isnan(parsed(text, "float64"))


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1_0", "1,5", "0x1p3", "1.5f", ".", "e5", "1e", "１.5", "one", "--1"])
def test_other_text_is_invalid_as_a_number(text: str) -> None:
    assert parsed(text, "float64") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("TRUE", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False)],
)
def test_booleans_are_true_false_1_and_0(text: str, value: bool) -> None:
    assert parsed(text, "bool") is value


@pytest.mark.parametrize("text", ["", "yes", "t", "2", " true", "falſe", "01"])
def test_other_text_is_invalid_as_a_boolean(text: str) -> None:
    assert parsed(text, "bool") is None


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31"])
def test_dates_are_iso_days_of_the_years_1_to_9999(text: str) -> None:
    assert parsed(text, "date") == dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-5-1",
        "20240501",
        "2024-02-30",
        "2023-02-29",
        "2024-13-01",
        "2024-00-01",
        "2024-05-00",
        "0000-01-01",
        "01/05/2024",
        " 2024-05-01",
        "2024-05-01 ",
        "2024-05-01\n",
        "２024-05-01",
        "12024-05-01",
        "2024-05-01T00:00",
    ],
)
def test_other_text_is_invalid_as_a_date(text: str) -> None:
    assert parsed(text, "date") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-05-01", "2024-05-01 00:00:00"),
        ("2024-05-01T13", "2024-05-01 13:00:00"),
        ("2024-05-01 13:05", "2024-05-01 13:05:00"),
        ("2024-05-01T13:05:06", "2024-05-01 13:05:06"),
        ("2024-05-01T13:05:06.5", "2024-05-01 13:05:06.500000"),
        ("2024-05-01T13:05:06.123456789", "2024-05-01 13:05:06.123456"),
        ("2024-05-01T13:05:06Z", "2024-05-01 13:05:06"),
        ("2024-05-01T13Z", "2024-05-01 13:00:00"),
        ("2024-05-01T13:05+01:00", "2024-05-01 12:05:00"),
        ("2024-05-01T13:05:06+02", "2024-05-01 11:05:06"),
        ("2024-05-01T13:05:06-0230", "2024-05-01 15:35:06"),
        ("2024-05-01T13:05:06.25-02:30", "2024-05-01 15:35:06.250000"),
        ("2024-05-01T00:05:06+23:59", "2024-04-30 00:06:06"),
        ("1969-12-31T23:59:59.999999", "1969-12-31 23:59:59.999999"),
        ("0001-01-01T00:00:00", "0001-01-01 00:00:00"),
        ("9999-12-31T23:59:59.999999", "9999-12-31 23:59:59.999999"),
    ],
)
def test_timestamps_are_iso_8601_and_become_utc(text: str, value: str) -> None:
    assert parsed(text, "timestamp") == dt.datetime.fromisoformat(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-02-30T10:00",
        "2024-05-01T",
        "2024-05-01T24:00",
        "2024-05-01T10:60",
        "2024-05-01T10:00:60",
        "2024-05-01T1305",
        "2024-05-01t13:05",
        "2024-05-01T13:05z",
        "2024-05-01T13:05:06.",
        "2024-05-01T13:05:06,5",
        "2024-05-01T13:05:06.1234567890",
        "2024-05-01Z",
        "2024-05-01T13:05 +02:00",
        "2024-05-01T13:05+24:00",
        "2024-05-01T13:05+02:60",
        "01/05/2024 13:05",
        "1714568706",
        "0000-05-01T13:05",
        "2024-05-01T13:05:06\n",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:00-00:01",
        "0001-01-01T00:00:59.999999+00:01",
    ],
)
def test_other_text_and_moments_beyond_the_years_are_invalid_as_timestamps(text: str) -> None:
    assert parsed(text, "timestamp") is None


@pytest.mark.parametrize("text", ["", "\x00", "a\nb", "e\u0301", "😀", "\ufffd", "\u2028", "x" * 100_000])
def test_any_valid_utf8_is_text_as_it_stands(text: str) -> None:
    assert parsed(text, "string") == text


@pytest.mark.parametrize(
    "raw",
    [b"\xff", b"\xc3", b"\xa9", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"ok\xf0\x9f\x98"],
)
def test_bytes_that_are_not_utf8_are_invalid_and_spoil_no_neighbour(raw: bytes) -> None:
    assert cast([b"\xc3\xa9", raw, None, b"\xa9x"[1:]], "string") == ["é", None, None, "x"]


def test_a_character_cut_in_two_by_a_row_border_is_invalid_on_both_sides() -> None:
    assert cast([b"\xc3", b"\xa9"], "string") == [None, None]


def test_text_of_a_parquet_file_is_checked_too() -> None:
    unchecked = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"ok"]).buffers())
    assert to_type(unchecked, "string").to_pylist() == [None, "ok"]


@pytest.mark.parametrize("arrow", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()])
def test_every_arrow_layout_of_text_is_text(arrow: pa.DataType) -> None:
    assert cast([b"\xc3\xa9" if "binary" in str(arrow) else "é", None], "string", arrow) == ["é", None]


def test_dictionaries_are_decoded() -> None:
    assert to_type(pa.array(["b", None, "b"]).dictionary_encode(), "string").to_pylist() == ["b", None, "b"]


@pytest.mark.parametrize("arrow", [pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32()])
def test_smaller_integers_widen(arrow: pa.DataType) -> None:
    assert cast([1, None], "int64", arrow) == [1, None]
    assert cast([1, None], "float64", arrow) == [1.0, None]


def test_an_unsigned_integer_beyond_int64_is_invalid() -> None:
    assert cast([MAX, MAX + 1, None], "int64", pa.uint64()) == [MAX, None, None]


@pytest.mark.parametrize("arrow", [pa.decimal128(38, 6), pa.decimal256(76, 6)])
def test_a_decimal_is_the_nearest_float64(arrow: pa.DataType) -> None:
    """1.1 and 6026800318.985396 are among those that Arrow's own cast gets wrong by a bit."""
    values = [Decimal(text) for text in ("1.1", "6026800318.985396", "-0.000001", "0")]
    assert cast([*values, None], "float64", arrow) == [1.1, 6026800318.985396, -1e-06, 0.0, None]


def test_a_whole_decimal_is_exact_or_invalid() -> None:
    values = [Decimal(MAX), Decimal(MAX + 1), Decimal(MIN), Decimal(MIN - 1), None]
    assert cast(values, "int64", pa.decimal128(38, 0)) == [MAX, None, MIN, None, None]


def test_float32_widens_exactly() -> None:
    assert cast([0.5, None, -math.inf], "float64", pa.float32()) == [0.5, None, -math.inf]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_arrow_timestamps_of_any_unit_and_zone_become_utc_microseconds(unit: str, zone: str | None) -> None:
    moment = pa.array([1_714_568_706], pa.int64()).cast(pa.timestamp("s", zone)).cast(pa.timestamp(unit, zone))
    assert to_type(moment, "timestamp").to_pylist() == [dt.datetime(2024, 5, 1, 13, 5, 6)]


def test_nanoseconds_are_cut_towards_the_past_on_both_sides_of_1970() -> None:
    moments = pa.array([1999, -1, -1000, None], pa.int64()).cast(pa.timestamp("ns"))
    assert to_type(moments, "timestamp").cast(pa.int64()).to_pylist() == [1, -1, -1, None]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_timestamp_beyond_the_year_9999_is_invalid_and_does_not_wrap_round(unit: str) -> None:
    moments = pa.array([0, MAX, MIN], pa.int64()).cast(pa.timestamp(unit))
    assert to_type(moments, "timestamp").cast(pa.int64()).to_pylist() == [0, None, None]


def test_both_arrow_dates_are_dates_and_those_beyond_the_years_are_invalid() -> None:
    assert cast([0, 2**31 - 1, None], "date", pa.date32()) == [dt.date(1970, 1, 1), None, None]
    millis = pa.array([86_400_000, -86_400_000, MAX - MAX % 86_400_000], pa.int64()).cast(pa.date64())
    assert to_type(millis, "date").to_pylist() == [dt.date(1970, 1, 2), dt.date(1969, 12, 31), None]


FIRST_DAY, LAST_DAY = (day.toordinal() - dt.date(1970, 1, 1).toordinal() for day in (dt.date.min, dt.date.max))


def test_days_of_the_years_1_to_9999_are_dates_to_the_last_one() -> None:
    days = [FIRST_DAY - 1, FIRST_DAY, LAST_DAY, LAST_DAY + 1]
    expected = [None, dt.date.min, dt.date.max, None]
    assert to_type(pa.array(days, pa.int32()).cast(pa.date32()), "date").to_pylist() == expected
    millis = [FIRST_DAY * 86_400_000 - 1, FIRST_DAY * 86_400_000, (LAST_DAY + 1) * 86_400_000 - 1]
    assert to_type(pa.array(millis).view(pa.date64()), "date").to_pylist() == expected[:3]
    assert to_type(pa.array([(LAST_DAY + 1) * 86_400_000, -1, 0]).view(pa.date64()), "date").to_pylist() == [
        None,
        dt.date(1969, 12, 31),
        dt.date(1970, 1, 1),
    ]


@pytest.mark.parametrize(("unit", "each"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_moments_of_the_years_1_to_9999_are_timestamps_to_the_last_one(unit: str, each: int) -> None:
    first, after = FIRST_DAY * 86_400 * each, (LAST_DAY + 1) * 86_400 * each
    moments = pa.array([first - 1, first, after - 1, after]).cast(pa.timestamp(unit))
    last = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999 // (1_000_000 // each) * (1_000_000 // each))
    assert to_type(moments, "timestamp").to_pylist() == [None, dt.datetime.min, last, None]


def test_bytes_that_are_not_utf8_are_invalid_in_every_arrow_layout() -> None:
    for arrow in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert cast([b"\xc3\xa9", b"\xff", None], "string", arrow) == ["é", None, None]
    for arrow, offsets in ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())):
        unchecked = pa.Array.from_buffers(arrow, 3, pa.array([b"\xff", b"ok", b"\xc3"], offsets).buffers())
        assert to_type(unchecked, "string").to_pylist() == [None, "ok", None]


@pytest.mark.parametrize("arrow", [pa.decimal128(38, 2), pa.decimal256(76, 2)])
def test_a_decimal_with_a_fraction_is_no_whole_number(arrow: pa.DataType) -> None:
    values = [Decimal("1.50"), Decimal("-0.01"), Decimal("7.00"), Decimal("-7.00"), Decimal(0), None]
    assert cast(values, "int64", arrow) == [None, None, 7, -7, 0, None]


def test_decimals_of_any_precision_are_whole_numbers_to_the_ends_of_int64() -> None:
    values = [Decimal(MAX), Decimal(MIN), Decimal(MAX + 1), Decimal(MIN - 1), Decimal(10) ** 60]
    assert cast(values, "int64", pa.decimal256(76, 0)) == [MAX, MIN, None, None, None]
    assert cast(values[:4], "int64", pa.decimal256(76, 30)) == [MAX, MIN, None, None]


@pytest.mark.parametrize("kind", list(ARROW_TYPES))
def test_a_column_of_nothing_but_null_is_of_every_type(kind: ColumnType) -> None:
    assert accepts(pa.null(), kind)
    assert cast([None, None], kind, pa.null()) == [None, None]


@pytest.mark.parametrize("kind", list(ARROW_TYPES))
def test_no_rows_give_no_rows(kind: ColumnType) -> None:
    assert cast([], kind) == []
