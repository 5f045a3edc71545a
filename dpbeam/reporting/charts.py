"""Bar charts of released values with their intervals, as figures that a template draws: no markup is made here.

Places are percentages of the plot's width, so that a page draws a chart as wide as it is and letters keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpbeam.reporting.numbers import significant
from dpbeam.reporting.rows import Interval

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS = 4
_LARGEST = 1e300
"""Beyond it differences of values overflow; nothing is drawn."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is to be drawn in one row: `label` and the value `shown` as text, the value itself with its interval."""

    label: str
    shown: str
    interval: str
    value: Interval


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line across the plot, with its number; `anchor` keeps that within the plot."""

    at: float
    text: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of the chart: its bar from `start` on, and the line of its interval from `low` to `high`.

    `has_low` and `has_high` say which ends of the interval lie within the plot. `is_faint`: the interval holds 0, so
    the value can't be told from 0.
    """

    label: str
    shown: str
    interval: str
    start: float
    width: float
    low: float
    high: float
    has_low: bool
    has_high: bool
    is_faint: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """Bars that stand together, under a `label` where they have one."""

    label: str | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, ready to be drawn; `zero` is where its bars begin."""

    groups: tuple[Group, ...]
    ticks: tuple[Tick, ...]
    zero: float

    @property
    def has_faint(self) -> bool:
        return any(bar.is_faint for group in self.groups for bar in group.bars)


def is_noise(value: Interval) -> bool:
    """Whether the interval holds 0: such a value can't be told from 0."""
    return value.low <= 0 <= value.high


def chart(groups: Sequence[tuple[str | None, Sequence[Row]]]) -> Chart | None:
    """The chart of rows in groups, in the order in which they come; None where nothing finite is to be drawn.

    The scale holds 0 and what can be told from it with its interval. What can't is cut at the edges: the noise of one
    small group would else press all others flat.
    """
    drawn = [(label, [row for row in rows if math.isfinite(row.value.value)]) for label, rows in groups]
    values = [row.value for _, rows in drawn for row in rows]
    scale = _scale([value for value in values if not is_noise(value)] or values)
    if scale is None:
        return None
    return Chart(
        groups=tuple(Group(label=label, bars=tuple(_bar(row, scale) for row in rows)) for label, rows in drawn if rows),
        ticks=tuple(ticks(*scale)),
        zero=_at(0.0, scale),
    )


def _scale(values: Sequence[Interval]) -> tuple[float, float] | None:
    ends = [end for value in values for end in (value.low, value.value, value.high) if math.isfinite(end)]
    if not ends:
        return None
    low, high = min(0.0, *ends), max(0.0, *ends)
    if low == high:
        return 0.0, 1.0
    return (low, high) if 1 / _LARGEST < high - low < _LARGEST else None


def _at(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    share = (min(max(value, low), high) - low) / (high - low)
    return round(100 * share, 3)


def _bar(row: Row, scale: tuple[float, float]) -> Bar:
    value, zero, end = row.value, _at(0.0, scale), _at(row.value.value, scale)
    low = value.low if math.isfinite(value.low) else value.value
    high = value.high if math.isfinite(value.high) else value.value
    return Bar(
        label=row.label,
        shown=row.shown,
        interval=row.interval,
        start=min(zero, end),
        width=round(abs(end - zero), 3),
        low=_at(low, scale),
        high=_at(high, scale),
        has_low=math.isfinite(value.low) and low >= scale[0],
        has_high=math.isfinite(value.high) and high <= scale[1],
        is_faint=is_noise(value),
    )


def ticks(low: float, high: float) -> list[Tick]:
    """Up to five round numbers of the scale: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(power * factor for factor in _STEPS if power * factor * _TICKS >= high - low)
    places = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [_tick(place, _at(place, (low, high))) for place in places]


def _tick(value: float, at: float) -> Tick:
    anchor = "start" if at < 6 else "end" if at > 94 else "middle"
    return Tick(at=at, text=_short(value), anchor=anchor)


def _short(value: float) -> str:
    for size, word in ((1e9, "bn"), (1e6, "M")):
        if size <= abs(value) < 1000 * size:
            return f"{significant(value / size, 4)} {word}"
    return significant(value, 4)
