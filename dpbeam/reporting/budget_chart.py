"""What a dataset's releases have spent of its budget, over time: figures that a template draws, no markup.

Places are percentages of the plot's width and height, as in `dpbeam.reporting.charts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dpbeam.reporting.charts import Tick, ticks

_LAST = 4.0
"""How wide the newest release's step is: how long it lasts isn't known."""
_PLACES = 1
"""Decimals of a place across: of steps at the same place the last is drawn, so that a thousand releases make no more
than a thousand."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A release: when its run began, and what was spent of the budget by then, itself included."""

    at: datetime
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """What was spent from one release to the next: a bar from the bottom to `height`."""

    start: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class BudgetChart:
    """The chart, whose top is the cap. `first` and `last` are the days at its ends."""

    steps: tuple[Step, ...]
    ticks: tuple[Tick, ...]
    first: str
    last: str


def budget_chart(points: Sequence[Point], cap: float) -> BudgetChart | None:
    """The chart of releases in whatever order; None where there is nothing to compare: fewer than two points in time.

    Guarantee: the same points give the same chart; when it is drawn isn't in it.
    """
    by_time = sorted(points, key=lambda point: (point.at, point.epsilon))
    if not by_time or by_time[0].at == by_time[-1].at:
        return None
    first, last = by_time[0].at, by_time[-1].at
    whole_s = (last - first).total_seconds()
    heights: dict[float, float] = {}
    for point in by_time:
        share = (point.at - first).total_seconds() / whole_s
        heights[round(share * (100 - _LAST), _PLACES)] = round(100 * min(point.epsilon / cap, 1.0), 3)
    starts = list(heights)
    steps = tuple(
        Step(start=start, width=round(end - start, _PLACES), height=heights[start])
        for start, end in zip(starts, [*starts[1:], 100.0], strict=True)
    )
    return BudgetChart(steps=steps, ticks=tuple(ticks(0.0, cap)), first=f"{first:%Y-%m-%d}", last=f"{last:%Y-%m-%d}")
