"""The one door to the screen: everything that commands print goes through here, made visible first.

Names, keys, paths and flags come from outside. None is ever read as markup, an emoji's name or an escape.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from dpbeam.reporting.visible import visible_lines, visible_message


class _VisibleConsole(Console):
    """A rich console that reads no markup, and through which no character passes that can't be seen.

    Guarantee: whatever a renderable holds, the text that is written is `visible`; the escape sequences are rich's own.
    """

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        yield from map(_visible, super().render(renderable, options))


def _visible(segment: Segment) -> Segment:
    return segment if segment.control else Segment(visible_lines(segment.text), segment.style)


def console(*, stderr: bool = False) -> Console:
    """Where tables and progress are drawn."""
    return _VisibleConsole(stderr=stderr)


def say(text: str) -> None:
    """Prints lines of text on stdout."""
    print(visible_lines(text))  # noqa: T201


def complain(text: str) -> None:
    """Prints what went wrong, on stderr."""
    print(f"dpbeam: {visible_message(text)}", file=sys.stderr)  # noqa: T201
