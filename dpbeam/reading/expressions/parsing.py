"""Text read by a format that the policy states, as whole numbers, floats, dates or timestamps; null where it isn't so.

A format becomes one regular expression without alternatives to choose from, so a text has one reading or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import I64, Mask
from dpbeam.queries.column_types import ColumnType
from dpbeam.reading.casting import to_type
from dpbeam.reading.expressions.times import US_PER_DAY, US_PER_SECOND, dates, first_day_of_month, timestamps

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

DIRECTIVES: Mapping[str, tuple[str, str, str]] = {
    "%Y": ("year", "[0-9]{4}", "year, four digits"),
    "%m": ("month", "[0-9]{2}", "month, two digits"),
    "%-m": ("month", "[0-9]{1,2}", "month, one or two digits"),
    "%b": ("name", f"(?i:{'|'.join(_MONTHS)})", "month as Jan, Feb, …, in any case"),
    "%d": ("day", "[0-9]{2}", "day of the month, two digits"),
    "%-d": ("day", "[0-9]{1,2}", "day of the month, one or two digits"),
    "%H": ("hour", "[0-9]{2}", "hour from 00 to 23"),
    "%-H": ("hour", "[0-9]{1,2}", "the same, one or two digits"),
    "%I": ("half", "[0-9]{2}", "hour from 01 to 12, with %p"),
    "%-I": ("half", "[0-9]{1,2}", "the same, one or two digits"),
    "%p": ("noon", "(?i:am|pm)", "AM or PM, in any case"),
    "%M": ("minute", "[0-9]{2}", "minute, two digits"),
    "%S": ("second", "[0-9]{2}", "second, two digits"),
    "%f": ("fraction", "[0-9]{1,6}", "digits of a fraction of a second, one to six"),
    "%z": ("zone", "(?:Z|[+-][0-9]{2}:?[0-9]{2})", "Z, or the offset from UTC: +02:00 or +0200"),
    "%%": ("", "%", "a percent sign"),
}
"""What stands for what in a format: the field that it gives, how that is written, and the same in words."""

_DIRECTIVE = re.compile("%-?.|[^%]|%", re.DOTALL)
_DATE_FIELDS = {"year", "month", "name", "day"}


@lru_cache(maxsize=256)
def pattern_of(stated: str, kind: ColumnType) -> str:
    """The regular expression of a format of dates or timestamps, a named group a field.

    Raises:
        ValueError: what is wrong with the format, as words that follow it.
    """
    fields: list[str] = []
    pattern = ""
    for part in _DIRECTIVE.findall(stated):
        if not part.startswith("%"):
            pattern += re.escape(part)
            continue
        if part not in DIRECTIVES:
            raise ValueError(f"has {part}, which stands for nothing; there are {', '.join(DIRECTIVES)}")
        field, written, _ = DIRECTIVES[part]
        if field in fields:
            raise ValueError(f"has {part} where it says the {field} already")
        fields += [field] if field else []
        pattern += f"(?P<{field}>{written})" if field else written
    if not {"year", "day"} <= set(fields) or ("month" in fields) == ("name" in fields):
        raise ValueError("must have a year, a month and a day: %Y, one of %m, %-m and %b, and one of %d and %-d")
    clock = set(fields) - _DATE_FIELDS
    if kind == "date" and clock:
        raise ValueError("must have nothing but a date: a time of day belongs into parse_timestamp")
    if kind == "timestamp" and ("hour" in fields) == ({"half", "noon"} <= set(fields)):
        raise ValueError("must have an hour: %H or %-H, or %I or %-I with %p")
    if ("half" in fields) != ("noon" in fields):
        raise ValueError("must have %p beside %I or %-I, and not without")
    if ("second" in fields and "minute" not in fields) or ("fraction" in fields and "second" not in fields):
        raise ValueError("must have %M where it has %S, and %S where it has %f")
    return rf"\A{pattern}\z"


def mark_findings(decimal: str | None, grouping: str | None) -> str | None:
    """What is wrong with the marks of a number, as words that follow them; None if nothing is."""
    for mark in (decimal, grouping):
        if mark is not None and (len(mark) != 1 or mark.isalnum() or mark in "+-"):
            return "must be one character that is no letter, digit or sign"
    return "must be two different marks" if decimal is not None and decimal == grouping else None


def _parse_int64(texts: pa.Array, grouping: str) -> pa.Array:
    return to_type(_plain(texts, None, grouping), "int64")


def _parse_float64(texts: pa.Array, decimal: str, grouping: str | None = None) -> pa.Array:
    return to_type(_plain(texts, decimal, grouping), "float64")


def _plain(texts: pa.Array, decimal: str | None, grouping: str | None) -> pa.Array:
    """The numbers as `1234.5`, null where text isn't one by these marks."""
    whole = "[0-9]+" if grouping is None else rf"(?:[0-9]+|[0-9]{{1,3}}(?:{re.escape(grouping)}[0-9]{{3}})+)"
    rest = "" if decimal is None else rf"(?:{re.escape(decimal)}[0-9]+)?"
    fits = pc.match_substring_regex(texts, rf"\A[+-]?{whole}{rest}\z").fill_null(False)
    plain = pc.if_else(fits, texts, pa.scalar(None, pa.string()))
    if grouping is not None:
        plain = pc.replace_substring(plain, grouping, "")
    return plain if decimal is None else pc.replace_substring(plain, decimal, ".")


def _parse_date(texts: pa.Array, stated: str) -> pa.Array:
    days, wrong = _days(_Fields(texts, pattern_of(stated, "date")))
    return _without(dates(days), wrong)


def _parse_timestamp(texts: pa.Array, stated: str) -> pa.Array:
    fields = _Fields(texts, pattern_of(stated, "timestamp"))
    days, wrong = _days(fields)
    hour, minute, second = fields.number("hour"), fields.number("minute"), fields.number("second")
    if fields.has("half"):
        half = fields.number("half")
        hour = half % 12 + 12 * fields.place("noon", ("am", "pm"))
        wrong |= (half < 1) | (half > 12)
    wrong |= (hour > 23) | (minute > 59) | (second > 59)
    offset, wrong_zone = fields.zone()
    clock = (hour * 60 + minute - offset) * 60 + second
    moments = days * US_PER_DAY + clock * US_PER_SECOND + fields.fraction()
    return _without(timestamps(moments), wrong | wrong_zone)


def _days(fields: _Fields) -> tuple[I64, Mask]:
    """Days since 1970-01-01, and where there is no such day, or none is stated."""
    year, day = fields.number("year"), fields.number("day")
    month = fields.place("name", _MONTHS) + 1 if fields.has("name") else fields.number("month")
    wrong = fields.absent | (year < 1) | (month < 1) | (month > 12)
    first = first_day_of_month(year, np.where(wrong, 1, month))
    days = first + day - 1
    return days, wrong | (day < 1) | (days >= first_day_of_month(year, np.where(wrong, 1, month) + 1))


def _without(values: pa.Array, wrong: Mask) -> pa.Array:
    return pc.if_else(pa.array(wrong), pa.scalar(None, values.type), values)


class _Fields:
    """What a format's fields say in each text; 0 where a text isn't written so (`absent`), or the format lacks it."""

    def __init__(self, texts: pa.Array, pattern: str) -> None:
        found = pc.extract_regex(texts, pattern)
        self.absent: Mask = found.is_null().to_numpy(zero_copy_only=False)
        names = [found.type.field(place).name for place in range(found.type.num_fields)]
        self._texts = dict(zip(names, found.flatten(), strict=True))

    def has(self, field: str) -> bool:
        return field in self._texts

    def number(self, field: str) -> I64:
        """Digits as a number."""
        if not self.has(field):
            return np.zeros(len(self.absent), dtype=np.int64)
        return self._numbers(self._texts[field])

    def place(self, field: str, words: tuple[str, ...]) -> I64:
        """Which of the words it is, in any case."""
        found = pc.index_in(pc.ascii_lower(self._texts[field]), value_set=pa.array(words))
        places: I64 = found.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
        return places

    def fraction(self) -> I64:
        """Microseconds."""
        if not self.has("fraction"):
            return self.number("fraction")
        return self._numbers(pc.ascii_rpad(self._texts["fraction"], 6, padding="0"))

    def zone(self) -> tuple[I64, Mask]:
        """Minutes ahead of UTC, and where they are a day or more, or more than 59 beside hours."""
        if not self.has("zone"):
            return self.number("zone"), np.zeros(len(self.absent), dtype=np.bool_)
        digits = pc.replace_substring(self._texts["zone"], ":", "")
        hours = self._numbers(pc.utf8_slice_codeunits(digits, 1, 3))
        minutes = self._numbers(pc.utf8_slice_codeunits(digits, 3, 5))
        behind = pc.starts_with(digits, "-").fill_null(False).to_numpy(zero_copy_only=False)
        return np.where(behind, -1, 1) * (hours * 60 + minutes), (hours > 23) | (minutes > 59)

    def _numbers(self, digits: pa.Array) -> I64:
        known = pc.and_not(pc.not_equal(digits, ""), pa.array(self.absent)).fill_null(False)
        numbers: I64 = pc.if_else(known, digits, "0").cast(pa.int64()).to_numpy(zero_copy_only=False)
        return numbers


FORMATTED: Mapping[str, Callable[..., pa.Array]] = {
    "parse_int64": _parse_int64,
    "parse_float64": _parse_float64,
    "parse_date": _parse_date,
    "parse_timestamp": _parse_timestamp,
}
