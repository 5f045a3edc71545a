"""What changes between two policies, said of privacy: the guarantee, the cost, noise, who is shown; then the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpbeam.pipelines.governance.figures import TOPICS, Reviewed, Topic, Value

_RISES: dict[Topic, tuple[str, str]] = {
    "noise": ("more noise", "less noise"),
    "partitions": ("more people are needed", "fewer people are needed"),
}
_OF_BOUNDS = ("more of each person counts", "less of each person counts")
_OF_GUARANTEE = ("less private", "more private")
_ALMOST = 1e-9
"""Figures of two plans that are closer than this are the same: the last digits of a calibration mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure that differs; None on the side that doesn't have it. `meaning` is what that does, "" where it takes a
    person to tell."""

    topic: Topic
    name: str
    before: Value | None
    after: Value | None
    meaning: str

    def to_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "meaning": self.meaning or None,
        }


def changes(old: Reviewed, new: Reviewed) -> list[Change]:
    """Every figure that differs, by topic, in the order of the new policy. Empty only if both have one digest, or
    differ in nothing but how they are written."""
    names = list(dict.fromkeys([*new.figures, *old.figures]))
    found = [
        Change(topic=topic, name=name, before=before, after=after, meaning=_meaning(topic, name, before, after))
        for topic, name in names
        for before, after in [(old.figures.get((topic, name)), new.figures.get((topic, name)))]
        if not _same(topic, before, after)
    ]
    order = list(TOPICS)
    return sorted(found, key=lambda change: order.index(change.topic))


def _same(topic: Topic, before: Value | None, after: Value | None) -> bool:
    if topic == "noise" and isinstance(before, float) and isinstance(after, float):
        return abs(before - after) <= _ALMOST * max(abs(before), abs(after))
    return before == after


def _meaning(topic: Topic, name: str, before: Value | None, after: Value | None) -> str:
    if topic == "guarantee" and name == "it protects":
        return "another guarantee: what was spent for the one doesn't count for the other"
    if before is None:
        return "new"
    if after is None:
        return "gone"
    if isinstance(before, str) or isinstance(after, str):
        return ""
    last = name.rpartition(".")[2]
    up, down = _RISES.get(topic, ("", ""))
    if topic == "guarantee":
        up, down = _OF_GUARANTEE
    elif topic == "bounds" and last in ("l0", "linf", "l1", "max", "max_values"):
        up, down = _OF_BOUNDS
    return up if after > before else down
