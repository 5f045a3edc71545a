"""Text as YAML scalars, on one line whatever is in it."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[A-Za-z][A-Za-z_]*([-/.][A-Za-z0-9_]+)*")
_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "nan", "inf")


def quoted(text: str) -> str:
    """The text as a YAML scalar that is read back as the same text."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else escaped_text(text)


def escaped_text(text: str) -> str:
    """The text in double quotes, on one line. YAML's escapes aren't JSON's beyond U+FFFF: no surrogate pairs."""
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    return char if char.isprintable() and char not in '"\\' else escaped(char)


def escaped(char: str) -> str:
    """A character as YAML has it within double quotes."""
    return json.dumps(char)[1:-1] if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
