"""Whether a scalar in a policy is a value of a column's type."""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, timezone

from dpbeam.queries.column_types import ColumnType, Scalar

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

DESCRIPTIONS: dict[ColumnType, str] = {
    "string": "text",
    "int64": "a whole number within int64",
    "float64": "a finite number",
    "bool": "true or false",
    "date": "a date as YYYY-MM-DD",
    "timestamp": "a time as YYYY-MM-DD HH:MM[:SS[.ffffff]], with Z or ±HH:MM if it isn't UTC",
}

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2})?(?:\.(\d{1,6}))?(Z|[+-]\d{2}:\d{2})?", re.ASCII)


def suits(value: object, column_type: ColumnType) -> bool:
    """Whether the value is one of the column's type, as it may stand in a policy: never null, never NaN."""
    match column_type:
        case "string":
            return isinstance(value, str)
        case "int64":
            return isinstance(value, int) and not isinstance(value, bool) and INT64_MIN <= value <= INT64_MAX
        case "float64":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return abs(value) <= sys.float_info.max  # also of integers too large for a float; false for NaN
        case "bool":
            return isinstance(value, bool)
        case "date":
            return isinstance(value, str) and _parse_date(value) is not None
        case "timestamp":
            return isinstance(value, str) and _parse_timestamp(value) is not None
    raise ValueError(f"unknown column type {column_type!r}")


def canonical(value: Scalar, column_type: ColumnType) -> Scalar:
    """The one way to write the value: floats as float, times as `YYYY-MM-DDTHH:MM:SS[.ffffff]` in UTC without zone.

    Raises:
        ValueError: the value doesn't suit the type.
    """
    if not suits(value, column_type):
        raise ValueError(f"must be {DESCRIPTIONS[column_type]}, got {value!r}")
    if column_type == "float64":
        return float(value)
    if column_type == "timestamp" and (moment := _parse_timestamp(str(value))) is not None:
        return moment.isoformat()
    return value


def to_python(value: Scalar, column_type: ColumnType) -> object:
    """The value as pyarrow takes it for `casting.ARROW_TYPES[column_type]`; it must suit the type."""
    if column_type == "date":
        return _parse_date(str(value))
    return _parse_timestamp(str(value)) if column_type == "timestamp" else value


def _parse_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _parse_timestamp(text: str) -> datetime | None:
    match = _TIME.fullmatch(text)
    if match is None or (match[4] and not match[3]):
        return None
    day, minute, second, fraction, zone = match.groups()
    iso = f"{day}T{minute}{second or ':00'}.{(fraction or '').ljust(6, '0')}"
    try:
        moment = datetime.fromisoformat(iso + ("" if zone is None else zone.replace("Z", "+00:00")))
        return moment if zone is None else moment.astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
