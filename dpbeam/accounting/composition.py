"""Upper bounds on the ε of composed privacy losses: by adding up, by Rényi divergences, by PLDs.

All three are written from the mechanisms' closed forms with NumPy alone, so that the certifier doesn't depend on
the library that the calibration uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dpbeam.accounting import loss_grids
from dpbeam.accounting.convolution import MOST_CELLS, tilted_epsilon, whole_cells, windowed_epsilon
from dpbeam.accounting.gaussian_curve import gaussian_epsilon
from dpbeam.accounting.sampled import (
    DIRECTIONS,
    Direction,
    Sampled,
    log_moments,
    loss_grid,
    loss_range,
    sampled_gaussian_epsilon,
)

_MOST_CELLS_OF_ONE = 1 << 20
_TRIES = 5
# Below this a loss can't be told from a neighbour's on the grid.
_LEAST_STEP = 1e-12


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What is composed, and how often: Gaussians by μ = l2/σ, Laplace and worst-case pairs by their pure ε, and what
    is on Poisson samples (docs/accounting.md, "Costs that nest")."""

    gaussian: Mapping[float, int] = field(default_factory=dict)
    laplace: Mapping[float, int] = field(default_factory=dict)
    worst: Mapping[float, int] = field(default_factory=dict)
    sampled: Mapping[Sampled, int] = field(default_factory=dict)

    @property
    def mu(self) -> float:
        """The one Gaussian that all of them compose to, exactly."""
        return math.hypot(*(mu * math.sqrt(count) for mu, count in self.gaussian.items()))

    @property
    def size(self) -> float:
        """How large the losses are, in all: at most about their standard deviations, added up."""
        counted = [*self.pure, *((one.loss, 1) for one in self.sampled)]
        return self.mu + math.fsum(loss * math.sqrt(count) for loss, count in counted)

    @property
    def pure(self) -> list[tuple[float, int]]:
        return [*self.laplace.items(), *self.worst.items()]

    @property
    def pure_epsilon(self) -> float:
        return math.fsum(e * count for e, count in self.pure)


def naive_epsilon(losses: Losses, delta: float) -> float:
    """The sum of the ε's; δ is shared out evenly over the Gaussians, each at its exact ε (Balle & Wang 2018), or
    that of its sample."""
    sampled = [(one, one.pure_epsilon, count) for one, count in losses.sampled.items()]
    pure = math.fsum([losses.pure_epsilon, *(e * count for _, e, count in sampled if e is not None)])
    noisy = [(one, count) for one, e, count in sampled if e is None]
    steps = sum(losses.gaussian.values()) + sum(count for _, count in noisy)
    if not steps:
        return pure
    each = delta / steps
    exact = gaussian_epsilon(np.array([*losses.gaussian]), each) * np.array([*losses.gaussian.values()])
    on_samples = (sampled_gaussian_epsilon(one.probability, one.loss, each) * count for one, count in noisy)
    return pure + math.fsum([*exact, *on_samples])


def rdp_epsilon(losses: Losses, delta: float) -> float:
    """The least ε over a grid of Rényi orders."""
    return _best_order(losses, delta)[0]


def _best_order(losses: Losses, delta: float) -> tuple[float, float]:
    """The least ε by Rényi divergences, and the order that gives it.

    Conversion: ε = R(α) + ln(1 − 1/α) − ln(α·δ)/(α − 1) (Canonne, Kamath & Steinke 2020, proposition 12).
    """
    less_one = np.logspace(-4, 10, 1530)
    if losses.sampled:  # what is on samples is least there where it isn't interpolated
        less_one = np.union1d(less_one, np.arange(1.0, 64.0))
    order = 1 + less_one
    renyi = order * losses.mu**2 / 2
    for e, count in losses.laplace.items():
        log_high = np.log(order / (2 * order - 1)) + less_one * e
        log_low = np.log(less_one / (2 * order - 1)) - order * e
        renyi += count * np.logaddexp(log_high, log_low) / less_one
    for e, count in losses.worst.items():
        # Loss e has probability 1/(1 + e^−e), loss −e has e^−e/(1 + e^−e).
        renyi += count * (np.logaddexp(less_one * e, -order * e) - np.log1p(np.exp(-e))) / less_one
    for sampled, count in losses.sampled.items():
        renyi += count * log_moments(sampled, less_one) / less_one
    epsilons = np.maximum(0.0, renyi + np.log1p(-1 / order) - np.log(order * delta) / less_one)
    best = int(np.argmin(epsilons))
    return float(epsilons[best]), float(order[best])


def pld_epsilon(losses: Losses, delta: float) -> float:
    """The ε of the composed privacy loss distribution, from above: of both directions, the larger.

    Every mechanism's losses are put on one grid, each between its two neighbours such that both distributions' masses
    are kept; this spreads the loss out, so that no hockey-stick divergence shrinks. The grids are then tilted by
    e^(θ·loss), which brings the tail that decides δ to the middle, where the FFT rounds least, and convolved. Without
    samples both directions are the same.
    """
    order_epsilon, order = _best_order(losses, delta)
    if order_epsilon == 0:
        return 0.0
    if losses.sampled:
        return max(_windowed(losses, direction, delta) for direction in DIRECTIONS)
    step = _step(losses)
    tail = delta * 1e-6
    parts = _unsampled(losses, step, tail)
    if whole_cells(parts) > MOST_CELLS:
        return _windowed(losses, "less", delta)
    if losses.mu:
        delta -= tail
    # A tilt beyond this only serves an ε that δ can't lower; it would overflow below it.
    tilt = min(order - 1, 20 * math.log(1 / delta) / order_epsilon, 100 / step)
    return tilted_epsilon(parts, step, tilt, delta)


def _unsampled(losses: Losses, step: float, tail: float) -> list[tuple[loss_grids.Grid, int]]:
    parts = [(loss_grids.laplace(e, step), count) for e, count in losses.laplace.items()]
    parts += [(loss_grids.worst(e, step), count) for e, count in losses.worst.items()]
    if losses.mu:
        parts.append((loss_grids.gaussian(losses.mu, step, tail), 1))
    return parts


def _windowed(losses: Losses, direction: Direction, delta: float) -> float:
    """The ε in one direction. The grid is as coarse as its cells and those of the window need it to be, which is sound:
    the losses are spread on that grid from the start."""
    tail = delta * 1e-6
    steps = sum(losses.sampled.values())
    step = max(_step(losses), _LEAST_STEP)
    for one in losses.sampled:
        least, most = loss_range(one, direction, tail / steps)
        step = max(step, (most - least) / _MOST_CELLS_OF_ONE)
    least = math.inf
    for _ in range(_TRIES):
        parts = _unsampled(losses, step, tail)
        parts += [(loss_grid(one, direction, step, tail / steps), count) for one, count in losses.sampled.items()]
        # Above the grids, of the one Gaussian, of all samples together, and above the window.
        epsilon, wanted = windowed_epsilon(parts, step, tail, delta - 3 * tail)
        least = min(least, epsilon)
        if wanted <= step:
            break
        step = wanted
    return least


def _step(losses: Losses) -> float:
    """The grid: fine against one mechanism's typical loss, coarser where very many are added up."""
    typical = [*losses.pure, *((one.typical, count) for one, count in losses.sampled.items())]
    counts = sum(count for _, count in typical) + (1 if losses.mu else 0)
    squares = losses.mu**2 + math.fsum(count * e**2 for e, count in typical)
    return math.sqrt(squares / counts) * 0.003 * min(25.0, max(1.0, counts / 12))
