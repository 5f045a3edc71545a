"""What a selection by weights asks the calibration for, and its rounds as mechanisms once the noise is known.

A round is a Gaussian mechanism on weights that one unit moves by l2 ≤ 1, and a failure with δ: that a partition is kept
which the unit alone made eligible. docs/accounting.md has the proof; `dpbeam.accounting.certify` checks a round again
by code of its own.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from dpbeam.accounting.requests import Request
from dpbeam.mechanisms.events import WeightedThresholding
from dpbeam.mechanisms.targets import OfRound
from dpbeam.queries.selections import DpSips, InRounds, Mad, Mad2r

DEFAULT_ROUNDS = 3
"""Of DP-SIPS. MAD has one round, MAD2R two."""
GROWTH, ADAPTIVE_GROWTH = 3.0, 2.0
"""Each round has this many times the weight of the one before: cheap rounds first, which find what is frequent. Those
of MAD2R also find what has a prospect, which takes a little more."""
LEAST_BIAS = 0.5
"""In MAD2R's second round a unit gives a partition that is known to be heavy down to this part of an even share."""
SATURATION_SIGMAS = 3.0
"""Weight is sent on from where a partition is this many σ above the threshold: the heaviest are kept with 99.87 %. At
two the largest group would be missing from every 44th release."""


def round_weights(private: InRounds) -> tuple[float, ...]:
    """The weight of each round, of 1 for all: squares add up to 1, since Gaussians compose by their squares."""
    match private:
        case DpSips():
            count = DEFAULT_ROUNDS if private.rounds is None else private.rounds
        case Mad():
            count = 1
        case Mad2r():
            count = 2
    growth = ADAPTIVE_GROWTH if isinstance(private, Mad2r) else GROWTH
    grown = [growth**place for place in range(count)]
    length = math.hypot(*grown)
    return tuple(weight / length for weight in grown)


def requests(stage: str, private: InRounds, l0: int, weight: float) -> list[Request]:
    """One request a round, in order; all of them cost together what one Gaussian of `weight` does."""
    return [
        Request(
            stage=stage,
            metric=OfRound(stage=stage, number=place + 1).metric,
            kind="weighted_thresholding",
            weight=weight * share,
            l0=l0,
            pre_threshold=private.pre_threshold,
            strategy=private.strategy,
            least_bias=LEAST_BIAS if isinstance(private, Mad2r) and place else 1.0,
        )
        for place, share in enumerate(round_weights(private))
    ]


def mechanism(request: Request, sigma: float, delta: float) -> WeightedThresholding:
    """The round's mechanism at noise `sigma`, with the least threshold that keeps its failure at `delta`.

    Raises:
        ValueError: the request is no round.
    """
    if request.strategy is None:
        raise ValueError(f"stage {request.stage}, {request.metric}: a round needs a strategy")
    adaptive = request.strategy != "dp_sips"
    threshold = _threshold(sigma, delta, request.l0, request.least_bias, adaptive=adaptive)
    return WeightedThresholding(
        stage=request.stage,
        metric=request.metric,
        strategy=request.strategy,
        sigma=sigma,
        l2=1.0,
        threshold=threshold,
        delta=delta,
        l0=request.l0,
        pre_threshold=request.pre_threshold,
        saturation=threshold + SATURATION_SIGMAS * sigma if adaptive else 0.0,
        least_bias=request.least_bias,
    )


def novel_weight(t: int, l0: int, least_bias: float, *, adaptive: bool) -> float:
    """The most that any of `t` partitions weighs which one unit makes eligible, over all that the unit may do.

    Its share is β/√Σβ², at most 1/√(1 + (t − 1)·b²); what it sends on to itself adds the second term (Cauchy–Schwarz).
    """
    own = 1 / (1 + (t - 1) * least_bias**2)
    sent = (least_bias / (2 * l0)) ** 2 * (l0 - t) if adaptive else 0.0
    return math.sqrt(own + sent)


def _threshold(sigma: float, delta: float, l0: int, least_bias: float, *, adaptive: bool) -> float:
    t = np.arange(1, l0 + 1)
    each = -np.expm1(math.log1p(-delta) / t)
    most = np.array([novel_weight(n, l0, least_bias, adaptive=adaptive) for n in t.tolist()])
    threshold = max(1.0, float(np.max(most - sigma * special.ndtri(each))))
    # Quantiles are rounded to nearest: a last step to the safe side, far above any rounding.
    return threshold + 1e-9 * max(1.0, threshold)
