"""What is wrong with a policy, said to the person who wrote it: each violation with its place, rule and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dpbeam.errors import UsageError

Key = tuple[str | int, ...]

MAX_VALUE_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule. `key` is dotted (`stages[0].bounds.l0`; empty for the file as a whole), `line` counts from 1.

    `value` is the `repr` of what the policy says there, cut at 60 characters, or None where it says nothing. `column`
    counts characters of the line from 1, where the place within a value is known.
    """

    file: str
    line: int | None
    key: str
    value: str | None
    rule: str
    remedy: str
    column: int | None = None

    @property
    def lines(self) -> tuple[str, str]:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        subject = f"{self.key or 'the policy'} {self.rule}"
        got = "" if self.value is None else f", got {self.value}"
        return f"{place}: {subject}{got}", f"    Remedy: {self.remedy}"

    def __str__(self) -> str:
        return "\n".join(self.lines)


class PolicyError(UsageError):
    """A policy that can't be used. `violations` holds all that is wrong with it, in the order of the file."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__(*(line for violation in self.violations for line in violation.lines))

    def to_json(self) -> dict[str, Any]:
        rules, remedies = [each.lines[0] for each in self.violations], [each.remedy for each in self.violations]
        return super().to_json() | {"message": "\n".join(rules), "remedy": "\n".join(remedies)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A violation before it has a place: the key as a path, the value as it is (`ABSENT` where there is none).

    `line` is set only where the key's own line isn't the one to show; `offset` where a character of its text is meant.
    """

    key: Key
    rule: str
    remedy: str
    value: object
    line: int | None = None
    offset: int | None = None


class Absent:
    """Stands for a key that the policy doesn't have."""


ABSENT = Absent()


def dotted(key: Key) -> str:
    """`('stages', 0, 'bounds', 'l0')` as `stages[0].bounds.l0`; odd names are quoted."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]{1,255}", part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def shown(value: object) -> str:
    """The value as a message shows it: its `repr`, cut at 60 characters; a mapping only by its kind."""
    if isinstance(value, dict):
        return "a mapping"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**MAX_VALUE_CHARS:
        return "a number of over 60 digits"
    text = repr(value[:10] if isinstance(value, list) else value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def closest(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" with its leading space, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6) if len(word) > 2 else []
    return f" Did you mean {close[0]!r}?" if close else ""
