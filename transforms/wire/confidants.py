"""Who is told of errors before they are contained: a run's log, within the trust zone. Needs no Beam."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Confidant = Callable[[str, BaseException], None]
"""Called with what failed and the error itself, whose text may hold raw values."""

_confidants: list[Confidant] = []


@contextmanager
def confiding(confidant: Confidant) -> Iterator[None]:
    """Has `confidant` told of errors before they are contained, in this process alone: a worker elsewhere has none.

    Guarantee: none but `confidant` is told. It must keep what it is told within the trust zone.
    """
    _confidants.append(confidant)
    try:
        yield
    finally:
        _confidants.remove(confidant)


def confide(what: str, error: BaseException) -> None:
    """Tells those who are confided in; that they can't take it is no failure of the work."""
    for confidant in tuple(_confidants):
        with suppress(Exception):
            confidant(what, error)
