"""A CSV file's first line, before a policy says how to read it: by what it is cut, and whether it holds names.

Guarantee: nothing but the first line is looked at, and of a line that may hold values nothing is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dpbeam.errors import UsageError

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}

_QUOTED = re.compile(rb'"(?:[^"]|"")*"')
_VALUES = re.compile(
    r"""\s*(
    [+-]?[0-9]+([.,:/ -][0-9]+)*([eE][+-]?[0-9]+)?([.,][0-9]+)?   # a number, a date, a time, a telephone number
    | [0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*
    | [^@\s]+@[^@\s]+\.[^@\s]+                                  # an address
    | [0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}          # a UUID
    | [0-9a-fA-F]{16,}                                          # a hash
    )\s*""",
    re.VERBOSE,
)
"""What hardly ever is a column's name."""


def delimiter_of(line: bytes, path: str) -> str:
    """What cuts the line into most names; a comma where nothing cuts it.

    Raises:
        UsageError: several could be meant.
    """
    unquoted = _QUOTED.sub(b"", line)
    cuts = {mark: 1 + unquoted.count(mark.encode()) for mark in DELIMITERS}
    found = sorted((mark for mark, count in cuts.items() if count > 1), key=lambda mark: -cuts[mark])
    if len(found) > 1 and cuts[found[0]] < 2 * cuts[found[1]]:
        could = " or ".join(DELIMITERS[mark] for mark in found)
        raise UsageError(f"{path}: its first line can be cut at {could}; say which by --delimiter")
    return found[0] if found else ","


def check_names(names: Sequence[str], path: str) -> None:
    """Refuses a first line that looks like a row: a policy has the names in it, and travels.

    Raises:
        UsageError: some name looks like a value. It isn't shown.
    """
    if any(_VALUES.fullmatch(name) for name in names):
        raise UsageError(
            f"{path} seems to have no header: its first line has what looks like values (numbers, dates, addresses), "
            "and a policy would show them. Put a line of column names on top of the file; if that is what these are, "
            "say --header"
        )
