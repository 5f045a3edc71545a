"""Signals that ask a run to end, as one exception, `Stopped`, in the work that is under way.

A command takes them as long as it lasts (`listening`); a release that a program makes, while it is made, and what the
program would have done on them comes after (`hand_on`). In a pipeline of somebody else's, whose own work a signal stops
as ever, what must not be torn is `untorn`.

SIGINT (Ctrl-C), SIGTERM and SIGHUP are one and the same here. Where work must not be torn (a charge, a publication,
clearing up), it is `held`: it is done to its end, and the next `check` stops the run. From the first signal on, more of
them change nothing, so that none can cut the clearing up short.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 5.0
"""Only if work swallowed the exception and goes on does a later signal raise it once more."""


class Stopped(BaseException):
    """A signal stopped the run; no `Exception`, so that no library takes it for a failure of its own work."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        """What a shell shows for a program that the signal ended."""
        super().__init__(f"stopped by {self.name}")


ENDS = (Stopped, KeyboardInterrupt, GeneratorExit)
"""What asks work to end, and is no failure of its own. All else that isn't an `Exception` is a failure like one: a
panic of a library in Rust, or a `SystemExit`, each with a text that may hold a value."""


@dataclass
class _State:
    is_listening: bool = False
    received: int | None = None
    raised_s: float | None = None
    holds: int = 0

    def receive(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        now = time.monotonic()
        if self.holds == 0 and (self.raised_s is None or now - self.raised_s > _AGAIN_S):
            self.raised_s = now
            raise Stopped(self.received)


_state = _State()


@contextmanager
def listening() -> Iterator[None]:
    """Takes the signals while it lasts, but those that whoever started the program told it to ignore (`nohup`).

    Within itself it changes nothing. Python tells the main thread alone of signals, so work in another thread isn't
    stopped by one, nor torn, unless the process ends.
    """
    global _state
    if _state.is_listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _state = _state, _State(is_listening=True)
    taken = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {number: old for number, old in taken.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in taken:
            signal.signal(number, _state.receive)
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)
        _state = before


def hand_on(number: int) -> None:
    """Does what the program around would have done on a signal that was taken from it: ends it, unless it has a handler
    of its own."""
    signal.raise_signal(number)


@contextmanager
def untorn() -> Iterator[None]:
    """While it lasts, a signal is noted; then the program around gets it, as if it had come after."""
    if _state.is_listening or threading.current_thread() is not threading.main_thread():
        with held():
            yield
        return
    with listening():
        state = _state
        with held():
            yield
    if state.received is not None:
        signal.raise_signal(state.received)


@contextmanager
def held() -> Iterator[None]:
    """While it lasts, a signal is noted and raises nothing."""
    state = _state
    state.holds += 1
    try:
        yield
    finally:
        state.holds -= 1


def asked() -> bool:
    """Whether a signal has come."""
    return _state.received is not None


def check() -> None:
    """Raises what was noted, or was swallowed on its way.

    Raises:
        Stopped: a signal has come.
    """
    if _state.received is not None:
        raise Stopped(_state.received)
