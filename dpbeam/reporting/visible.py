"""Text from outside (keys, names, paths, flags) as people may safely be shown it: nothing in it is invisible, moves the
cursor, turns the direction of writing, or is taken for markup of a terminal.
"""

from __future__ import annotations

import re
import unicodedata

_DRAWN_AS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
"""What Unicode calls printable though nothing is drawn: joiners of marks, fillers, variation selectors, blanks."""
_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")
"""Spaces of other widths: seen as spaces, but not printable by `str.isprintable`."""
_JOINERS = frozenset("\u200c\u200d")
"""They change how the letters on both sides are drawn, in scripts that join, and make one emoji of two."""
_EMOJI_STYLE = "\ufe0f"
_MORE_EMOJI = re.compile("[\u2190-\u21ff\U0001f3fb-\U0001f3ff]")
_NO_EMOJI = re.compile("[\u2400-\u2426\u2800\U0001d159]?")
_KEYCAP = re.compile("[0-9#*]\u20e3")
_SCRIPTS_THAT_JOIN = re.compile("[\u0600-\u1fff\ua800-\uabff\U00010a00-\U00011fff]")
_EDGES = re.compile(rf"\A[ {''.join(_SPACES)}]+|[ {''.join(_SPACES)}]+\Z")
_LONG_WORD = re.compile(r"\S{300,}")
_LONG_MESSAGE_CHARS = 3000


def visible(text: str) -> str:
    """`text` with what can't be seen made visible: control characters as ␀, ␊ …, all else by its code, as ⟨U+202E⟩.

    Guarantee: no line break, control, surrogate, private or unassigned character is in the result, and no format
    character but a joiner between two emoji or two letters of scripts that join. So no terminal acts on it. Texts that
    hold none come back as they are, and so does the result. Rich markup has to be kept from being read by how it is
    printed, HTML by escaping.
    """
    if text.isprintable() and not _DRAWN_AS_NOTHING.search(text):
        return text
    shown: list[str] = []
    before = ""
    for i, character in enumerate(text):
        shown.append(_shown(character, before, text[i + 1 : i + 2]))
        before = shown[-1][-1]
    return "".join(shown)


def visible_key(text: str) -> str:
    """A key as `visible` text, its spaces at either end too: ␠, and those of other widths by their code."""
    return _EDGES.sub(lambda match: "".join("\u2420" if c == " " else _code(c) for c in match[0]), visible(text))


def visible_lines(text: str) -> str:
    """A text that was laid out in lines: `visible`, with its line breaks kept."""
    return "\n".join(map(visible, text.split("\n")))


def visible_message(text: str) -> str:
    """One line of a message, `visible`; what it repeats at great length is cut in the middle."""
    cut = _LONG_WORD.sub(lambda match: f"{match[0][:200]}…{match[0][-40:]}", text)
    most = _LONG_MESSAGE_CHARS
    return visible(cut if len(cut) <= most else f"{cut[: most - 501]}…{cut[-500:]}")


def _shown(character: str, before: str, after: str) -> str:
    """`before` is what was shown last, `after` what comes next; empty at the ends."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _JOINERS and (_joins(before) or before == _EMOJI_STYLE) and _joins(after):
        return character
    if character == _EMOJI_STYLE and (_is_emoji(before) or _KEYCAP.fullmatch(before + after)):
        return character
    if character in _SPACES or (character.isprintable() and not _DRAWN_AS_NOTHING.match(character)):
        return character
    return _code(character)


def _joins(character: str) -> bool:
    return _is_emoji(character) or bool(
        _SCRIPTS_THAT_JOIN.match(character)
        and unicodedata.category(character) in ("Lo", "Mn", "Mc")
        and not _DRAWN_AS_NOTHING.match(character)
    )


def _is_emoji(character: str) -> bool:
    """Whether it is a symbol that may be an emoji, or one that changes an emoji's skin."""
    if _NO_EMOJI.fullmatch(character):
        return False
    return unicodedata.category(character) == "So" or _MORE_EMOJI.match(character) is not None


def _code(character: str) -> str:
    return f"\u27e8U+{ord(character):04X}\u27e9"
