"""The one door to the screen: everything that commands print goes through here, made visible first.

Names, keys, paths and flags come from outside. None is ever read as markup, an emoji's name or an escape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any, Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dpbeam.pipelines.cli.capture import screen
from dpbeam.reporting.visible import visible, visible_lines, visible_message

Loudness = Literal["quiet", "normal", "verbose"]
_loudness: list[Loudness] = ["normal"]


def speak(how: Loudness) -> None:
    """How much is said from here on, beside what a command was asked for and errors."""
    _loudness[:] = [how]


def quiet() -> bool:
    """Whether no more is to be said than what was asked for."""
    return _loudness == ["quiet"]


class _VisibleConsole(Console):
    """A rich console that reads no markup, and through which no character passes that can't be seen.

    Guarantee: whatever a renderable holds, the text that is written is `visible`; the escape sequences are rich's own.
    """

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    @property
    def file(self) -> IO[str]:
        """The screen, also while what others write is captured."""
        found = screen("stderr" if self.stderr else "stdout")
        return getattr(found, "rich_proxied_file", None) or found

    @file.setter
    def file(self, _: IO[str]) -> None:
        raise AttributeError("the door has one screen")

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        yield from map(_visible, super().render(renderable, options))


def _visible(segment: Segment) -> Segment:
    return segment if segment.control else Segment(visible_lines(segment.text), segment.style)


def line(text: str) -> Text:
    """One line of text for a console: no name in it can write a line of its own."""
    return Text(visible(text))


def console(*, stderr: bool = False) -> Console:
    """Where tables and progress are drawn."""
    return _VisibleConsole(stderr=stderr)


@contextmanager
def working(what: str, *, silent: bool = False) -> Iterator[None]:
    """Shows on a terminal, on stderr, what is being done as long as it takes: nobody waits without being told for what.
    Nothing stays of it, and elsewhere nothing is written, unless somebody asked for more."""
    if silent or quiet():
        yield
        return
    detail(f"{what} …")
    terminal = console(stderr=True)
    with terminal.status(line(f"{what} …")) if terminal.is_terminal else nullcontext():
        yield


def say(*lines: str) -> None:
    """Prints lines of text on stdout."""
    print("\n".join(map(visible, lines)), file=screen("stdout"))


def is_terminal() -> bool:
    """Whether what is said on stdout is shown on a terminal."""
    return screen("stdout").isatty()


def lost() -> str | None:
    """Why what was said on stdout could not all be written; None if it was."""
    out = screen("stdout")
    out.flush()
    reason: str | None = getattr(out, "lost", None)
    return reason


def say_json(document: dict[str, Any]) -> None:
    """Prints one JSON object on stdout, in ASCII: any terminal and pipe takes it, and every text comes back from it."""
    print(json.dumps(document, allow_nan=False), file=screen("stdout"))


def remark(*lines: str) -> None:
    """Prints lines on stdout that say no more than the exit code does: that it is done."""
    if not quiet():
        say(*lines)


def detail(*lines: str) -> None:
    """Prints on stderr, faintly, what somebody who asked for more wants to know."""
    if _loudness == ["verbose"]:
        console(stderr=True).print(Text("\n".join(map(visible_message, lines))), style="dim", soft_wrap=True)


def note(*lines: str) -> None:
    """Prints on stderr, faintly, what is worth knowing though nothing went wrong."""
    if quiet():
        return
    console(stderr=True).print(Text("note: " + "\n".join(map(visible_message, lines))), style="dim")


def complain(*lines: str) -> None:
    """Prints what went wrong, on stderr."""
    print("dpbeam: " + "\n".join(map(visible_message, lines)), file=screen("stderr"))
