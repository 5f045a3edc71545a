"""A policy file as plain values, with the line of every key and all that is wrong with the YAML itself.

Scalars follow YAML 1.2's core schema: `1e-6` is a number, only `true` and `false` are booleans (`NO` is Norway),
dates are text. Numbers with leading zeros are text, for they are mostly postcodes and ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dpbeam.policy.violations import ABSENT, Finding, Key, PolicyError, Violation

MAX_BYTES = 1_000_000
MAX_NODES = 200_000
MAX_DEPTH = 50

_EXPRESSIONS = ("derive",)
"""The key below which texts have places in them that messages name."""
_INDENT = re.compile(r"^( *)[^ \r\n]", re.MULTILINE)
_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,4000})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """The parsed file: `data` as dicts, lists and scalars, `lines` from key path to line, `findings` in the YAML."""

    file: str
    data: Any
    lines: dict[Key, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    texts: dict[Key, Written] = field(default_factory=dict)

    def line(self, key: Key) -> int | None:
        """The line of the key, or of the nearest key above it."""
        for end in range(len(key), -1, -1):
            if (line := self.lines.get(key[:end])) is not None:
                return line
        return None

    def place(self, key: Key, offset: int) -> tuple[int, int] | None:
        """Line and column, from 1, of a character of the text at the key; None where the file writes it otherwise than
        it reads (escapes, folded lines), or there is no file."""
        written = self.texts.get(key)
        return None if written is None else written.place(offset)


@dataclass(frozen=True, kw_only=True)
class Written:
    """Text as it stands in the file: from `line` and `column` (from 0), with `indent` blanks before further lines."""

    line: int
    column: int
    indent: int
    value: str

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character of `value`."""
        before = self.value[:offset]
        lines = before.count("\n")
        column = len(before) - (before.rfind("\n") + 1)
        return self.line + lines + 1, column + (self.indent if lines else self.column) + 1


def read_yaml(path: Path) -> Document:
    """Reads one YAML document whose root is a mapping.

    Raises:
        PolicyError: the file can't be read, is over 1 MB, isn't UTF-8, isn't YAML, or isn't a mapping.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, file: str) -> Document:
    """What `read_yaml` makes of a file's text; errors call it `file`.

    Raises:
        PolicyError: it isn't YAML, or isn't a mapping.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise _unusable(file, line, f"is not valid YAML: {error.problem or error.context}", _YAML_REMEDY) from None
    except RecursionError:
        raise _unusable(file, None, _DEPTH_RULE, _DEPTH_REMEDY) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        # PyYAML lets some plain Python errors escape on malformed input, such as chr() of an escape out of range.
        raise _unusable(
            file, None, "is not valid YAML: it holds characters that YAML doesn't allow", _YAML_REMEDY
        ) from None
    if not isinstance(root, yaml.MappingNode):
        kind = "is empty" if root is None else "is not a mapping"
        raise _unusable(file, 1, f"must hold a mapping of keys such as version, dataset and stages; it {kind}", _START)
    document = Document(file=file, data={}, lines={(): root.start_mark.line + 1})
    document.data.update(_Walker(document, text).mapping(root, ()))
    return document


_YAML_REMEDY = "Correct the syntax there; text with any of : # { } [ ] , & * ? | > ' \" % @ ` needs quotes."
_DEPTH_RULE, _DEPTH_REMEDY = f"must not nest deeper than {MAX_DEPTH} levels", "Flatten the file; remove alias loops."
_START = "Start from the file that `dpbeam init DATA` writes."
_ALIASES = "Put a long list of partitions into a file and name it in partitions.public.file."


def read_text(path: Path) -> str:
    """The file's text. Raises PolicyError: it can't be read, is over 1 MB, or isn't UTF-8."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unusable(
            file, None, "does not exist", "Check the path; `dpbeam init DATA` writes a first policy."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise _unusable(file, None, f"can't be read: {reason}", "Name a readable file.") from None
    if len(raw) > MAX_BYTES:
        raise _unusable(file, None, f"must not be larger than {MAX_BYTES:,} bytes", _ALIASES)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _unusable(file, line, "must be text in UTF-8", "Save the file as UTF-8.") from None


def _unusable(file: str, line: int | None, rule: str, remedy: str) -> PolicyError:
    return PolicyError([Violation(file=file, line=line, key="", value=None, rule=rule, remedy=remedy)])


@dataclass
class _Walker:
    """Turns nodes into values, noting lines and findings; refuses alias bombs and loops."""

    document: Document
    text: str
    nodes: int = 0

    def value(self, node: Any, key: Key) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            rule = f"must not hold more than {MAX_NODES:,} values, aliases counted each time"
            raise _unusable(self.document.file, None, rule, _ALIASES)
        if len(key) > MAX_DEPTH:
            raise _unusable(self.document.file, None, _DEPTH_RULE, _DEPTH_REMEDY)
        if node.tag not in _TAGS:
            self._find(key, "must not carry a YAML tag", "Remove the tag.", node.tag)
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(child, (*key, index)) for index, child in enumerate(node.value)]
        if any("\ud800" <= char <= "\udfff" for char in node.value):
            self._find(key, "must be valid Unicode text", "Remove the lone surrogate escape.")
            return None
        if key[:1] == _EXPRESSIONS and (written := _written(node, self.text)) is not None:
            self.document.texts[key] = written
        return _plain(node.value) if node.style is None else node.value

    def mapping(self, node: Any, key: Key) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for name_node, child in node.value:
            line = name_node.start_mark.line + 1
            name = self.value(name_node, key) if isinstance(name_node, yaml.ScalarNode) else None
            if not isinstance(name, str):
                shown_name = name if isinstance(name_node, yaml.ScalarNode) else ABSENT
                self._find(key, "must not have a key that isn't text", "Put the key in quotes.", shown_name, line)
            elif name in entries:
                first = self.document.lines[(*key, name)]
                rule = f"must stand only once; it stands in line {first} too"
                self._find((*key, name), rule, "Keep one of the two.", ABSENT, line)
            else:
                self.document.lines[(*key, name)] = line
                entries[name] = self.value(child, (*key, name))
        return entries

    def _item(self, node: Any, key: Key) -> Any:
        self.document.lines[key] = node.start_mark.line + 1
        return self.value(node, key)

    def _find(self, key: Key, rule: str, remedy: str, value: object = ABSENT, line: int | None = None) -> None:
        self.document.findings.append(Finding(key=key, rule=rule, remedy=remedy, value=value, line=line))


def _written(node: Any, text: str) -> Written | None:
    """Where a scalar's characters stand, if they stand there one by one: plain or quoted on one line, or as a block of
    lines that are kept (`|`)."""
    start, end = node.start_mark, node.end_mark
    if node.style == "|":
        first = text.find("\n", start.index) + 1
        filled = _INDENT.search(text, first)
        indent = 0 if filled is None else len(filled[1])
        lines = text[first : end.index].splitlines()
        if [line[indent:] for line in lines][: node.value.count("\n") + 1] != node.value.splitlines():
            return None
        return Written(line=start.line + 1, column=indent, indent=indent, value=node.value)
    quote = 0 if node.style is None else 1
    if text[start.index + quote : end.index - quote] != node.value:
        return None
    return Written(line=start.line, column=start.column + quote, indent=0, value=node.value)


def _plain(text: str) -> str | int | float | bool | None:
    """An unquoted scalar by YAML 1.2's core schema, but for leading zeros, which make text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if _NAN.fullmatch(text) else text
