"""Privacy losses in, an upper bound on their composed ε out: by adding up, by Rényi divergences, by PLDs.

All three are written from the mechanisms' closed forms with NumPy alone, so that the certifier doesn't depend on
the library that the calibration uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What is composed: μ = l2/σ of each Gaussian; counts of Laplace and of worst-case pairs by their pure ε."""

    gaussian: tuple[float, ...] = ()
    laplace: Mapping[float, int]
    worst: Mapping[float, int]

    @property
    def mu(self) -> float:
        """The one Gaussian that all of them compose to, exactly."""
        return math.hypot(*self.gaussian)

    @property
    def pure(self) -> list[tuple[float, int]]:
        return [*self.laplace.items(), *self.worst.items()]

    @property
    def pure_epsilon(self) -> float:
        return math.fsum(e * count for e, count in self.pure)


def naive_epsilon(losses: Losses, delta: float) -> float:
    """The sum of the ε's; δ is shared out evenly over the Gaussians, each at its exact ε (Balle & Wang 2018)."""
    if not losses.gaussian:
        return losses.pure_epsilon
    return losses.pure_epsilon + math.fsum(gaussian_epsilon(np.array(losses.gaussian), delta / len(losses.gaussian)))


def gaussian_delta(mu: Floats, epsilon: Floats) -> Floats:
    """δ(ε) of Gaussians of parameter μ: Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ)."""
    first = special.log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
    return np.asarray(np.exp(first) * -np.expm1(np.minimum(second - first, 0.0)))


def gaussian_epsilon(mu: Floats, delta: float) -> Floats:
    """The least ε ≥ 0 at which each Gaussian of parameter μ is (ε, `delta`)-DP, from above."""
    low = np.zeros_like(mu)
    # At z with Φ(−z) ≤ δ, ε = μ²/2 + μ·z is enough by the tail bound on the privacy loss.
    high = mu**2 / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    high = np.where(gaussian_delta(mu, low) <= delta, 0.0, high)
    for _ in range(60):
        middle = (low + high) / 2
        enough = gaussian_delta(mu, middle) <= delta
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def rdp_epsilon(losses: Losses, delta: float) -> float:
    """The least ε over a grid of Rényi orders."""
    return _best_order(losses, delta)[0]


def _best_order(losses: Losses, delta: float) -> tuple[float, float]:
    """The least ε by Rényi divergences, and the order that gives it.

    Conversion: ε = R(α) + ln(1 − 1/α) − ln(α·δ)/(α − 1) (Canonne, Kamath & Steinke 2020, proposition 12).
    """
    less_one = np.logspace(-4, 10, 1530)
    order = 1 + less_one
    renyi = order * losses.mu**2 / 2
    for e, count in losses.laplace.items():
        log_high = np.log(order / (2 * order - 1)) + less_one * e
        log_low = np.log(less_one / (2 * order - 1)) - order * e
        renyi += count * np.logaddexp(log_high, log_low) / less_one
    for e, count in losses.worst.items():
        # Loss e has probability 1/(1 + e^−e), loss −e has e^−e/(1 + e^−e).
        renyi += count * (np.logaddexp(less_one * e, -order * e) - np.log1p(np.exp(-e))) / less_one
    epsilons = np.maximum(0.0, renyi + np.log1p(-1 / order) - np.log(order * delta) / less_one)
    best = int(np.argmin(epsilons))
    return float(epsilons[best]), float(order[best])


def pld_epsilon(losses: Losses, delta: float) -> float:
    """The ε of the composed privacy loss distribution, from above.

    Every mechanism's losses are put on one grid, each between its two neighbours such that both distributions' masses
    are kept; this spreads the loss out, so that no hockey-stick divergence shrinks. The grids are then tilted by
    e^(θ·loss), which brings the tail that decides δ to the middle, where the FFT rounds least, and convolved.
    """
    order_epsilon, order = _best_order(losses, delta)
    if order_epsilon == 0:
        return 0.0
    step = _step(losses)
    tail = delta * 1e-6
    parts = [(_laplace(e, step), count) for e, count in losses.laplace.items()]
    parts += [(_worst(e, step), count) for e, count in losses.worst.items()]
    if losses.mu:
        parts.append((_gaussian(losses.mu, step, tail), 1))
        delta -= tail
    # A tilt beyond this only serves an ε that δ can't lower; it would overflow below it.
    tilt = min(order - 1, 20 * math.log(1 / delta) / order_epsilon, 100 / step)
    return _tilted_epsilon(parts, step, tilt, delta)


def _step(losses: Losses) -> float:
    """The grid: fine against one mechanism's typical loss, coarser where very many are added up."""
    counts = sum(count for _, count in losses.pure) + (1 if losses.mu else 0)
    squares = losses.mu**2 + math.fsum(count * e**2 for e, count in losses.pure)
    return math.sqrt(squares / counts) * 0.003 * min(25.0, max(1.0, counts / 12))


Grid = tuple[int, Floats]
"""The index of the first loss on the grid, and the masses from there on."""


def _spread(step: float, mass: Floats, discounted: Floats) -> Floats:
    """Masses on the edges of intervals, from what lies inside each.

    `mass[i]` is the probability of a loss in interval i, [x, x + step], and `discounted[i]` its mean of
    e^(x − loss) times that probability. Keeping both sums is the spread that no divergence falls under.
    """
    lower = (discounted - mass * math.exp(-step)) / -math.expm1(-step)
    # Where rounding leaves nonsense, all of the mass goes up, which is safe.
    lower = np.clip(np.nan_to_num(lower, nan=0.0, posinf=0.0, neginf=0.0), 0.0, mass)
    edges = np.zeros(len(mass) + 1)
    edges[:-1] += lower
    edges[1:] += mass - lower
    return edges


def _atom(grid: Floats, first: int, step: float, loss: float, probability: float) -> None:
    """Adds one probable loss to the grid, spread over its two neighbours."""
    index = min(max(math.floor(loss / step), first), first + len(grid) - 2)
    mass = np.array([probability])
    edges = _spread(step, mass, mass * math.exp(min(0.0, max(-step, index * step - loss))))
    grid[index - first : index - first + 2] += edges


def _worst(e: float, step: float) -> Grid:
    """The worst ε-DP pair: loss ε with probability e^ε/(1 + e^ε), else −ε."""
    first = math.floor(-e / step) - 1
    grid = np.zeros(2 * -first + 2)
    high = 1 / (1 + math.exp(-e))
    _atom(grid, first, step, e, high)
    _atom(grid, first, step, -e, math.exp(-e) * high)
    return first, grid


def _laplace(e: float, step: float) -> Grid:
    """Laplace noise of scale 1/ε, moved by 1: loss ε with ½, −ε with e^−ε/2, between with density e^((x−ε)/2)/4."""
    first = math.floor(-e / step) - 1
    size = 2 * -first + 2
    edges = (first + np.arange(size)) * step
    left, right = np.clip(edges[:-1], -e, e), np.clip(edges[1:], -e, e)
    half = (right - left) / 2
    mass = np.exp((left - e) / 2) * np.expm1(half) / 2
    discounted = np.exp(edges[:-1] - (left + e) / 2) * -np.expm1(-half) / 2
    grid = _spread(step, mass, discounted)
    _atom(grid, first, step, e, 0.5)
    _atom(grid, first, step, -e, math.exp(-e) / 2)
    return first, grid


def _gaussian(mu: float, step: float, tail: float) -> Grid:
    """Gaussian of parameter μ: losses N(μ²/2, μ²); mass of at most `tail` above the grid is left to the caller's δ."""
    reach = math.sqrt(2 * math.log(1 / tail))
    first = math.floor((mu**2 / 2 - reach * mu) / step)
    last = math.ceil((mu**2 / 2 + reach * mu) / step)
    edges: Floats = np.arange(first, last + 1, dtype=np.float64) * step
    under_p: Floats = (edges - mu**2 / 2) / mu
    under_q: Floats = (edges + mu**2 / 2) / mu
    mass = _normal_mass(under_p)
    with np.errstate(over="ignore", invalid="ignore"):
        discounted = _normal_mass(under_q) * np.exp(edges[:-1])
    grid = _spread(step, mass, discounted)
    # What lies below the grid moves up to its lowest loss.
    grid[0] += float(special.ndtr(under_p[0]))
    return first, grid


def _normal_mass(edges: Floats) -> Floats:
    """P(edge i < N(0, 1) ≤ edge i + 1), without cancellation in either tail."""
    below, above = special.ndtr(edges), special.ndtr(-edges)
    return np.asarray(np.where(edges[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1]), dtype=np.float64)


def _tilted_epsilon(parts: list[tuple[Grid, int]], step: float, tilt: float, delta: float) -> float:
    size = fft.next_fast_len(1 + sum((len(grid) - 1) * count for (_, grid), count in parts), real=True)
    lowest = sum(first * count for (first, _), count in parts)
    spectrum: Any = 1.0
    log_normaliser = 0.0
    factors = 0
    for (first, grid), count in parts:
        exponents = tilt * (first + np.arange(len(grid))) * step
        with np.errstate(divide="ignore"):
            logs = np.log(grid) + exponents
        total = float(special.logsumexp(logs))
        transform = fft.rfft(np.exp(logs - total), size)
        spectrum = spectrum * (transform**count if count > 1 else transform)
        log_normaliser += count * total
        factors += count
    tilted = fft.irfft(spectrum, size)
    # The FFT's rounding error in each element is at most this; added, so that it can't lower δ.
    tilted = np.maximum(tilted, 0.0) + 4 * np.finfo(float).eps * math.log2(size + 2) * factors
    losses = (lowest + np.arange(size)) * step
    positive = losses > 0
    losses, tilted = losses[positive], tilted[positive]
    with np.errstate(over="ignore"):
        masses = tilted * np.exp(np.minimum(log_normaliser - tilt * losses, 600.0))

    def delta_at(epsilon: float) -> float:
        start = int(np.searchsorted(losses, epsilon, side="right"))
        return float(np.dot(masses[start:], -np.expm1(epsilon - losses[start:])))

    low, high = 0.0, float(losses[-1])
    if delta_at(low) <= delta:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        if delta_at(middle) <= delta:
            high = middle
        else:
            low = middle
    return high
