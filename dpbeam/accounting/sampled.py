"""What a mechanism on a Poisson sample costs: its (ε, δ), its Rényi divergences and its privacy loss, from above.

Let P and Q be what the mechanism puts out with and without one unit, if it is in the sample, which it is with
probability q. On the sample, P becomes R = (1 − q)·Q + q·P, so that a unit less is the pair (R, Q), a unit more (Q, R):
these dominate the mechanism on the sample if (P, Q) and (Q, P) do without one (Zhu, Dong & Wang, AISTATS'22, theorem
11). They cost different amounts, so whatever composes keeps the two directions apart (docs/accounting.md, "Costs that
nest").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from dpbeam.accounting.gaussian_curve import gaussian_delta
from dpbeam.accounting.loss_grids import Floats, Grid, normal_mass, spread

Direction = Literal["less", "more"]
"""One unit less, the pair (R, Q), or one more, (Q, R)."""
DIRECTIONS: tuple[Direction, ...] = ("less", "more")

MOST_WHOLE_ORDER = 1024
"""Rényi orders of sampled Gaussian noise up to this are exact at whole numbers; above it they are bounded."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A pair (P, Q) on a sample with `probability`: of a Gaussian with μ = `loss`, of Laplace noise with ε = `loss`, or
    the worst pair that is `loss`-DP. All three cost the same with P and Q exchanged."""

    probability: float
    pair: Literal["gaussian", "laplace", "worst"]
    loss: float

    @property
    def pure_epsilon(self) -> float | None:
        """ln(1 + q·(e^ε − 1)), an ε for both directions; None for a Gaussian, which has none."""
        if self.pair == "gaussian":
            return None
        return float(outer_loss(np.array([self.loss]), self.probability)[0])

    @property
    def typical(self) -> float:
        """About the standard deviation of the privacy loss, to choose a grid by."""
        q, loss = self.probability, self.loss
        if self.pair == "gaussian":
            return min(loss, q * math.sqrt(math.expm1(min(loss, 25.0) ** 2)))
        return min(loss, q * 2 * math.sinh(min(loss, 50.0) / 2))


def outer_loss(loss: Floats, q: float) -> Floats:
    """ln(1 − q + q·e^`loss`): of P against Q, what is R against Q."""
    small = np.log1p(q * np.expm1(np.minimum(loss, 1.0)))
    return np.asarray(np.where(loss < 1, small, np.logaddexp(math.log1p(-q), math.log(q) + loss)))


def inner_loss(loss: Floats, q: float) -> Floats:
    """The inverse of `outer_loss`; −∞ where `loss` is ln(1 − q) or less, which no loss on the sample is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        small = np.log1p(np.maximum(np.expm1(np.minimum(loss, 1.0)) / q, -1.0))
        large = loss - math.log(q) + np.log1p((q - 1) * np.exp(-np.maximum(loss, 1.0)))
    return np.asarray(np.where(loss < 1, small, large))


def sampled_gaussian_delta(direction: Direction, q: float, mu: float, epsilon: Floats) -> Floats:
    """δ(ε) of Gaussian noise on a sample, exactly, for ε ≥ 0.

    R − e^ε·Q = q·(P − e^ε'·Q) with ε' = `inner_loss`(ε); and Q − e^ε·R = k·(Q − (q·e^ε/k)·P) with k = 1 − (1 − q)·e^ε,
    nowhere positive if k isn't.
    """
    if direction == "less":
        return np.asarray(q * gaussian_delta(np.array(mu), inner_loss(epsilon, q)))
    keeps = q - (1 - q) * np.expm1(np.minimum(epsilon, 700.0))
    positive = np.maximum(keeps, 1e-300)
    exact = positive * gaussian_delta(np.array(mu), epsilon + math.log(q) - np.log(positive))
    return np.asarray(np.where(keeps > 0, exact, 0.0))


def sampled_gaussian_epsilon(q: float, mu: float, delta: float) -> float:
    """The least ε ≥ 0 at which Gaussian noise on a sample is (ε, δ)-DP in both directions, from above."""

    def enough(epsilon: float) -> bool:
        at = np.array(epsilon)
        return all(float(sampled_gaussian_delta(direction, q, mu, at)) <= delta for direction in DIRECTIONS)

    # Without the sample it would cost more, and this is enough there (`gaussian_epsilon`).
    low, high = 0.0, mu**2 / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    if enough(low):
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def log_moments(sampled: Sampled, less_one: Floats) -> Floats:
    """(α − 1) times an upper bound on the Rényi divergence of order α, `less_one` being α − 1, in both directions."""
    q, loss = sampled.probability, sampled.loss
    if sampled.pair == "gaussian":
        return _gaussian_log_moments(q, loss, less_one)
    # The worst pair: e^ε-fold density with probability 1/(1 + e^ε) under Q, e^−ε-fold with e^ε/(1 + e^ε).
    high, low = (float(outer_loss(np.array([e]), q)[0]) for e in (loss, -loss))
    log_high, log_low = -float(np.logaddexp(0.0, loss)), -float(np.logaddexp(0.0, -loss))
    less = np.logaddexp((less_one + 1) * high + log_high, (less_one + 1) * low + log_low)
    more = np.logaddexp(-less_one * high + log_high, -less_one * low + log_low)
    return np.asarray(np.maximum(np.maximum(less, more), 0.0))


def _gaussian_log_moments(q: float, mu: float, less_one: Floats) -> Floats:
    """Mironov, Talwar & Zhang 2019 (https://arxiv.org/abs/1908.10530): of both directions (R, Q) has the larger
    divergence (theorem 5), and at a whole α it is Σ C(α, k)·(1 − q)^(α − k)·q^k·e^(k·(k − 1)·μ²/2) (section 3.3).

    ln E_Q[(R/Q)^α] is convex in α and 0 at 1, so between whole orders it lies under the line. Above the last one it is
    at most that of a sample whose membership is shown, ln(1 − q + q·e^(α·(α − 1)·μ²/2)), t^α being convex.
    """
    order = np.arange(2, MOST_WHOLE_ORDER + 1, dtype=np.float64)[:, None]
    k = np.arange(MOST_WHOLE_ORDER + 1, dtype=np.float64)[None, :]
    with np.errstate(invalid="ignore"):
        log_choose = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(np.maximum(order - k, 0) + 1)
        terms = log_choose + (order - k) * math.log1p(-q) + k * math.log(q) + k * (k - 1) * mu**2 / 2
    moments = special.logsumexp(np.where(k <= order, terms, -np.inf), axis=1)
    # Logarithms of factorials, and the sums, are rounded by less than this.
    moments = np.maximum(moments, 0.0) * (1 + 1e-13) + 1e-14 * order[:, 0]
    within = np.interp(less_one, np.arange(MOST_WHOLE_ORDER), np.concatenate([[0.0], moments]))
    above = np.logaddexp(math.log1p(-q), math.log(q) + less_one * (less_one + 1) * mu**2 / 2)
    return np.asarray(np.where(less_one <= MOST_WHOLE_ORDER - 1, within, above))


def loss_range(sampled: Sampled, direction: Direction, tail: float) -> tuple[float, float]:
    """Between which losses the grid of `loss_grid` lies."""
    ends = outer_loss(np.array(_inner_range(sampled, tail)), sampled.probability)
    return (float(ends[0]), float(ends[1])) if direction == "less" else (-float(ends[1]), -float(ends[0]))


def _inner_range(sampled: Sampled, tail: float) -> tuple[float, float]:
    if sampled.pair != "gaussian":
        return -sampled.loss, sampled.loss
    most = sampled.loss**2 / 2 + math.sqrt(2 * math.log(1 / tail)) * sampled.loss
    return -most, most


def loss_grid(sampled: Sampled, direction: Direction, step: float, tail: float) -> Grid:
    """The privacy loss on a grid, as spread as `loss_grids.spread` does it; mass of at most `tail` above the grid is
    left to the caller's δ, what lies below it moves up to its lowest loss.

    The loss grows (or, with a unit more, falls) with the loss of P against Q, so that what lies between two edges is
    what P and Q have between the inner losses that belong to these edges.
    """
    q = sampled.probability
    least, most = loss_range(sampled, direction, tail)
    first, last = math.floor(least / step) - 1, math.ceil(most / step) + 1
    edges: Floats = np.arange(first, last + 1, dtype=np.float64) * step
    inner = inner_loss(edges if direction == "less" else -edges[::-1], q)
    of_p, of_q = _masses(sampled)(inner)
    of_r = (1 - q) * of_q + q * of_p
    numerator, denominator = (of_r, of_q) if direction == "less" else (of_q[::-1], of_r[::-1])
    with np.errstate(over="ignore", invalid="ignore"):
        discounted = denominator * np.exp(edges[:-1])
    grid = spread(step, numerator, discounted)
    if sampled.pair == "gaussian":
        grid[0] += _outside(q, sampled.loss, direction, inner)
    return first, grid


def _outside(q: float, mu: float, direction: Direction, inner: Floats) -> float:
    """The mass of losses below the grid: inner ones below the lowest with a unit less, above the highest with one
    more. It moves up."""
    if direction == "more":
        return float(special.ndtr(-(inner[-1] / mu + mu / 2)))
    return float((1 - q) * special.ndtr(inner[0] / mu + mu / 2) + q * special.ndtr(inner[0] / mu - mu / 2))


def _masses(sampled: Sampled) -> Callable[[Floats], tuple[Floats, Floats]]:
    """How much of P and of Q has a loss of P against Q between neighbouring ones of rising numbers."""
    loss = sampled.loss

    def gaussian(inner: Floats) -> tuple[Floats, Floats]:
        return normal_mass(inner / loss - loss / 2), normal_mass(inner / loss + loss / 2)

    def atoms(inner: Floats, share: float) -> tuple[Floats, Floats]:
        """Both extreme losses, ε with probability `share` under P, −ε with it under Q, and e^−ε·`share` otherwise."""
        of_p, of_q = np.zeros(len(inner) - 1), np.zeros(len(inner) - 1)
        for at, p, q in ((loss, share, share * math.exp(-loss)), (-loss, share * math.exp(-loss), share)):
            place = min(max(int(np.searchsorted(inner, at)) - 1, 0), len(inner) - 2)
            of_p[place] += p
            of_q[place] += q
        return of_p, of_q

    def worst(inner: Floats) -> tuple[Floats, Floats]:
        return atoms(inner, 1 / (1 + math.exp(-loss)))

    def laplace(inner: Floats) -> tuple[Floats, Floats]:
        of_p, of_q = atoms(inner, 0.5)
        left, right = np.clip(inner[:-1], -loss, loss), np.clip(inner[1:], -loss, loss)
        part = -np.expm1((left - right) / 2) / 2
        of_p += np.exp((right - loss) / 2) * part
        of_q += np.exp((-left - loss) / 2) * part
        return of_p, of_q

    return {"gaussian": gaussian, "laplace": laplace, "worst": worst}[sampled.pair]
