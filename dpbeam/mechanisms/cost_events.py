"""Costs that nest: events made of events, which say what a computation costs that isn't a flat list of mechanisms.

An `Event` *defines* a computation, as in dp_accounting's `dp_event.py`; what it costs follows from that definition
alone (`dpbeam.accounting.certify`, docs/accounting.md, "Costs that nest"). Training needs all three: each of many
steps adds Gaussian noise to a sum over a fresh random sample of the privacy units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpbeam.mechanisms import events
from dpbeam.mechanisms.events import Mechanism

MOST_DEPTH = 32
"""Events within each other. More serve nothing, and Python's own stack must be enough for whoever walks them."""
MOST_COUNT = 10**9


@dataclass(frozen=True, kw_only=True)
class Composed:
    """All of `events`, one after the other or at once; each may depend on what those before it put out, but for its
    kind and parameters, which are these."""

    kind: ClassVar[str] = "composed"
    events: tuple[Event, ...]
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.events, tuple) and self.events):
            raise ValueError(f"events must be a tuple of at least one event, got {self.events!r}")
        object.__setattr__(self, "depth", _depth(*self.events))


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """`event`, `count` times, as `Composed` of so many equal ones. What is drawn within it, its samples too, is drawn
    afresh each time."""

    kind: ClassVar[str] = "repeated"
    event: Event
    count: int
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not (isinstance(self.count, int) and 1 <= self.count <= MOST_COUNT):
            raise ValueError(f"count must be a whole number from 1 to {MOST_COUNT}, got {self.count!r}")
        object.__setattr__(self, "depth", _depth(self.event))


@dataclass(frozen=True, kw_only=True)
class PoissonSampled:
    """`event` on a sample, drawn once for all of it, in which each privacy unit is with `probability`, independently of
    all others and of everything else that is drawn. Nobody learns who is in it.

    These aren't Poisson samples of units: samples of a fixed size, batches of a shuffled table, samples of *rows* where
    a unit has several, and samples that leave out a unit that was drawn because a batch is full.
    """

    kind: ClassVar[str] = "poisson_sampled"
    probability: float
    event: Event
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.probability, float) and 0 < self.probability <= 1):
            raise ValueError(f"probability must be a float above 0 and at most 1, got {self.probability!r}")
        object.__setattr__(self, "depth", _depth(self.event))


Nested = Composed | Repeated | PoissonSampled
Event = Mechanism | Nested


def _depth(*inner: Event) -> int:
    for event in inner:
        if not isinstance(event, Event):
            raise ValueError(f"an event must be a mechanism, Composed, Repeated or PoissonSampled, got {event!r}")
    depth = 1 + max(event.depth if isinstance(event, Nested) else 0 for event in inner)
    if depth > MOST_DEPTH:
        raise ValueError(f"events may lie within each other {MOST_DEPTH} deep at most; write equal ones as Repeated")
    return depth


def to_json(event: Event) -> dict[str, Any]:
    """The event in plain values; of a mechanism, what the manifest has of it."""
    match event:
        case Composed():
            return {"kind": event.kind, "events": [to_json(inner) for inner in event.events]}
        case Repeated():
            return {"kind": event.kind, "event": to_json(event.event), "count": event.count}
        case PoissonSampled():
            return {"kind": event.kind, "probability": event.probability, "event": to_json(event.event)}
        case _:
            return events.to_json(event)


def from_json(fields: Mapping[str, Any]) -> Event:
    """Reads what `to_json` wrote.

    Raises:
        ValueError: an unknown kind, a missing or unknown field, a parameter out of its range, or too deep a nest.
    """
    return _read(fields, MOST_DEPTH)


_FIELDS = {
    "composed": {"kind", "events"},
    "repeated": {"kind", "event", "count"},
    "poisson_sampled": {"kind", "probability", "event"},
}


def _read(fields: object, deeper: int) -> Event:
    if not isinstance(fields, Mapping):
        raise ValueError(f"an event must be an object with the field kind, got {type(fields).__name__}")
    kind = fields.get("kind")
    if isinstance(kind, str) and kind in events.KINDS:
        return events.from_json(fields)
    if not (isinstance(kind, str) and kind in _FIELDS):
        raise ValueError(f"kind must be one of {', '.join([*events.KINDS, *_FIELDS])}, got {kind!r}")
    if fields.keys() != _FIELDS[kind]:
        raise ValueError(f"an event of kind {kind} has the fields {', '.join(sorted(_FIELDS[kind]))}, no others")
    if deeper == 0:
        raise ValueError(f"events may lie within each other {MOST_DEPTH} deep at most; write equal ones as Repeated")
    match kind:
        case "composed":
            if not isinstance(fields["events"], list | tuple):
                raise ValueError("events must be a list of events")
            return Composed(events=tuple(_read(inner, deeper - 1) for inner in fields["events"]))
        case "repeated":
            return Repeated(event=_read(fields["event"], deeper - 1), count=fields["count"])
        case _:
            return PoissonSampled(event=_read(fields["event"], deeper - 1), probability=fields["probability"])
