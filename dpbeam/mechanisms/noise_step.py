"""The power of two of which all noise of a mechanism is whole steps. The plan alone decides it.

Google's samplers are asked for noise of one size only, counted in these steps; docs/accounting.md ("What is really
drawn") says why this size: where they round nothing that could show, and what they promise there.
"""

from __future__ import annotations

import math

from dpbeam.mechanisms.events import Additive, Laplace, LaplaceThresholding, Thresholding
from dpbeam.mechanisms.fixedpoint import exponent_of
from dpbeam.mechanisms.noise_width import scale_of

LAPLACE_BITS = 40
"""A Laplace scale is above 2**39 steps and at most 2**40: there the sampler's own granularity is one step."""
GAUSSIAN_BITS = 48
"""A Gaussian σ is above 2**47 steps and at most 2**48. The sampler's doubles tell halves of a step apart up to 2**52
steps, which is 16 σ, and it draws none beyond 8.9 σ."""

_LEAST_EXPONENT = -900


def step_of(noise: Additive | Thresholding) -> float:
    """The step of a mechanism's noise, a power of two.

    Raises:
        ValueError: noise of a scale below 2**-900, whose steps a float might not hold.
    """
    scale = scale_of(noise)
    exponent = exponent_of(scale)
    if exponent < _LEAST_EXPONENT:
        raise ValueError(f"noise must have a scale of at least 2**{_LEAST_EXPONENT}, got {scale!r}")
    return math.ldexp(1.0, exponent - bits_of(noise))


def bits_of(noise: Additive | Thresholding) -> int:
    """The scale is above half of 2**this steps, and at most all of them."""
    return LAPLACE_BITS if isinstance(noise, Laplace | LaplaceThresholding) else GAUSSIAN_BITS
