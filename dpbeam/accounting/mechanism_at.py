"""The mechanism that a request becomes at a common scale of noise, and what a selection's threshold is there."""

from __future__ import annotations

import math

from scipy import special

from dpbeam.accounting import rounds
from dpbeam.accounting.requests import Request
from dpbeam.mechanisms import truncated_geometric
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)


def with_loss_of(planned: Mechanism, request: Request) -> Mechanism:
    """The mechanism of this request that costs what a planned one costs: the same noise against the sensitivity, or
    the same ε, and the same δ.

    Raises:
        ValueError: `planned` has no noise that is known here.
    """
    match planned:
        case Laplace():
            std, delta = math.sqrt(2) * planned.scale / planned.l1, 0.0
        case Gaussian():
            std, delta = planned.sigma / planned.l2, 0.0
        case LaplaceThresholding():
            std, delta = math.sqrt(2) * planned.scale / planned.l1, planned.delta
        case GaussianThresholding() | WeightedThresholding():
            std, delta = planned.sigma / planned.l2, planned.delta
        case TruncatedGeometric():
            std, delta = math.sqrt(2) / planned.epsilon, planned.delta
        case _:
            raise ValueError(f"no noise is known of {planned!r}")
    return mechanism_at(request, std * request.weight, delta)


def mechanism_at(request: Request, scale: float, delta: float) -> Mechanism:
    """The mechanism of this request at the common scale; `delta` is what a selection may fail with."""
    std = scale / request.weight
    l1, l2 = request.sensitivity
    stage, metric, l0, pre_threshold = request.stage, request.metric, request.l0, request.pre_threshold
    match request.kind:
        case "laplace":
            return Laplace(stage=stage, metric=metric, scale=l1 * std / math.sqrt(2), l1=l1, other=request.other)
        case "gaussian":
            return Gaussian(stage=stage, metric=metric, sigma=l2 * std, l2=l2, other=request.other)
        case "truncated_geometric":
            selection = TruncatedGeometric(
                stage=stage,
                metric=metric,
                epsilon=math.sqrt(2) / std,
                delta=delta,
                l0=l0,
                pre_threshold=pre_threshold,
            )
            truncated_geometric.check(selection)
            return selection
        case "laplace_thresholding":
            b = l1 * std / math.sqrt(2)
            return LaplaceThresholding(
                stage=stage,
                metric=metric,
                scale=b,
                l1=l1,
                threshold=_threshold(_Laplace, b, delta, l0),
                delta=delta,
                l0=l0,
                pre_threshold=pre_threshold,
            )
        case "gaussian_thresholding":
            sigma = l2 * std
            return GaussianThresholding(
                stage=stage,
                metric=metric,
                sigma=sigma,
                l2=l2,
                threshold=_threshold(_Normal, sigma, delta, l0),
                delta=delta,
                l0=l0,
                pre_threshold=pre_threshold,
            )
        case "weighted_thresholding":
            return rounds.mechanism(request, l2 * std, delta)
    raise ValueError(f"unknown kind {request.kind!r}")


class _Normal:
    """The upper tail of N(0, `scale`²), as `scipy.stats.norm` has it, which takes longer to load than plans to make."""

    @staticmethod
    def isf(probability: float, scale: float) -> float:
        return float(-special.ndtri(probability) * scale)

    @staticmethod
    def sf(value: float, scale: float) -> float:
        return float(special.ndtr(-value / scale))


class _Laplace:
    """The upper tail of Laplace noise, likewise."""

    @staticmethod
    def isf(probability: float, scale: float) -> float:
        return scale * (-math.log(2 * probability) if probability < 0.5 else math.log(2 * (1 - probability)))

    @staticmethod
    def sf(value: float, scale: float) -> float:
        x = value / scale
        return 0.5 * math.exp(-x) if x > 0 else 1 - 0.5 * math.exp(x)


def _threshold(noise: type[_Normal] | type[_Laplace], scale: float, delta: float, l0: int) -> float:
    """The least threshold at which a unit alone in `l0` partitions is shown in any with probability ≤ `delta`."""
    per_partition = -math.expm1(math.log1p(-delta) / l0)
    threshold = 1.0 + noise.isf(per_partition, scale)
    # Quantiles are rounded to nearest; step up until the threshold is on the safe side.
    step = 1e-13
    while -math.expm1(l0 * math.log1p(-noise.sf(threshold - 1.0, scale))) > delta:
        threshold, step = threshold + step * max(1.0, abs(threshold)), step * 2
    # What is drawn are whole steps of a noise that is wider by a step: both are below 2**-38 of the scale.
    return threshold + 2.0**-36 * (scale + abs(threshold))
