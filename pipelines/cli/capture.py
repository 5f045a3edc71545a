"""Leads what others write to the two standard streams while a run works to the run's log; while raw figures are made,
nowhere.

Runners, their subprocesses, libraries in C++ and warnings write where they like, and some quote rows. The screen is for
what the one door prints (`dpbeam.pipelines.cli.printing`), which is told here where it is.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from dpbeam.pipelines.cli import streams
from dpbeam.pipelines.lifecycle import stopping

if TYPE_CHECKING:
    from dpbeam.pipelines.lifecycle.runlog import RunLog

_screen: dict[str, TextIO] = {}
"""The streams that are the screen while others' are captured."""


def screen(name: str) -> TextIO:
    """`stdout` or `stderr`, as it was before anything was captured."""
    stream: TextIO = _screen.get(name) or getattr(sys, name)
    return stream


@contextmanager
def captured(log: RunLog) -> Iterator[None]:
    """Has files 1 and 2, `sys.stdout`, `sys.stderr` and all loggers from INFO on write to the log; the streams of the
    command (`streams.unfailing`) go on to write to the screen. For a program of its own: these files are the process's.

    Guarantee: while it lasts, nothing but what the one door prints reaches what files 1 and 2 were, from this process
    or those that it starts.
    """
    with _led_to(log.fileno()):
        yield


@contextmanager
def silenced() -> Iterator[None]:
    """As `captured`, but to nowhere: for commands that show raw figures and have no log.

    Guarantee: that of `captured`. So whether a library warns, which may follow from a single value, shows nowhere.
    """
    with open(os.devnull, "wb") as nowhere, _led_to(nowhere.fileno()):
        yield


@contextmanager
def _led_to(file: int) -> Iterator[None]:
    undo = ExitStack()
    try:
        with stopping.held():
            _lead(file, undo)
        yield
    finally:
        with stopping.held():
            undo.close()


def _lead(file: int, undo: ExitStack) -> None:
    own = streams.current()
    for number in (1, 2):
        copy = os.dup(number)
        undo.callback(os.close, copy)
        if own is not None:
            undo.enter_context(own[number - 1].elsewhere(number, copy))
        os.dup2(file, number)
        undo.callback(os.dup2, copy, number)
    into = open(os.dup(file), "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    undo.callback(into.close)
    _screen.update(stdout=sys.stdout, stderr=sys.stderr)
    undo.callback(_screen.clear)
    undo.callback(_put, sys.stdout, sys.stderr)
    _put(into, into)
    root = logging.getLogger()
    undo.callback(root.setLevel, root.level)
    root.setLevel(min(root.level, logging.INFO) or logging.INFO)
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:  # to stderr
        root.removeHandler(handler)
        undo.callback(root.addHandler, handler)


def _put(stdout: TextIO, stderr: TextIO) -> None:
    sys.stdout, sys.stderr = stdout, stderr
