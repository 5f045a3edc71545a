"""Text from outside (keys, names, paths, flags) as people may safely be shown it: nothing in it is invisible, moves the
cursor, turns the direction of writing, or is taken for markup of a terminal.
"""

from __future__ import annotations

import re
import unicodedata

_DRAWN_AS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What Unicode calls printable though nothing is drawn: joiners of marks, fillers, variation selectors, a blank."""
_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")
"""Spaces of other widths: seen as spaces, but not printable by `str.isprintable`."""
_JOINERS = frozenset("\u200c\u200d\ufe0f")
"""They change how their neighbours are drawn: emoji, and the letters of scripts that join."""
_JOINABLE = frozenset(("So", "Sk", "Lo", "Mn", "Mc"))
_EDGES = re.compile(r"\A +| +\Z")
_LONG_WORD = re.compile(r"\S{300,}")


def visible(text: str) -> str:
    """`text` with what can't be seen made visible: control characters as ␀, ␊ …, all else by its code, as ⟨U+202E⟩.

    Guarantee: no control, surrogate, private or unassigned character is in the result, and no format character but a
    joiner after an emoji or a letter of a script that joins. So no terminal acts on it. Texts that hold none come back
    as they are. Rich markup has to be kept from being read by how it is printed, HTML by escaping.
    """
    if text.isprintable() and not _DRAWN_AS_NOTHING.search(text):
        return text
    return "".join(_shown(text, i) for i in range(len(text)))


def visible_key(text: str) -> str:
    """A key as `visible` text, its spaces at either end as ␠: two keys that differ look different."""
    return _EDGES.sub(lambda match: "\u2420" * len(match.group()), visible(text))


def visible_lines(text: str) -> str:
    """A text of several lines: `visible`, with its line breaks kept."""
    return "\n".join(map(visible, text.split("\n")))


def visible_message(text: str) -> str:
    """A message: `visible_lines`, and what it repeats of 300 characters or more without a space cut in the middle."""
    return visible_lines(_LONG_WORD.sub(lambda match: f"{match[0][:200]}…{match[0][-40:]}", text))


def _shown(text: str, at: int) -> str:
    character = text[at]
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _JOINERS and at and unicodedata.category(text[at - 1]) in _JOINABLE:
        return character
    if character in _SPACES or (character.isprintable() and not _DRAWN_AS_NOTHING.match(character)):
        return character
    return f"\u27e8U+{code:04X}\u27e9"
