"""A decision tree as an SVG picture: questions are round boxes, advice is framed twice, answers stand on the lines.

Shapes and words carry all that it says: it reads in black and white, on paper, on any background and without a font of
its own. Same tree, same bytes. `python -m dpbeam.pipelines.choosing.picture FOLDER` draws all of them.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dpbeam.pipelines.choosing.tree import Advice, Question, Tree
from dpbeam.pipelines.choosing.trees import TREES

_LINE, _PAD, _GAP = 17, 10, 16
"""Heights in px: of a line of text, around a box's text, between two boxes."""
_WIDE = {"question": 250, "advice": 430}
_CHARS = {"question": 30, "advice": 56, "answer": 22}
_STEP = 450
"""From the left edge of one column of boxes to that of the next."""


@dataclass(frozen=True, kw_only=True)
class _Box:
    kind: str
    lines: tuple[str, ...]
    branches: tuple[tuple[tuple[str, ...], _Box], ...] = ()

    @property
    def own(self) -> int:
        return len(self.lines) * _LINE + 2 * _PAD

    @property
    def height(self) -> int:
        """Of the box and all that hangs on it."""
        return max(self.own, sum(self._rooms()) + _GAP * (len(self.branches) - 1))

    def _rooms(self) -> list[int]:
        return [max(box.height, (len(label) + 1) * _LINE) for label, box in self.branches]

    @property
    def depth(self) -> int:
        return 1 + max((box.depth for _, box in self.branches), default=0)

    def placed(self, top: int) -> Iterator[tuple[int, tuple[str, ...], _Box]]:
        """Each branch with the top of its room."""
        top += (self.height - sum(self._rooms()) - _GAP * (len(self.branches) - 1)) // 2
        for room, (label, box) in zip(self._rooms(), self.branches, strict=True):
            yield top + (room - box.height) // 2, label, box
            top += room + _GAP


def _box(at: Question | Advice) -> _Box:
    if isinstance(at, Advice):
        wrapped = [
            textwrap.wrap(line, _CHARS["advice"], subsequent_indent="    ", drop_whitespace=False)
            for line in at.lines.split("\n")
        ]
        return _Box(kind="advice", lines=tuple(line for lines in wrapped for line in lines))
    branches = tuple((tuple(textwrap.wrap(each.says, _CHARS["answer"])), _box(each.then)) for each in at.answers)
    return _Box(kind="question", lines=tuple(textwrap.wrap(at.asks, _CHARS["question"])), branches=branches)


def draw(tree: Tree) -> str:
    """The picture of a tree, as the text of an SVG file."""
    root = _box(tree.start)
    width, height = (root.depth - 1) * _STEP + _WIDE["advice"] + 2 * _PAD, root.height + 2 * _PAD
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title">'
    )
    style = (
        "<style>text{font:13px system-ui,sans-serif;fill:#000}.advice{font:12px ui-monospace,monospace}"
        ".answer{font-style:italic}rect,path{fill:none;stroke:#000}</style>"
    )
    ground = f'<path d="M0 0H{width}V{height}H0Z" style="fill:#fff;stroke:none"/>'
    body = "\n".join(_drawn(root, _PAD, _PAD))
    return f'{head}\n<title id="title">{escape(tree.about)}</title>\n{style}\n{ground}\n{body}\n</svg>\n'


def _drawn(box: _Box, left: int, top: int) -> Iterator[str]:
    middle, wide = top + box.height // 2, _WIDE[box.kind]
    own = middle - box.own // 2
    if box.kind == "advice":
        yield f'<rect x="{left}" y="{own}" width="{wide}" height="{box.own}"/>'
        yield f'<rect x="{left + 3}" y="{own + 3}" width="{wide - 6}" height="{box.own - 6}"/>'
    else:
        yield f'<rect x="{left}" y="{own}" width="{wide}" height="{box.own}" rx="14"/>'
    yield from _text(box.lines, left + _PAD, own + _PAD, box.kind)
    for at, label, below in box.placed(top):
        end = at + below.height // 2
        from_x, to_x = left + wide, left + _STEP
        yield f'<path d="M{from_x} {middle}L{from_x + 14} {end}H{to_x}m-7 -4l7 4l-7 4"/>'
        yield from _text(label, from_x + 18, end - len(label) * _LINE - 2, "answer")
        yield from _drawn(below, to_x, at)


def _text(lines: Sequence[str], x: int, y: int, kind: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        yield f'<text xml:space="preserve" class="{kind}" x="{x}" y="{y + number * _LINE - 4}">{escape(line)}</text>'


def main(folder: str) -> None:
    """Draws every tree into a file of its name."""
    for tree in TREES.values():
        (Path(folder) / f"choose_{tree.name}.svg").write_text(draw(tree), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
