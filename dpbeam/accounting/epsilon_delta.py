"""The (ε, δ) from which PipelineDP or PyDP, which take no scales, build a mechanism of at least the planned noise."""

from __future__ import annotations

import numpy as np

from dpbeam.accounting.gaussian_curve import gaussian_delta, gaussian_epsilon
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)

_MOST_EPSILON = 700.0
"""Of a Gaussian's (ε, δ): from 710 on, where floats no longer hold e^ε, PyDP 1.1.5 builds one with no noise at all."""


def epsilon_delta(mechanism: Mechanism) -> tuple[float, float]:
    """The (ε, δ) from which PipelineDP builds a mechanism with at least this noise, and at most this failure."""
    match mechanism:
        case Laplace():
            return mechanism.l1 / mechanism.scale, 0.0
        case LaplaceThresholding():
            return mechanism.l1 / mechanism.scale, mechanism.delta
        case Gaussian():
            return _gaussian_pair(mechanism.l2 / mechanism.sigma, 1e-6)
        case GaussianThresholding():
            # Half of the δ is the noise's there, half the threshold's.
            epsilon, delta = _gaussian_pair(mechanism.l2 / mechanism.sigma, mechanism.delta)
            return epsilon, 2 * delta
        case WeightedThresholding():
            epsilon, delta = _gaussian_pair(mechanism.l2 / mechanism.sigma, mechanism.delta)
            return epsilon, delta + mechanism.delta
        case TruncatedGeometric():
            return mechanism.epsilon, mechanism.delta
        case _:
            raise TypeError(f"no (ε, δ) is known of {mechanism!r}")


def _gaussian_pair(mu: float, most: float) -> tuple[float, float]:
    """An (ε, δ) whose least Gaussian has parameter μ, or a smaller one where its ε would be too large for PyDP: δ is
    `most`, or less where ε would be too near zero."""
    epsilon = float(gaussian_epsilon(np.array([mu]), most)[0])
    if epsilon >= mu / 10:
        return min(epsilon, _MOST_EPSILON), most
    return mu / 10, min(most, float(gaussian_delta(np.array([mu]), np.array([mu / 10]))[0]))
