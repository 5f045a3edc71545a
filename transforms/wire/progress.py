"""How far a job in this process has come, as a share from 0 to 1 of the plan's parts.

Only what the plan knew before the first row was read is counted (splits and shards, never rows), so what is shown says
no more about the data than the time it takes. A worker in another process reports to nobody.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
"""Called with what is being done, how many parts of it are done, and how many there are."""

_listeners: list[Listener] = []
_done: dict[str, set[int]] = {}
"""What is done of each piece of work of this process, as long as somebody listens."""
_lock = threading.Lock()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has `listener` told of the progress of jobs of this process."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
        if not _listeners:
            _done.clear()


class WorkProgress:
    """Counts the numbered parts of one piece of work as threads and bundles get them done, each once however often it
    is tried. All copies of it in a process, that of each bundle, count together.
    """

    def __init__(self, what: str, of: int) -> None:
        self._what, self._of, self._work = what, of, secrets.token_hex(8)

    def done(self, part: int) -> None:
        with _lock:
            if not _listeners:
                return
            done = _done.setdefault(self._work, set())
            if part in done:
                return
            done.add(part)
            for listener in _listeners:
                listener(self._what, len(done), self._of)
