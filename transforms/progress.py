"""How far a job in this process has come: parts of the plan go in, as they are done; a share from 0 to 1 comes out.

Only what the plan knew before the first row was read is counted (splits and shards, never rows), so what is shown says
no more about the data than the time it takes. A worker in another process reports to nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
"""Called with what is being done, how many parts of it are done, and how many there are."""

_listeners: list[Listener] = []
_lock = threading.Lock()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has `listener` told of the progress of jobs of this process."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Steps:
    """Counts the parts of one piece of work as several threads get them done."""

    def __init__(self, what: str, of: int) -> None:
        self._what, self._of, self._done = what, of, 0

    def done(self) -> None:
        with _lock:
            self._done += 1
            for listener in _listeners:
                listener(self._what, self._done, self._of)
