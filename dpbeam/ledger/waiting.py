"""Waiting for what other processes hold: how long, with which pauses, and who is told that it takes long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAID_AFTER_S = 1.0
_PAUSE_S = 0.01

Listener = Callable[[str], None]
"""Called once for each wait that gets long, with what is waited for."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has `listener` told of waits of this process that take longer than `SAID_AFTER_S`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(what: str) -> None:
    """Tells listeners that it takes long to get `what`."""
    for listener in list(_listeners):
        listener(f"waiting for {what}")


class Patience:
    """Waits up to `seconds` for what others hold.

    Pauses are random, so that none of many waiters is always late, and get shorter the longer it waits: who has waited
    longest asks most often. SQLite's own waiting does the opposite, and starves old waiters among many new ones.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._start = time.monotonic()
        self.seconds, self.what, self._said = seconds, what, False

    def wait(self) -> bool:
        """Pauses; False if the time is up."""
        waited = time.monotonic() - self._start
        if waited > self.seconds:
            return False
        if waited > SAID_AFTER_S and not self._said:
            self._said = True
            tell(self.what)
        time.sleep(random.uniform(_PAUSE_S / 10, _PAUSE_S) / (1 + waited))
        return True
