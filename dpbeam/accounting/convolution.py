"""Grids of privacy losses, composed by FFT after a tilt that brings the tail that decides δ to the middle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import fft, special

from dpbeam.accounting.loss_grids import Grid


def tilted_epsilon(parts: list[tuple[Grid, int]], step: float, tilt: float, delta: float) -> float:
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
