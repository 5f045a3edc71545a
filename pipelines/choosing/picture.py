"""A decision tree as an SVG picture: questions are round boxes, advice is framed twice, answers stand beside the lines.

It goes from the top down, each step further in, so that it is as narrow as a page's column. Shapes and words carry all
that it says: it reads in black and white, on paper, on any background and without a font of its own. Same tree, same
bytes. `python -m dpbeam.pipelines.choosing.picture FOLDER` draws all of them.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from dpbeam.pipelines.choosing.tree import Advice, Question, Tree
from dpbeam.pipelines.choosing.trees import TREES

_LINE, _PAD, _GAP, _STEP = 17, 10, 14, 44
"""In px: a line of text, the room around a box's text, between two boxes, and how much further in each step is."""
_WIDTH = 440
_CHARS = {"question": 52, "advice": 56, "answer": 56}
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#000}.advice{font:12px ui-monospace,monospace}.answer{font-style:italic}"
    "rect,path{fill:none;stroke:#000}"
)


def draw(tree: Tree) -> str:
    """The picture of a tree, as the text of an SVG file."""
    body = list(_drawn(tree.start, _PAD, _PAD))
    height = _PAD + _height(tree.start) + _PAD
    width = _PAD + _STEP * max(len(words) for words, _ in tree.ends()) + _WIDTH + _PAD
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" aria-labelledby="title">',
            f'<title id="title">{escape(tree.about)}</title>',
            f"<style>{_STYLE}</style>",
            f'<path d="M0 0H{width}V{height}H0Z" style="fill:#fff;stroke:none"/>',
            *body,
            "</svg>\n",
        ]
    )


def _lines(at: Question | Advice) -> list[str]:
    if isinstance(at, Question):
        return textwrap.wrap(at.asks, _CHARS["question"])
    return [
        part
        for line in at.lines.split("\n")
        for part in textwrap.wrap(line, _CHARS["advice"], subsequent_indent="    ")
    ]


def _said(says: str) -> list[str]:
    return textwrap.wrap(says, _CHARS["answer"])


def _own(at: Question | Advice) -> int:
    """The height of a box."""
    return len(_lines(at)) * _LINE + 2 * _PAD


def _height(at: Question | Advice) -> int:
    """Of a box and of all below it."""
    below = at.answers if isinstance(at, Question) else ()
    return _own(at) + sum(_GAP + len(_said(each.says)) * _LINE + 4 + _height(each.then) for each in below)


def _drawn(at: Question | Advice, left: int, top: int) -> Iterator[str]:
    own, is_question = _own(at), isinstance(at, Question)
    corners = ' rx="14"' if is_question else ""
    yield f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{own}"{corners}/>'
    if not is_question:
        yield f'<rect x="{left + 3}" y="{top + 3}" width="{_WIDTH - 6}" height="{own - 6}"/>'
    yield from _text(_lines(at), left + _PAD, top + _PAD, "question" if is_question else "advice")
    trunk, bottom, reached = left + 20, top + own, top + own
    for each in at.answers if isinstance(at, Question) else ():
        said = _said(each.says)
        label = bottom + _GAP
        box = label + len(said) * _LINE + 4
        middle = box + _own(each.then) // 2
        yield f'<path d="M{trunk} {reached}V{middle}H{left + _STEP}m-7 -4l7 4l-7 4"/>'
        yield from _text(said, left + _STEP, label, "answer")
        yield from _drawn(each.then, left + _STEP, box)
        bottom, reached = box + _height(each.then), middle


def _text(lines: Sequence[str], x: int, y: int, kind: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        yield f'<text xml:space="preserve" class="{kind}" x="{x}" y="{y + number * _LINE - 4}">{escape(line)}</text>'


def main(folder: str) -> None:
    """Draws every tree into a file of its name."""
    for tree in TREES.values():
        (Path(folder) / f"choose_{tree.name}.svg").write_text(draw(tree), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
