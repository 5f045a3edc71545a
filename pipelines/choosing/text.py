"""Decision trees as text: a question with its answers, an advice, a whole tree."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from dpbeam.pipelines.choosing.tree import Advice, Question, Tree

_WIDTH = 100


def question(at: Question) -> list[str]:
    """A question and the words for its answers."""
    room = max(len(answer.word) for answer in at.answers)
    return [at.asks, *(f"  {answer.word:<{room}}  {answer.says}" for answer in at.answers)]


def advice(at: Advice) -> list[str]:
    """The lines for the policy, and the reason as comments, so that all of it may be pasted."""
    because = textwrap.wrap(f"Because {at.because} See {at.see}.", _WIDTH, initial_indent="# ", subsequent_indent="# ")
    return [*because, *at.lines.split("\n")]


def tree(of: Tree) -> list[str]:
    """The whole tree, each step further in; an answer's lines below it."""
    return [f"{of.name}: {of.about}", *_below(of.start, "  ")]


def _below(at: Question | Advice, indent: str) -> Iterator[str]:
    if isinstance(at, Advice):
        yield from (f"{indent}| {line}" for line in at.lines.split("\n"))
        return
    yield f"{indent}{at.asks}"
    for answer in at.answers:
        yield f"{indent}- {answer.word}: {answer.says}" if answer.word != answer.says else f"{indent}- {answer.word}"
        yield from _below(answer.then, indent + "    ")
