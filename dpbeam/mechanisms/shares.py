"""Shares of a sum of noisy numbers, with 95 % intervals. Post-processing: it costs nothing.

An interval holds the shares that the noisy numbers don't reject at 5 % (Fieller, 1954): of numbers that add up to T,
with A the sum of some of them, t is accepted if A − t·T could be the noise of that sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpbeam.mechanisms.events import Additive, Laplace
from dpbeam.mechanisms.moments import laplace_tail
from dpbeam.mechanisms.noise_width import NORMAL_95, scale_of

_STEPS = 2_000
"""Shares are looked at in steps of one part in so many, and an interval is a step wider on either side."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share and its 95 % interval, all within [0, 1]."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1:
            raise ValueError(f"a share must lie in its interval, within 0 and 1, got {self}")


def share(noisy: Sequence[float], inside: Sequence[bool], noise: Additive) -> Share:
    """The share that the numbers marked `inside` have of all, where each has independent `noise`.

    A total below 1 is taken as 1. Where the total isn't clearly above 0, no share is rejected: the interval is [0, 1].
    """
    numbers, mine = np.asarray(noisy, dtype=np.float64), np.asarray(inside, dtype=np.bool_)
    total, part = float(numbers.sum()), float(numbers[mine].sum())
    value = min(1.0, max(0.0, part / max(total, 1.0)))
    tried = np.linspace(0.0, 1.0, _STEPS + 1)
    distance = np.abs(part - tried * total)
    scales = [scale_of(noise) * (1 - tried if own else tried) for own in mine]
    if isinstance(noise, Laplace):
        accepted = tried[laplace_tail(distance, scales) >= 0.05]
    else:
        accepted = tried[distance <= NORMAL_95 * np.sqrt(sum(scale**2 for scale in scales))]
    if not total > _clear(noise, len(numbers)):
        return Share(value=value, low=0.0, high=1.0)
    ends = [value, value] if not len(accepted) else [float(accepted[0]), float(accepted[-1])]
    step = 1 / _STEPS
    return Share(value=value, low=max(0.0, min(ends[0] - step, value)), high=min(1.0, max(ends[1] + step, value)))


def nested(inner: Share, outer: Share) -> tuple[Share, Share]:
    """The two shares, of which the first is a part of the second, so that they say so: where noise has made it the
    larger one, both are the middle between them, and each interval is widened to it."""
    if inner.value <= outer.value:
        return inner, outer
    middle = (inner.value + outer.value) / 2

    def widened(one: Share) -> Share:
        return Share(value=middle, low=min(one.low, middle), high=max(one.high, middle))

    return widened(inner), widened(outer)


def _clear(noise: Additive, numbers: int) -> float:
    """What the noise of a sum of so many numbers stays below with probability 97.5 %, or a little more."""
    if isinstance(noise, Laplace):
        return scale_of(noise) * math.log(numbers / 0.025)
    return NORMAL_95 * scale_of(noise) * math.sqrt(numbers)
