"""Privacy losses in, an upper bound on their composed ε out: by adding up, by Rényi divergences, by PLDs.

All three are written from the mechanisms' closed forms with NumPy alone, so that the certifier doesn't depend on
the library that the calibration uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dpbeam.accounting import loss_grids
from dpbeam.accounting.convolution import tilted_epsilon
from dpbeam.accounting.gaussian_curve import gaussian_epsilon


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
    parts = [(loss_grids.laplace(e, step), count) for e, count in losses.laplace.items()]
    parts += [(loss_grids.worst(e, step), count) for e, count in losses.worst.items()]
    if losses.mu:
        parts.append((loss_grids.gaussian(losses.mu, step, tail), 1))
        delta -= tail
    # A tilt beyond this only serves an ε that δ can't lower; it would overflow below it.
    tilt = min(order - 1, 20 * math.log(1 / delta) / order_epsilon, 100 / step)
    return tilted_epsilon(parts, step, tilt, delta)


def _step(losses: Losses) -> float:
    """The grid: fine against one mechanism's typical loss, coarser where very many are added up."""
    counts = sum(count for _, count in losses.pure) + (1 if losses.mu else 0)
    squares = losses.mu**2 + math.fsum(count * e**2 for e, count in losses.pure)
    return math.sqrt(squares / counts) * 0.003 * min(25.0, max(1.0, counts / 12))
