"""The functions and operators that an expression of a derived column may use: what they take, and what they give.

A function is looked up by the types of what it is called with, so each call has one type, known before a row is read.
What each computes is in `dpbeam.reading.expressions`, a kernel a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dpbeam.queries.column_types import ColumnType

_S, _I, _F, _B, _D, _T = "string", "int64", "float64", "bool", "date", "timestamp"
ALL_TYPES: tuple[ColumnType, ...] = ("string", "int64", "float64", "bool", "date", "timestamp")


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a function takes and gives. With `repeats`, the last parameter may stand any number of times more."""

    takes: tuple[ColumnType, ...]
    gives: ColumnType
    repeats: bool = False

    def fits(self, types: tuple[ColumnType, ...]) -> bool:
        """Whether arguments of these types are what it takes."""
        return self.padded(len(types)) == types

    def padded(self, count: int) -> tuple[ColumnType, ...]:
        """The types of `count` arguments; of another number where it can't take as many."""
        more = count - len(self.takes)
        return (*self.takes, *self.takes[-1:] * more) if self.repeats and more > 0 else self.takes


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function or operator. `written` shows how, `does` what it gives, and `invalid` where it gives no value.

    `widens` says that a whole number beside a float64 is taken as one. With `stated`, all arguments but the first must
    be written out, since what they say (a format) is checked before a row is read.
    """

    name: str
    written: str
    does: str
    signatures: tuple[Signature, ...]
    invalid: str = ""
    widens: bool = False
    stated: bool = False

    def signature(self, types: tuple[ColumnType, ...]) -> Signature | None:
        """The signature that takes arguments of these types; None if there is none."""
        return next((each for each in self.signatures if each.fits(types)), None)


def _one(takes: str, gives: str) -> Signature:
    """The signature of a line such as `string int64`, of known types."""
    known: Mapping[str, ColumnType] = {kind: kind for kind in ALL_TYPES}
    return Signature(takes=tuple(known[kind] for kind in takes.split()), gives=known[gives])


def _each(kinds: tuple[str, ...], count: int, gives: str | None = None) -> tuple[Signature, ...]:
    return tuple(_one(" ".join([kind] * count), gives or kind) for kind in kinds)


def _many(kinds: tuple[str, ...], count: int, gives: str | None = None) -> tuple[Signature, ...]:
    """As `_each`, with any number of arguments from `count` on."""
    return tuple(Signature(takes=each.takes, gives=each.gives, repeats=True) for each in _each(kinds, count, gives))


_NUMBERS = (_I, _F)
_ORDERED = (_S, _I, _F, _D, _T)
_OVERFLOW = "beyond int64 or float64"

_OPERATORS = (
    Function(
        name="add",
        written="x + y",
        does="sum",
        signatures=_each(_NUMBERS, 2),
        invalid=_OVERFLOW,
        widens=True,
    ),
    Function(
        name="subtract",
        written="x - y",
        does="difference",
        signatures=_each(_NUMBERS, 2),
        invalid=_OVERFLOW,
        widens=True,
    ),
    Function(
        name="multiply",
        written="x * y",
        does="product",
        signatures=_each(_NUMBERS, 2),
        invalid=_OVERFLOW,
        widens=True,
    ),
    Function(
        name="divide",
        written="x / y",
        does="quotient, always a float64",
        signatures=_each((_F,), 2),
        invalid="y is 0; beyond float64",
        widens=True,
    ),
    Function(
        name="floor_divide",
        written="x // y",
        does="quotient rounded down",
        signatures=_each((_I,), 2),
        invalid="y is 0; beyond int64",
    ),
    Function(
        name="modulo",
        written="x % y",
        does="x - y * (x // y): of the sign of y",
        signatures=_each((_I,), 2),
        invalid="y is 0",
    ),
    Function(name="negate", written="-x", does="negative", signatures=_each(_NUMBERS, 1), invalid="beyond int64"),
    Function(name="equal", written="x == y", does="equal", signatures=_each(ALL_TYPES, 2, _B), widens=True),
    Function(name="not_equal", written="x != y", does="different", signatures=_each(ALL_TYPES, 2, _B), widens=True),
    Function(name="less", written="x < y", does="less", signatures=_each(_ORDERED, 2, _B), widens=True),
    Function(name="less_equal", written="x <= y", does="less or equal", signatures=_each(_ORDERED, 2, _B), widens=True),
    Function(name="greater", written="x > y", does="greater", signatures=_each(_ORDERED, 2, _B), widens=True),
    Function(
        name="greater_equal",
        written="x >= y",
        does="greater or equal",
        signatures=_each(_ORDERED, 2, _B),
        widens=True,
    ),
    Function(
        name="in",
        written="x in (y, …)",
        does="one of the values; not in: none of them",
        signatures=_many((_S, _I, _F, _D, _T), 2, _B),
        widens=True,
    ),
    Function(
        name="and",
        written="x and y",
        does="both; false beside anything is false",
        signatures=_each((_B,), 2),
    ),
    Function(
        name="or",
        written="x or y",
        does="either; true beside anything is true",
        signatures=_each((_B,), 2),
    ),
    Function(name="not", written="not x", does="the opposite", signatures=_each((_B,), 1)),
)
_CHOICES = (
    Function(
        name="coalesce",
        written="coalesce(x, y, …)",
        does="the first that isn't missing",
        signatures=_many(ALL_TYPES, 2),
        widens=True,
    ),
    Function(name="try", written="try(x)", does="x; missing where x is invalid", signatures=_each(ALL_TYPES, 1)),
    Function(
        name="nullif",
        written="nullif(x, y)",
        does="x; missing where x == y",
        signatures=_each(ALL_TYPES, 2),
        widens=True,
    ),
    Function(name="least", written="least(x, y, …)", does="the least", signatures=_many(_ORDERED, 2), widens=True),
    Function(
        name="greatest",
        written="greatest(x, y, …)",
        does="the greatest",
        signatures=_many(_ORDERED, 2),
        widens=True,
    ),
)
_ON_NUMBERS = (
    Function(
        name="abs", written="abs(x)", does="without its sign", signatures=_each(_NUMBERS, 1), invalid="beyond int64"
    ),
    Function(
        name="floor", written="floor(x)", does="rounded down", signatures=_each((_F,), 1, _I), invalid="beyond int64"
    ),
    Function(name="ceil", written="ceil(x)", does="rounded up", signatures=_each((_F,), 1, _I), invalid="beyond int64"),
    Function(
        name="round",
        written="round(x)",
        does="the nearest whole number; of two the even one",
        signatures=_each((_F,), 1, _I),
        invalid="beyond int64",
    ),
)
_ON_TEXT = (
    Function(
        name="trim",
        written="trim(s)",
        does="without white space at either end",
        signatures=_each((_S,), 1),
    ),
    Function(
        name="upper",
        written="upper(s)",
        does="in capital letters, one for one",
        signatures=_each((_S,), 1),
    ),
    Function(
        name="lower",
        written="lower(s)",
        does="in small letters, one for one",
        signatures=_each((_S,), 1),
    ),
    Function(
        name="concat",
        written="concat(s, t, …)",
        does="one after another",
        signatures=_many((_S,), 2),
        invalid="longer than 1 MiB",
    ),
    Function(name="length", written="length(s)", does="number of code points", signatures=_each((_S,), 1, _I)),
    Function(
        name="left",
        written="left(s, 3)",
        does="the first code points",
        signatures=(_one("string int64", _S),),
        stated=True,
    ),
    Function(
        name="right",
        written="right(s, 3)",
        does="the last code points",
        signatures=(_one("string int64", _S),),
        stated=True,
    ),
    Function(
        name="starts_with",
        written="starts_with(s, 'ab')",
        does="begins so",
        signatures=(_one("string string", _B),),
        stated=True,
    ),
    Function(
        name="ends_with",
        written="ends_with(s, 'ab')",
        does="ends so",
        signatures=(_one("string string", _B),),
        stated=True,
    ),
    Function(
        name="contains",
        written="contains(s, 'ab')",
        does="has it somewhere",
        signatures=(_one("string string", _B),),
        stated=True,
    ),
)


def _part(name: str, does: str, kinds: tuple[str, ...] = (_D, _T)) -> Function:
    return Function(name=name, written=f"{name}(d)", does=does, signatures=_each(kinds, 1, _I))


def _between(name: str, does: str, kinds: tuple[str, ...] = (_T,)) -> Function:
    return Function(name=name, written=f"{name}(d, e)", does=does, signatures=_each(kinds, 2, _I))


_ON_TIME = (
    _part("year", "1 to 9999"),
    _part("quarter", "1 to 4"),
    _part("month", "1 to 12"),
    _part("week", "ISO 8601 week, 1 to 53"),
    _part("iso_year", "the year that the ISO week belongs to"),
    _part("day", "day of the month, 1 to 31"),
    _part("weekday", "1 (Monday) to 7 (Sunday)"),
    _part("day_of_year", "1 to 366"),
    _part("hour", "0 to 23", (_T,)),
    _part("minute", "0 to 59", (_T,)),
    _part("second", "0 to 59", (_T,)),
    _between("days_between", "whole days from d to e, rounded down", (_D, _T)),
    _between("hours_between", "whole hours from d to e, rounded down"),
    _between("minutes_between", "whole minutes from d to e, rounded down"),
    _between("seconds_between", "whole seconds from d to e, rounded down"),
    Function(
        name="add_days",
        written="add_days(d, n)",
        does="n days later",
        signatures=(_one("date int64", _D), _one("timestamp int64", _T)),
        invalid="beyond the years 1 to 9999",
    ),
)
_CONVERSIONS = (
    Function(
        name="string",
        written="string(x)",
        does="as text: `-12`, `true`, `2024-05-01`",
        signatures=(_one(_I, _S), _one(_B, _S), _one(_D, _S)),
    ),
    Function(
        name="int64",
        written="int64(x)",
        does="as a whole number, as a CSV file is read",
        signatures=(_one(_S, _I), _one(_F, _I), _one(_B, _I)),
        invalid="isn't one",
    ),
    Function(
        name="float64",
        written="float64(x)",
        does="as a number, as a CSV file is read; of a whole number the nearest",
        signatures=(_one(_S, _F), _one(_I, _F)),
        invalid="isn't one, or isn't finite",
    ),
    Function(
        name="bool",
        written="bool(s)",
        does="as a CSV file is read",
        signatures=(_one(_S, _B),),
        invalid="isn't one",
    ),
    Function(
        name="date",
        written="date(x)",
        does="as a CSV file is read; of a timestamp its day in UTC",
        signatures=(_one(_S, _D), _one(_T, _D)),
        invalid="isn't one",
    ),
    Function(
        name="timestamp",
        written="timestamp(x)",
        does="as a CSV file is read; of a date its midnight in UTC",
        signatures=(_one(_S, _T), _one(_D, _T)),
        invalid="isn't one",
    ),
    Function(
        name="parse_int64",
        written="parse_int64(s, ',')",
        does="a whole number whose digits stand in groups of three, or in none",
        signatures=(_one("string string", _I),),
        invalid="isn't one",
        stated=True,
    ),
    Function(
        name="parse_float64",
        written="parse_float64(s, ',', '.')",
        does="a number with this decimal mark and, if it is stated, this mark between groups of three digits",
        signatures=(_one("string string", _F), _one("string string string", _F)),
        invalid="isn't one",
        stated=True,
    ),
    Function(
        name="parse_date",
        written="parse_date(s, '%d.%m.%Y')",
        does="a date written so",
        signatures=(_one("string string", _D),),
        invalid="isn't one",
        stated=True,
    ),
    Function(
        name="parse_timestamp",
        written="parse_timestamp(s, '%d.%m.%Y %H:%M')",
        does="a time written so, in UTC unless it says its zone",
        signatures=(_one("string string", _T),),
        invalid="isn't one",
        stated=True,
    ),
)

FUNCTIONS: Mapping[str, Function] = {
    each.name: each for each in (*_OPERATORS, *_CHOICES, *_ON_NUMBERS, *_ON_TEXT, *_ON_TIME, *_CONVERSIONS)
}
"""All of them, by name, in the order in which they are told to people."""


def called_by_name() -> Iterator[str]:
    """The names that may stand before a parenthesis; operators have signs."""
    return (each.name for each in FUNCTIONS.values() if each.written.startswith(each.name + "("))
