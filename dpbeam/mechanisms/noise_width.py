"""How wide the noise of a mechanism is: its scale, standard deviation and 95 % half-width."""

from __future__ import annotations

import math

from dpbeam.mechanisms.events import (
    Additive,
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Thresholding,
)

NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
LAPLACE_95 = math.log(20.0)
"""Where the two tails of a standard Laplace distribution leave 5 %."""


def scale_of(noise: Additive | Thresholding) -> float:
    """σ of Gaussian noise, b of Laplace noise."""
    match noise:
        case Gaussian() | GaussianThresholding():
            return noise.sigma
        case Laplace() | LaplaceThresholding():
            return noise.scale
    raise ValueError(f"{type(noise).__name__} adds no noise to values")


def std(noise: Additive | Thresholding) -> float:
    """The standard deviation."""
    return scale_of(noise) * (math.sqrt(2) if isinstance(noise, Laplace | LaplaceThresholding) else 1.0)


def half_width(noise: Additive | Thresholding) -> float:
    """Half the width of the interval around 0 that the noise stays in with probability 95 %."""
    return scale_of(noise) * (LAPLACE_95 if isinstance(noise, Laplace | LaplaceThresholding) else NORMAL_95)
