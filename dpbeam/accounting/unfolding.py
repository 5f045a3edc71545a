"""Events that nest, unfolded into what is composed: privacy losses with their counts, and failures.

Nothing is listed as often as it happens: ten thousand steps are one loss and a count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import special

from dpbeam.accounting.composition import Losses
from dpbeam.accounting.sampled import Sampled
from dpbeam.errors import Refused
from dpbeam.mechanisms.cost_events import MOST_COUNT, Composed, Event, PoissonSampled, Repeated
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)

# Losses above the first stop to mean anything, and count as it; those below the second count as this much.
NO_PRIVACY = 1e4
LEAST_LOSS = 1e-9
LEAST_PROBABILITY = 1e-9
"""Samples with less count as if they had this much, which costs more."""


@dataclass(frozen=True, kw_only=True)
class Unfolded:
    """What events cost: the losses to compose, the δs of their selections in all, and the δ of all that is drawn
    otherwise than by a Gaussian law (docs/accounting.md, "What is really drawn")."""

    mechanisms: tuple[Mechanism, ...]
    """Every one that occurs, once."""
    losses: Losses
    failures: float
    undrawn: float


def unfold(events: Iterable[Event]) -> Unfolded:
    """The events' costs, by their definitions (docs/accounting.md, "Costs that nest").

    Raises:
        Refused: a sample holds what has no cost here; more than `MOST_COUNT` mechanisms.
    """
    flat: Counter[Mechanism] = Counter()
    samples: Counter[PoissonSampled] = Counter()
    for event in events:
        _count(event, 1, flat, samples)
    gaussian, laplace, worst = _losses(flat)
    sampled: Counter[Sampled] = Counter()
    failures = [_failure(mechanism) * count for mechanism, count in flat.items()]
    drawn = flat.copy()
    for sample, count in samples.items():
        pair, failure, inside = _sampled(sample)
        sampled[pair] += count
        failures.append(failure * count)
        for mechanism, times in inside.items():
            drawn[mechanism] += times * count
    if drawn.total() > MOST_COUNT:
        raise Refused(f"a certificate is for at most {MOST_COUNT} mechanisms, got {drawn.total()}; repeat less")
    return Unfolded(
        mechanisms=tuple(drawn),
        losses=Losses(gaussian=dict(gaussian), laplace=dict(laplace), worst=dict(worst), sampled=dict(sampled)),
        failures=math.fsum(failures),
        undrawn=_undrawn(drawn),
    )


def _count(event: Event, times: int, flat: Counter[Mechanism], samples: Counter[PoissonSampled]) -> None:
    """Adds up what `event`, `times` times, is made of: mechanisms on everybody, and samples; one that has everybody is
    none."""
    match event:
        case Composed():
            for inner in event.events:
                _count(inner, times, flat, samples)
        case Repeated():
            _count(event.event, times * event.count, flat, samples)
        case PoissonSampled():
            if event.probability == 1:
                _count(event.event, times, flat, samples)
            else:
                samples[event] += times
        case _:
            flat[event] += times


def _losses(mechanisms: Counter[Mechanism]) -> tuple[Counter[float], Counter[float], Counter[float]]:
    """The privacy losses once the selections' δs are set aside: Gaussian, Laplace, worst-case.

    A Laplace mechanism on a vector is no worse than on one number moved by its whole l1 (docs/accounting.md).
    Thresholding is its noisy count, and a failure. An (ε, δ) selection is the worst ε-DP pair, and a failure.
    """
    gaussian: Counter[float] = Counter()
    laplace: Counter[float] = Counter()
    worst: Counter[float] = Counter()
    for mechanism, count in mechanisms.items():
        match mechanism:
            case Gaussian() | GaussianThresholding() | WeightedThresholding():
                gaussian[_clamped(mechanism.l2 / mechanism.sigma)] += count
            case Laplace() | LaplaceThresholding():
                laplace[_clamped(mechanism.l1 / mechanism.scale)] += count
            case TruncatedGeometric():
                worst[_clamped(mechanism.epsilon)] += count
    return gaussian, laplace, worst


def _failure(mechanism: Mechanism) -> float:
    return 0.0 if isinstance(mechanism, Laplace | Gaussian) else mechanism.delta


def _undrawn(mechanisms: Counter[Mechanism]) -> float:
    """Of each Gaussian: no sample is beyond 8.81 σ, so that one unit, by a move of μσ, brings results that couldn't be
    without it. What is on a sample is counted as if every unit were in it."""
    gaussian, _, _ = _losses(mechanisms)
    mu, count = np.array([*gaussian]), np.array([*gaussian.values()])
    return float(np.sum(count * (special.ndtr(mu - 8.81) + (mu + 0.5) * 2.0**-44)))


def _clamped(loss: float) -> float:
    return min(NO_PRIVACY, max(LEAST_LOSS, loss))


def _sampled(sample: PoissonSampled) -> tuple[Sampled, float, Counter[Mechanism]]:
    """The pair that a sample costs, the probability that it fails with, and the mechanisms that draw on it.

    Raises:
        Refused: what is on the sample has no cost here.
    """
    drawn: Counter[Mechanism] = Counter()
    samples: Counter[PoissonSampled] = Counter()
    _count(sample.event, 1, drawn, samples)
    gaussian, laplace, worst = _losses(drawn)
    inner: Counter[Sampled] = Counter()
    failures = [_failure(mechanism) * count for mechanism, count in drawn.items()]
    for within, count in samples.items():
        pair, failure, inside = _sampled(within)
        inner[pair] += count
        failures.append(failure * count)
        for mechanism, times in inside.items():
            drawn[mechanism] += times * count
    q = max(LEAST_PROBABILITY, sample.probability)
    pair = _pair(q, gaussian, laplace, worst, inner, drawn)
    return pair, sample.probability * math.fsum(failures), drawn


def _pair(
    q: float,
    gaussian: Counter[float],
    laplace: Counter[float],
    worst: Counter[float],
    inner: Counter[Sampled],
    drawn: Counter[Mechanism],
) -> Sampled:
    if not (laplace or worst or inner):
        mu = math.hypot(*(mu * math.sqrt(count) for mu, count in gaussian.items()))
        return Sampled(probability=q, pair="gaussian", loss=_clamped(mu))
    if not (gaussian or laplace or worst) and inner.total() == 1:
        (within,) = inner
        # A unit is in the inner sample if it is in both, which are drawn independently; rounded up.
        both = max(LEAST_PROBABILITY, math.nextafter(q * within.probability, 1.0))
        return Sampled(probability=both, pair=within.pair, loss=within.loss)
    pure = [(one.pure_epsilon, count) for one, count in inner.items()]
    if gaussian or any(epsilon is None for epsilon, _ in pure):
        raise Refused(_no_cost(q, inner, drawn))
    if not (worst or inner) and laplace.total() == 1:
        (epsilon,) = laplace
        return Sampled(probability=q, pair="laplace", loss=epsilon)
    every = [*laplace.items(), *worst.items(), *((e, count) for e, count in pure if e is not None)]
    return Sampled(probability=q, pair="worst", loss=_clamped(math.fsum(e * count for e, count in every)))


def _no_cost(q: float, inner: Counter[Sampled], drawn: Counter[Mechanism]) -> str:
    names = ", ".join(sorted({f"{m.kind} ({m.stage}, {m.metric})" for m in drawn}))
    what = "a second sample beside or repeated within it" if inner else "pure epsilons beside it"
    return (
        f"a sample with probability {q!r} holds gaussian noise with {what}, and what they cost together isn't known "
        f"here: {names}; draw a PoissonSampled of its own, of all units, for each, or give all of them gaussian noise"
    )
