"""Privacy ids and partition keys of people's Python code as text, one for one, which our kernels group by.

Only values of types whose equality is their content's, in every process, are taken: str, int, bool, float, bytes, None,
UUID, date, datetime without a time zone, and tuples of these, and NumPy's scalars of the first kinds as their Python
equals. All else is refused by its type's
name: the encoding of a class of the job's own may hold sets in that process's hash order, and a subclass (an IntEnum, a
named tuple) equals values that it isn't told apart from, or is.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any
from uuid import UUID

import numpy as np

from dpbeam.errors import RunFailed

MAX_DEPTH = 16
"""Of tuples within tuples."""

_SCALARS = (np.bool_, np.integer, np.floating, np.str_, np.bytes_)


class NotAKey(TypeError):
    """A value of a type that isn't taken; its text names the type, never the value."""


def key_text(value: Any) -> str | None:
    """Text that no other partition key has; None for a key that is none: None itself, or NaN or infinite anywhere.

    Guarantee: two keys have one text if and only if they are of one type and equal (0.0 and -0.0 are), part by part; in
    every process, for the text is of the value's content alone.

    Raises:
        NotAKey: the value, or a part of it, is of another type, or text that Beam and Arrow can't encode.
    """
    kind = type(value)
    if kind is str and value.isascii():
        return f"s{value}"
    if kind is int:
        return f"i{value:x}"
    return None if value is None else _text(value, 0, numbers_equal=False)


def unit_text(value: Any) -> str | None:
    """As `key_text`, for a privacy id: numbers that Python calls equal (1, 1.0, True) are one.

    Guarantee: two ids have one text if and only if Python calls them equal, NumPy's scalars as their `item()`. So one
    unit is one unit, however its rows write it; and units that are told apart differ in content.
    """
    kind = type(value)
    if kind is str and value.isascii():
        return f"s{value}"
    if kind is int:
        return f"i{value:x}"
    return None if value is None else _text(value, 0, numbers_equal=True)


def from_text(text: str) -> Any:
    """The key that `key_text` made this text from, NumPy's scalars as their Python equals, -0.0 as 0.0, a
    datetime with fold 0."""
    rest = text[1:]
    match text[:1]:
        case "s":
            return rest
        case "i":
            return int(rest, 16)
        case "n":
            return None
        case "?":
            return rest == "1"
        case "f":
            return float.fromhex(rest)
        case "b":
            return bytes.fromhex(rest)
        case "u":
            return UUID(hex=rest)
        case "d":
            return date.fromisoformat(rest)
        case "D":
            return datetime.fromisoformat(rest)
        case "t":
            return tuple(map(from_text, _parts(rest)))
    raise RunFailed("a partition key came back as none that was sent; nothing can be released")


def _text(value: Any, depth: int, *, numbers_equal: bool) -> str | None:
    if not isinstance(value, np.timedelta64) and isinstance(value, _SCALARS):  # an np.integer, whose item() is an int
        # Of text, NumPy's item() leaves out NULs at the end.
        value = value[:] if isinstance(value, np.str_ | np.bytes_) else value.item()
    kind = type(value)
    if kind is str:
        return _str_text(value)
    if kind is int:
        return f"i{value:x}"
    if kind is bool:
        return f"i{value:x}" if numbers_equal else f"?{value:d}"
    if kind is float:
        return _float_text(value, numbers_equal=numbers_equal)
    if value is None:
        return "n"
    if kind is bytes:
        return f"b{value.hex()}"
    if kind is UUID:
        return f"u{value.hex}"
    if kind is tuple:
        return _tuple_text(value, depth, numbers_equal=numbers_equal)
    if kind is date:
        return f"d{value.isoformat()}"
    if kind is datetime:
        return _datetime_text(value)
    raise NotAKey(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))


def _str_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        broken = True  # left before raising: the error's own text quotes the character
    else:
        broken = False
    if broken:
        raise NotAKey("text with a lone surrogate")
    return f"s{value}"


def _float_text(value: float, *, numbers_equal: bool) -> str | None:
    if not math.isfinite(value):
        return None
    if numbers_equal and value.is_integer():
        return f"i{int(value):x}"
    return f"f{(value + 0.0).hex()}"  # -0.0 + 0.0 is 0.0


def _datetime_text(value: datetime) -> str:
    """Without `fold`, which Python leaves out of account as well where there is no time zone."""
    if value.tzinfo is not None:  # one moment has many, which Python calls equal
        raise NotAKey("datetime.datetime with a time zone")
    return f"D{value.isoformat()}"


def _tuple_text(value: tuple[Any, ...], depth: int, *, numbers_equal: bool) -> str | None:
    if depth == MAX_DEPTH:
        raise NotAKey(f"tuples nested more than {MAX_DEPTH} deep")
    parts = []
    for part in value:
        text = _text(part, depth + 1, numbers_equal=numbers_equal)
        if text is None:
            return None
        parts.append(f"{len(text)}:{text}")
    return f"t{''.join(parts)}"


def _parts(text: str) -> list[str]:
    texts = []
    while text:
        length, _, text = text.partition(":")
        texts.append(text[: int(length)])
        text = text[int(length) :]
    return texts
