"""What a pattern of files stands for, as Beam reads it: `*` stops at a slash, `**` does not, `[…]` is one of a set."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=1000)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a whole path is one that `pattern` stands for."""
    regex, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        # The first character of a set may be ! or ] and stand for itself or for "none of".
        closing = pattern.find("]", at + (3 if pattern[at + 1 : at + 2] == "!" else 2)) if char == "[" else -1
        if pattern.startswith("**", at):
            regex, at = regex + ".*", at + 2
        elif closing > 0:
            regex, at = regex + _set(pattern[at + 1 : closing]), closing + 1
        else:
            regex, at = regex + {"*": r"[^/\\]*", "?": "."}.get(char, re.escape(char)), at + 1
    try:
        compiled = re.compile(regex, re.DOTALL)
    except re.error:  # a set such as [z-a], which matches nothing
        return lambda _: False
    return lambda path: compiled.fullmatch(path) is not None


def _set(inside: str) -> str:
    """Each character stands for itself, but for the - of a range: Python may come to read [[, --, &&, ~~ and || as sets
    within sets, and warns of them."""
    negation = "^" if inside[0] == "!" else ""
    ends = re.compile("(.)(?:-(.))?", re.DOTALL).findall(inside[len(negation) :])
    return f"[{negation}{''.join(re.escape(low) + (f'-{re.escape(high)}' if high else '') for low, high in ends)}]"
