"""Parts and differences of dates and of timestamps in UTC, by whole-number arithmetic of the Gregorian calendar."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from dpbeam.array_types import I64
from dpbeam.reading.casting import FIRST_DAY, LAST_DAY
from dpbeam.reading.expressions.numbers import ints

US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND


def days_of(values: pa.Array) -> I64:
    """Days since 1970-01-01, 0 where there is no value."""
    if pa.types.is_date(values.type):
        return ints(values.cast(pa.int32()).cast(pa.int64()))
    return moments_of(values) // US_PER_DAY


def moments_of(values: pa.Array) -> I64:
    """Microseconds since 1970-01-01T00:00 UTC, 0 where there is no value."""
    return ints(values.cast(pa.int64()))


def dates(days: I64) -> pa.Array:
    """Days since 1970-01-01 as dates; null outside the years 1 to 9999."""
    inside = (days >= FIRST_DAY) & (days <= LAST_DAY)
    return pa.array(np.where(inside, days, 0).astype(np.int32), mask=~inside).cast(pa.date32())


def timestamps(moments: I64) -> pa.Array:
    """Microseconds since 1970-01-01T00:00 UTC as timestamps; null outside the years 1 to 9999."""
    inside = (moments >= FIRST_DAY * US_PER_DAY) & (moments < (LAST_DAY + 1) * US_PER_DAY)
    return pa.array(np.where(inside, moments, 0), mask=~inside).cast(pa.timestamp("us"))


def first_day_of_month(years: I64, months: I64) -> I64:
    """The day since 1970-01-01 on which a month (1 to 12; 13 for the next January) begins.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`: years begin in March.
    """
    years, months = years + (months - 1) // 12, (months - 1) % 12 + 1
    shifted = years - (months <= 2)
    era, of_era = shifted // 400, shifted % 400
    of_year = (153 * ((months + 9) % 12) + 2) // 5
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _years(days: I64) -> I64:
    return _months(days) // 12


def _months(days: I64) -> I64:
    """Months since January of the year 0."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) + 1970 * 12


def _weekday(days: I64) -> I64:
    return (days + 3) % 7 + 1


def _thursday(days: I64) -> I64:
    """The Thursday of the same week, whose year is that of the week (ISO 8601)."""
    return days - _weekday(days) + 4


def _day_of_year(days: I64) -> I64:
    return days - first_day_of_month(_years(days), np.ones_like(days)) + 1


def _day(days: I64) -> I64:
    months = _months(days)
    return days - first_day_of_month(months // 12, months % 12 + 1) + 1


def _part(of_days: Callable[[I64], I64]) -> Callable[[pa.Array], pa.Array]:
    return lambda values: pa.array(of_days(days_of(values)))


def _clock(unit_s: int, count: int) -> Callable[[pa.Array], pa.Array]:
    return lambda values: pa.array(moments_of(values) // (unit_s * US_PER_SECOND) % count)


def _whole_units(unit_s: int) -> Callable[[pa.Array, pa.Array], pa.Array]:
    def kernel(start: pa.Array, end: pa.Array) -> pa.Array:
        if pa.types.is_date(start.type):
            return pa.array(days_of(end) - days_of(start))
        return pa.array((moments_of(end) - moments_of(start)) // (unit_s * US_PER_SECOND))

    return kernel


def _add_days(values: pa.Array, count: pa.Array) -> pa.Array:
    # Beyond these limits the sum is outside the years 1 to 9999 too, and within them nothing wraps.
    more = np.clip(ints(count), -10_000_000, 10_000_000)
    if pa.types.is_date(values.type):
        return dates(days_of(values) + more)
    return timestamps(moments_of(values) + more * US_PER_DAY)


KERNELS: Mapping[str, Callable[..., pa.Array]] = {
    "year": _part(_years),
    "quarter": _part(lambda days: _months(days) % 12 // 3 + 1),
    "month": _part(lambda days: _months(days) % 12 + 1),
    "week": _part(lambda days: (_day_of_year(_thursday(days)) - 1) // 7 + 1),
    "iso_year": _part(lambda days: _years(_thursday(days))),
    "day": _part(_day),
    "weekday": _part(_weekday),
    "day_of_year": _part(_day_of_year),
    "hour": _clock(3600, 24),
    "minute": _clock(60, 60),
    "second": _clock(1, 60),
    "days_between": _whole_units(86_400),
    "hours_between": _whole_units(3600),
    "minutes_between": _whole_units(60),
    "seconds_between": _whole_units(1),
    "add_days": _add_days,
}
