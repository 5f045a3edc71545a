"""What events cost in a budget's meter, and what a cap stated in (ε, δ) is in it.

Two meters add up more tightly than ε does: `zcdp` adds ρ, `gdp` μ². Each sets aside what a run fails with, a δ that is
added up beside it. Proofs and sources: docs/accounting.md, "Meters". Like the rest of the certifier this knows nothing
of how noise was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from dpbeam.accounting.certify import check_consistent
from dpbeam.accounting.composition import Losses
from dpbeam.accounting.gaussian_curve import Floats, gaussian_delta, gaussian_epsilon
from dpbeam.accounting.sampled import Sampled
from dpbeam.accounting.unfolding import NO_PRIVACY, unfold
from dpbeam.errors import Refused
from dpbeam.mechanisms.cost_events import Event

Metered = Literal["zcdp", "gdp"]
"""The meters that add up another loss than ε; what a run costs in `basic` is what its plan was certified for."""

FOR_CONVERSION = 0.5
"""The part of a cap's δ that ρ or μ² are read as an ε at; the rest is what runs may fail with in all."""
FOR_SAMPLERS = 1e-3
"""The part of a cap's ε that is left to the samplers' relative errors, which no cost counts: 2^-44 for each number."""
_ROUNDING = 1e-9


Pair = Literal["gaussian", "laplace", "worst"]
Cost = Callable[[Pair, float], float]
"""ρ or μ² of a pair by its loss: μ of a Gaussian, ε of the others."""


@dataclass(frozen=True, kw_only=True)
class MeteredLoss:
    """`loss` is ρ or μ², `delta` the probability that is set aside."""

    loss: float
    delta: float


def metered_cost(events: Sequence[Event], meter: Metered) -> MeteredLoss:
    """What the events cost together, rounded up.

    Guarantee: for one privacy unit, added or removed, the events together are ρ-zCDP, or μ-GDP with μ² the loss, but
    for a failure of probability `delta`, on the conditions of `certify_events`; and costs of several runs may be added
    up, also where later ones are chosen after the results of earlier ones were seen. A sample costs here what it would
    if all units were in it, where no tighter bound is proved.

    Raises:
        Refused: no event; a mechanism that contradicts itself; a sample that holds what has no cost here; or a loss so
            large that it protects nobody.
    """
    if not events:
        raise Refused("a cost needs at least one mechanism: nothing is released")
    unfolded = unfold(events)
    for mechanism in unfolded.mechanisms:
        check_consistent(mechanism)
    if not unfolded.losses.size < NO_PRIVACY:
        raise Refused(f"the mechanisms cost epsilon {NO_PRIVACY:.0f} or more, which protects nobody; add noise")
    squared = _squared_mu if meter == "gdp" else _rho
    delta = (unfolded.failures + unfolded.undrawn) * (1 + _ROUNDING)
    return MeteredLoss(loss=_total(unfolded.losses, squared) * (1 + _ROUNDING), delta=delta)


def metered_cap(epsilon: float, delta: float, meter: Metered) -> MeteredLoss:
    """The most that may be spent in the meter under a cap of (ε, δ), rounded down.

    Guarantee: what spends at most this `loss` and `delta` is (ε, δ)-private. The split of the cap is fixed: half of its
    δ is what ρ or μ² are read as an ε at, half is for failures; a thousandth of its ε is left to the samplers' errors.
    """
    at, conversion = epsilon * (1 - FOR_SAMPLERS), delta * FOR_CONVERSION * (1 - _ROUNDING)
    loss = _most_rho(at, conversion) if meter == "zcdp" else _most_mu(at, conversion) ** 2
    return MeteredLoss(loss=loss * (1 - _ROUNDING), delta=delta * (1 - FOR_CONVERSION))


def epsilon_of(loss: float, delta: float, meter: Metered) -> float:
    """The least ε that a `loss` of ρ or μ² proves at `delta`, rounded up. `delta` is all for the conversion."""
    if loss == 0:
        return 0.0
    if meter == "gdp":
        return float(gaussian_epsilon(np.array([math.sqrt(loss)]), delta)[0]) * (1 + _ROUNDING)
    less_one = _orders(loss, delta)
    order = 1 + less_one
    proved = order * loss + np.log1p(-1 / order) - np.log(order * delta) / less_one
    return max(0.0, float(np.min(proved)) * (1 + _ROUNDING))


def _total(losses: Losses, cost: Cost) -> float:
    counted = [cost("gaussian", mu) * count for mu, count in losses.gaussian.items()]
    counted += [cost("laplace", e) * count for e, count in losses.laplace.items()]
    counted += [cost("worst", e) * count for e, count in losses.worst.items()]
    counted += [_of_sample(one, cost) * count for one, count in losses.sampled.items()]
    return math.fsum(counted)


def _of_sample(sampled: Sampled, cost: Cost) -> float:
    """Without the sample, or as the worst pair of its pure ε, if that is less: who is in a sample, and that it was
    drawn, tells nobody more than if everybody were in it."""
    whole = cost(sampled.pair, sampled.loss)
    pure = sampled.pure_epsilon
    return whole if pure is None else min(whole, cost("worst", pure))


def _rho(pair: Pair, loss: float) -> float:
    """The least ρ of a Gaussian pair, of Laplace noise and of the worst pair that is `loss`-DP."""
    match pair:
        case "gaussian":
            return loss**2 / 2
        case "laplace":
            return loss**2 / 2 if loss < 1e-4 else loss + math.expm1(-loss)  # the first is more, and cancels nothing
        case "worst":
            return loss * math.tanh(loss / 2)


def _squared_mu(pair: Pair, loss: float) -> float:
    """The least μ² of a Gaussian pair that is no harder to tell than this pair."""
    match pair:
        case "gaussian":
            return loss**2
        case "laplace":  # Φ(−μ/2) = e^(−ε/2)/2
            near, log_tail = -math.expm1(-loss / 2), -loss / 2 - math.log(2)
        case "worst":  # Φ(−μ/2) = 1/(1 + e^ε)
            near, log_tail = math.tanh(loss / 2), -float(np.logaddexp(0.0, loss))
    # The first is exact where the probability is near a half, the second where it is small.
    mu = 2 * math.sqrt(2) * special.erfinv(near) if loss < 1 else -2 * special.ndtri_exp(log_tail)
    return float(mu) ** 2


def _most_rho(epsilon: float, delta: float) -> float:
    """The largest ρ that proves (ε, δ), by the best of many orders: each proves its own."""

    def proved(less_one: Floats) -> Floats:
        order = 1 + less_one
        above = (math.log(delta) + np.log(less_one) - order * np.log1p(-1 / order)) / less_one
        return np.asarray((epsilon + above) / order)

    coarse = np.logspace(-6, 10, 3201)
    best = coarse[int(np.argmax(proved(coarse)))]
    return float(np.max(proved(best * np.logspace(-0.01, 0.01, 2001))))


def _most_mu(epsilon: float, delta: float) -> float:
    """The largest μ whose Gaussian pair is (ε, δ)-DP, from below."""
    low, high = 0.0, math.sqrt(2 * epsilon) + 40.0
    for _ in range(100):
        middle = (low + high) / 2
        fits = float(gaussian_delta(np.array(middle), np.array(epsilon))) <= delta
        low, high = (middle, high) if fits else (low, middle)
    return low


def _orders(rho: float, delta: float) -> Floats:
    """Orders, less one, about the one that is best where ρ is small against it."""
    return np.asarray(math.sqrt(math.log(1 / delta) / rho) * np.logspace(-3, 3, 6001))
