"""The exact (ε, δ) of Gaussian noise, by Balle & Wang, ICML'18, theorem 8."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


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
