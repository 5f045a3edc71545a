"""Means and variances of noisy sums and counts, with 95 % intervals. Post-processing: it costs nothing.

An interval holds the parameters that the noisy figures don't reject at 5 % (Fieller, 1954): it is the partition's
bounded mean or variance over the noise alone. Where the noisy count isn't clearly above 0, it is all that the bounds
allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dpbeam.mechanisms.events import Additive, Laplace
from dpbeam.mechanisms.noise_width import LAPLACE_95, NORMAL_95, scale_of

F64 = npt.NDArray[np.float64]
Interval = tuple[F64, F64, F64]
"""Values, and the ends of their intervals."""

_BISECTIONS = 45


class Named(Protocol):
    """What is known of any quantity."""

    @property
    def name(self) -> str: ...


class Clipped(Named, Protocol):
    """What is known of a sum: the values lie in [low, high], and are added up relative to a centre."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def centre(self) -> float: ...
    @property
    def reach(self) -> float: ...


Q = TypeVar("Q", bound=Named, covariant=True)


@dataclass(frozen=True, kw_only=True)
class NoisyQuantity(Generic[Q]):
    """One noisy quantity of all partitions: `noisy` has a row a partition and a column a number."""

    quantity: Q
    noise: Additive
    noisy: F64

    @property
    def scale(self) -> float:
        return scale_of(self.noise)


def mean(total: NoisyQuantity[Clipped], count: NoisyQuantity[Named]) -> Interval:
    """centre + S/C in [low, high], with C below 1 taken as 1."""
    quantity = total.quantity
    lowest, highest = quantity.low - quantity.centre, quantity.high - quantity.centre
    s, c = total.noisy[:, 0], count.noisy[:, 0]
    value = np.clip(s / np.maximum(c, 1.0), lowest, highest)
    scales = (total.scale, count.scale)
    low, high = _accepted((total, count), s, c, value, lowest, highest, lambda m: [scales[0] + 0 * m, m * scales[1]])
    centred = (np.clip(part + quantity.centre, quantity.low, quantity.high) for part in (value, low, high))
    return next(centred), next(centred), next(centred)


def variance(
    total: NoisyQuantity[Clipped],
    squares: NoisyQuantity[Named],
    count: NoisyQuantity[Named],
    *,
    shift: float | None = None,
) -> Interval:
    """Q/C + r²/2 − (S/C)² in [0, r²], where Q adds up (x − centre)² − r²/2, r is half the width of the bounds, and C
    below 1 is taken as 1.

    With m = S/C, v is accepted if A − vC could be noise, where A = Q + C·r²/2 − S²/C: the noise is
    that of Q − 2mS + (r²/2 + m² − v)·C, to first order in the noise of m. `shift` stands for r²/2 where the squares
    were shifted by something else before they were added up.
    """
    most = total.quantity.reach**2
    half = most / 2 if shift is None else shift
    s, q, c = total.noisy[:, 0], squares.noisy[:, 0], count.noisy[:, 0]
    safe = np.maximum(c, 1.0)
    m = np.clip(s / safe, -total.quantity.reach, total.quantity.reach)
    value = np.clip(q / safe + half - m**2, 0.0, most)
    # What S²/C is too large by, on average, for S being noisy.
    twice = (2.0 if isinstance(total.noise, Laplace) else 1.0) * (total.scale**2 + (m * count.scale) ** 2)
    above = q + c * half - m * s + twice / safe

    def scales(v: F64) -> list[F64]:
        return [squares.scale + 0 * v, 2 * m * total.scale, (half + m**2 - v) * count.scale]

    low, high = _accepted((total, squares, count), above, c, value, 0.0, most, scales)
    return value, low, high


def half_width_of_sum(quantities: Sequence[NoisyQuantity[Named]], weights: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a weighted sum of figures with independent noises of one kind."""
    scales = [part.scale * abs(weight) for part, weight in zip(quantities, weights, strict=True)]
    if all(part.noise.kind == "gaussian" for part in quantities):
        return NORMAL_95 * math.hypot(*scales)
    inner, outer = 0.0, LAPLACE_95 * sum(scales)
    for _ in range(_BISECTIONS):
        middle = (inner + outer) / 2
        out = laplace_tail(np.array([middle]), [np.array([scale]) for scale in scales])[0] < 0.05
        inner, outer = (inner, middle) if out else (middle, outer)
    return outer


def _accepted(
    parts: Sequence[NoisyQuantity[Named]],
    above: F64,
    count: F64,
    value: F64,
    lowest: float,
    highest: float,
    scales: Callable[[F64], list[F64]],
) -> tuple[F64, F64]:
    """The ends, in [lowest, highest], of the t around `value` at which |above − t·count| could be noise.

    `scales(t)` are the scales of the independent noises that add up to the noise of above − t·count. By bisection
    from above/count outwards: with the count clear of 0, the left side grows faster than the noise.
    """
    noise = {part.noise.kind for part in parts}
    if len(noise) > 1:
        raise ValueError(f"{parts[0].quantity.name} and the count must have one kind of noise, got {sorted(noise)}")
    gaussian = noise == {"gaussian"}
    clear = count > (NORMAL_95 if gaussian else LAPLACE_95) * parts[-1].scale
    best = np.clip(above / np.where(clear, count, 1.0), lowest, highest)

    def rejected(t: F64) -> npt.NDArray[np.bool_]:
        distance = np.abs(above - t * count)
        if gaussian:
            return distance > NORMAL_95 * np.sqrt(sum(scale**2 for scale in scales(t)))
        return laplace_tail(distance, scales(t)) < 0.05

    ends = []
    for end in (lowest, highest):
        inner, outer = best.copy(), np.full_like(best, end)
        whole = ~clear | ~rejected(outer)
        for _ in range(_BISECTIONS):
            middle = inner + (outer - inner) / 2
            out = rejected(middle)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        ends.append(np.where(whole, end, outer))
    # The interval is about above/count; where the count is below 1 the value isn't: the interval is made to hold it.
    return np.minimum(ends[0], value), np.maximum(ends[1], value)


def laplace_tail(distance: F64, scales: Sequence[F64]) -> F64:
    """P(|ΣX| > distance) of independent Laplace variables X: Σ wᵢ·exp(−distance/bᵢ), wᵢ = Π bᵢ²/(bᵢ² − bⱼ²).

    The formula needs scales that differ: equal ones are set a thousandth apart, which moves the tail by as little.
    """
    largest = np.max([np.abs(scale) for scale in scales], axis=0)
    ordered = np.sort([np.maximum(np.abs(scale), 1e-6 * largest) for scale in scales], axis=0)
    for i in range(1, len(scales)):
        ordered[i] = np.maximum(ordered[i], ordered[i - 1] * 1.001)
    tail = np.zeros_like(distance)
    for i, own in enumerate(ordered):
        weight = np.ones_like(distance)
        for j, other in enumerate(ordered):
            if i != j:
                weight *= own**2 / (own**2 - other**2)
        tail += weight * np.exp(-distance / own)
    return tail
