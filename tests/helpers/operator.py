"""The operators' guide as tests read it: its sections, the messages in them, and what it says of each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "operator.md"
VARIES = "…"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A way in which a run stops. `messages` as the guide has them, with `…` for what varies."""

    title: str
    messages: tuple[str, ...]
    exit_code: str
    again: str
    cost: str
    log: str

    def says(self, said: str) -> bool:
        """Whether what a command said is one of its messages, or holds one."""
        return any(re.search(pattern(message), " ".join(said.split())) for message in self.messages)


def pattern(message: str) -> str:
    return ".+?".join(re.escape(each) for each in " ".join(message.split()).split(VARIES))


def sections() -> dict[str, Section]:
    """Those that say what to do, by their title."""
    found = {}
    for text in re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = text.partition("\n")
        rows = re.findall(r"^\| exit code .*\n\|[-|]+\n\| (.*) \|$", body, re.MULTILINE)
        if rows:
            (row,) = rows
            code, again, cost, log = (cell.replace("**", "") for cell in row.split(" | "))
            messages = tuple(re.findall(r"^```text\n(.*)\n```$", body, re.MULTILINE))
            found[title] = Section(title=title, messages=messages, exit_code=code, again=again, cost=cost, log=log)
    return found


def said_of_recover() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each text of the code that tells somebody to run `dpbeam recover`, but docstrings: where it is, and what doesn't
    vary of it."""
    for folder in ("dpbeam", "transforms", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            within = {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in node.values}
            silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if id(node) in within | silent:
                    continue
                fixed = _fixed(node)
                if any("`dpbeam recover" in each for each in fixed):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", fixed


def _fixed(node: ast.AST) -> tuple[str, ...]:
    match node:
        case ast.Constant(value=str(text)):
            return (text,)
        case ast.JoinedStr(values=values):
            return tuple(str(each.value) for each in values if isinstance(each, ast.Constant))
    return ()


def holds(message: str, fixed: tuple[str, ...]) -> bool:
    """Whether a message of the guide has all that doesn't vary of a text, in its order. (A text may be the end of a
    sentence, and what is between may have been cut to one `…`.)"""
    place = 0
    for each in fixed:
        for words in filter(None, (part.strip() for part in each.split("\n"))):
            place = message.find(words.rstrip(".") if words.endswith(".") else words, place)
            if place < 0:
                return False
    return True
