"""The calibration: one noise scale, common to all mechanisms of a run, at which they compose to the run's (ε, δ).

With the common scale c, a mechanism of weight w has noise of standard deviation c / w per unit of sensitivity, so
a Laplace mechanism is (√2·w / c)-DP; a truncated geometric selection is given the same ε. Composition is by
privacy loss distributions (dp_accounting), always the pessimistic estimate. `dpbeam.accounting.certify` checks the
result and shares no code with this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from dpbeam.accounting.mechanism_at import mechanism_at
from dpbeam.accounting.requests import Request, check_target
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms.events import (
    Mechanism,
)

SELECTION_DELTA_SHARE = 0.5
"""The part of the run's δ that goes to the private selections, by their weights; all else is for the composition."""

# The solver stops when the composed ε is at or below the target and above this part of it.
_GOOD_ENOUGH = 0.997
# Below this δ the FFTs inside dp_accounting round more than they compute: Rényi divergences take over.
_SMALLEST_PLD_DELTA = 1e-12
# Above this ε they would leave what floats can hold, e^ε among them: likewise.
_LARGEST_PLD_EPSILON = 300.0
_FEW = 32

SAMPLER_REACH = 8.81
"""PyDP's Gaussian samples lie within √(2·ln √n) σ, n being the trials of its binomial: √n > 2**56 here."""
LEAST_DELTA_OF_A_SAMPLER = 2.0**-45
"""What its source says that one goes wrong with (docs/accounting.md, "What is really drawn")."""
_GAUSSIAN_KINDS = ("gaussian", "gaussian_thresholding", "weighted_thresholding")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """All mechanisms as the composition sees them, at c = 1: one Gaussian, and counts of pure mechanisms by ε."""

    mu: float
    laplace: dict[float, int]
    generic: dict[float, int]
    gaussian: tuple[float, ...] = ()
    """The parts of `mu`, one for each Gaussian."""

    @property
    def pure_count(self) -> int:
        return sum(self.laplace.values()) + sum(self.generic.values())

    @property
    def pure_epsilons(self) -> list[tuple[float, int]]:
        return [*self.laplace.items(), *self.generic.items()]


Composed = Callable[[Mix, float, float, float], float]
"""The ε of a mix at a scale, on a grid of losses of about this step, at δ: from above."""


def calibrate(requests: Sequence[Request], *, epsilon: float, delta: float) -> tuple[Mechanism, ...]:
    """One mechanism for each request, in order, which together are (ε, δ)-DP with the least common noise scale.

    Guarantee: adding or removing one privacy unit, over all mechanisms together, if the engine keeps each request's
    l0 and sensitivity. The δs of the selections are outright failures and sum to `SELECTION_DELTA_SHARE`·δ; the
    pure parts and the noise compose to ε at the rest.

    Raises:
        UsageError: ε or δ out of range, or a δ too small for a truncated geometric selection or for Gaussian noise.
        Refused: no noise scale was found.
    """
    return at_scale(requests, common_scale(requests, epsilon=epsilon, delta=delta), delta=delta)


def common_scale(
    requests: Sequence[Request], *, epsilon: float, delta: float, composed: Composed | None = None
) -> float:
    """The least common noise scale of these requests. It depends on their kinds and weights alone: what one unit moves
    is another factor of the noise, so requests that differ in that only have the same scale. `composed` stands for the
    composition by dp_accounting.

    Raises:
        UsageError, Refused: as `calibrate`, but for a δ too small for a truncated geometric selection.
    """
    check_target(epsilon, delta)
    if not requests:
        raise Refused("a plan needs at least one mechanism: ask for a metric or a private selection")
    left = float(delta) - _selection_delta(requests, delta)
    return _solve(_mix(requests), float(epsilon), left, composed or _composed_epsilon)


def _selection_delta(requests: Sequence[Request], delta: float) -> float:
    return delta * SELECTION_DELTA_SHARE if any(r.is_selection for r in requests) else 0.0


def at_scale(requests: Sequence[Request], scale: float, *, delta: float) -> tuple[Mechanism, ...]:
    """The mechanisms of these requests at a common scale, in order.

    Guarantee: `calibrate`'s, if the scale is at least the requests' `common_scale` at this δ.
    """
    selection_weight = math.fsum(r.weight for r in requests if r.is_selection)
    selection_delta = _selection_delta(requests, delta)
    return tuple(
        mechanism_at(r, scale, selection_delta * r.weight / selection_weight if r.is_selection else 0.0)
        for r in requests
    )


def _mix(requests: Sequence[Request]) -> Mix:
    laplace: dict[float, int] = {}
    generic: dict[float, int] = {}
    for request in requests:
        if request.kind not in _GAUSSIAN_KINDS:
            group = generic if request.kind == "truncated_geometric" else laplace
            epsilon = math.sqrt(2) * request.weight
            group[epsilon] = group.get(epsilon, 0) + 1
    # Gaussians compose to one Gaussian, exactly.
    gaussian = tuple(r.weight for r in requests if r.kind in _GAUSSIAN_KINDS)
    mu = math.sqrt(math.fsum(weight**2 for weight in gaussian))
    return Mix(mu=mu, laplace=_bucket(laplace), generic=_bucket(generic), gaussian=gaussian)


def _bucket(group: dict[float, int], most: int = 64) -> dict[float, int]:
    """The group with its ε's rounded up by at most 2 % where there are too many different ones to compose each."""
    if len(group) <= most:
        return group
    step = math.log(1.02)
    least = min(group)
    buckets: dict[float, int] = {}
    for epsilon, count in group.items():
        rounded = max(epsilon, least * math.exp(step * math.ceil(math.log(epsilon / least) / step)))
        buckets[rounded] = buckets.get(rounded, 0) + count
    return buckets


def _solve(mix: Mix, epsilon: float, delta: float, composed: Composed) -> float:
    """The least common scale at which the mix has ε at `delta`, to within 1 − `_GOOD_ENOUGH`; never above ε."""
    least = len(mix.gaussian) * LEAST_DELTA_OF_A_SAMPLER
    if mix.gaussian and delta <= least:
        raise UsageError(
            f"Gaussian noise needs a delta above {least:.2g} (for {len(mix.gaussian)} mechanisms) beside that of the "
            f"selections, and has {delta:.2g}: its sampler may fail with as much; raise the run's delta, or use "
            "laplace noise, and laplace_thresholding to select by"
        )
    bound = _closed_form_scale(mix, epsilon, delta)
    if delta < _SMALLEST_PLD_DELTA or epsilon > _LARGEST_PLD_EPSILON:
        return _least_scale(lambda scale: _renyi_epsilon(mix, scale, delta - _undrawn(mix, scale)), epsilon, bound)
    # One grid for all scales near the closed form's. Where δ is large for the ε, the answer is a small part of it, and
    # losses so much larger would have millions of points on that grid.
    interval = _interval(mix, bound)
    return _least_scale(
        lambda scale: composed(mix, scale, max(interval, _interval(mix, scale) / 8), delta - _undrawn(mix, scale)),
        epsilon,
        bound,
    )


def _undrawn(mix: Mix, scale: float) -> float:
    """What the samples' law may differ from the Gaussian one by, as a δ, over all Gaussians of the mix.

    A sample lies within `SAMPLER_REACH` σ, so that results beyond that are drawn with one unit, moving it by μσ, and
    never without (docs/accounting.md, "What is really drawn").
    """
    parts = np.array(mix.gaussian) / scale
    return float(np.sum(special.ndtr(parts - SAMPLER_REACH) + LEAST_DELTA_OF_A_SAMPLER * (1 + 2 * parts)))


def _closed_form_scale(mix: Mix, epsilon: float, delta: float) -> float:
    """A scale that is enough by zCDP (ρ + 2·√(ρ·ln 1/δ) ≤ ε), or by the sum of the ε's where no Gaussian needs δ.

    A pure ε-DP mechanism is ε²/2-zCDP and a Gaussian of parameter μ is μ²/2-zCDP.
    """
    log_term = math.log(1 / delta)
    root_rho = epsilon / (math.sqrt(log_term + epsilon) + math.sqrt(log_term))
    squares = mix.mu**2 + math.fsum(count * e**2 for e, count in mix.pure_epsilons)
    scale = math.sqrt(squares / 2) / root_rho
    if mix.mu == 0:
        scale = min(scale, math.fsum(count * e for e, count in mix.pure_epsilons) / epsilon)
    return scale * (1 + 1e-12)


def _renyi_epsilon(mix: Mix, scale: float, delta: float) -> float:
    """ε by Rényi divergences of orders α: μ²·α/2 for the Gaussian, at most min(ε, ε²·α/2) for a pure mechanism.

    An order can't do better than ln(1/δ)/α, so orders go as far as the smallest ε needs with the smallest δ. Pure
    mechanisms alone cost the sum of their ε's at most.
    """
    if delta <= 0:
        return math.inf
    alpha = 1 + np.logspace(-3, 10, 850)
    total = alpha * (mix.mu / scale) ** 2 / 2
    for e, count in mix.pure_epsilons:
        total += count * np.minimum(e / scale, alpha * (e / scale) ** 2 / 2)
    least = max(0.0, float(np.min(total + np.log1p(-1 / alpha) - np.log(alpha * delta) / (alpha - 1))))
    return least if mix.mu else min(least, math.fsum(count * e / scale for e, count in mix.pure_epsilons))


def _interval(mix: Mix, scale: float) -> float:
    """The grid of privacy losses: fine against the typical loss of one mechanism, coarser where there are many.

    Rounding to the grid keeps the mean and adds a quarter of its square per mechanism to the variance; in a plan of
    few pure mechanisms it adds up to one step for each to the greatest loss, hence the finer grid there.
    """
    parts = mix.pure_count + (1 if mix.mu else 0)
    squares = mix.mu**2 + math.fsum(count * e**2 for e, count in mix.pure_epsilons)
    fineness = 0.005 * min(20.0, max(1.0, parts / 15))
    return fineness * math.sqrt(squares / parts) / scale


def _composed_epsilon(mix: Mix, scale: float, interval: float, delta: float) -> float:
    if delta <= 0:
        return math.inf
    if not mix.pure_count:
        return _gaussian_epsilon(mix.mu / scale, interval, delta)
    from dp_accounting.pld import privacy_loss_distribution as pld  # lazily: it loads scipy.stats

    truncation = min(1e-15, delta * 1e-6)
    parts = []
    if mix.mu:
        parts.append(pld.from_gaussian_mechanism(scale / mix.mu, value_discretization_interval=interval))
    for e, count in mix.laplace.items():
        one = pld.from_laplace_mechanism(scale / e, value_discretization_interval=interval)
        parts.append(_repeated(one, count, truncation))
    for e, count in mix.generic.items():
        one = _generic(e / scale, interval)
        parts.append(_repeated(one, count, truncation))
    composed = parts[0]
    for part in parts[1:]:
        composed = composed.compose(part)
    return float(composed.get_epsilon_for_delta(delta))


def _gaussian_epsilon(mu: float, interval: float, delta: float) -> float:
    """The ε at δ of one Gaussian whose losses are put on the grid: what dp_accounting's PLD of it says, by formula.

    On the grid's points δ(ε) is exact (Balle & Wang, ICML'18, theorem 8). Between them, where dots are connected, it is
    linear in e^ε, and above the exact one, which is convex in it.
    """

    def exact(epsilon: float) -> float:
        first = special.log_ndtr(mu / 2 - epsilon / mu)
        second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
        return float(np.exp(first) * -np.expm1(min(second - first, 0.0)))

    if exact(0.0) <= delta:
        return 0.0
    low, high = 0, 1
    while exact(high * interval) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exact(middle * interval) > delta else (low, middle)
    above, below = exact(low * interval), exact(high * interval)
    return low * interval + math.log1p((above - delta) / (above - below) * math.expm1(interval))


def _repeated(one: Any, count: int, truncation: float) -> Any:
    """`count` times the same loss. Finding where to truncate takes longer than it saves where there are few."""
    return one if count == 1 else one.self_compose(count, truncation if count > _FEW else 0.0)


def _generic(epsilon: float, interval: float) -> Any:
    """The worst pair of an ε-DP mechanism: loss ±ε, put on the grid so that no hockey-stick divergence shrinks.

    `pld.from_privacy_parameters` rounds each loss up by as much as a step, which adds up over many selections.
    """
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as pld

    high = 1 / (1 + math.exp(-epsilon))
    grid = sorted({f(s * epsilon / interval) for f in (math.floor, math.ceil) for s in (-1, 1)})
    losses = np.array(grid) * interval
    deltas = high * np.maximum(0.0, -np.expm1(losses - epsilon))
    deltas += (1 - high) * np.maximum(0.0, -np.expm1(losses + epsilon))
    return pld.PrivacyLossDistribution(pld_pmf.create_pmf_pessimistic_connect_dots(interval, grid, deltas))


def _least_scale(epsilon_at: Callable[[float], float], target: float, safe: float) -> float:
    """The least scale with `epsilon_at(scale)` ≤ target, by secants in logarithms; what it returns is always safe."""
    high, low = safe, 0.0
    high_epsilon = epsilon_at(high)
    for _ in range(60):
        if high_epsilon <= target:
            break
        # Only the rounding of the grid can lift the safe closed form above the target.
        low, high = high, high * 1.01 * max(1.0, high_epsilon / target if math.isfinite(high_epsilon) else 2.0)
        high_epsilon = epsilon_at(high)
    else:
        raise Refused(f"no noise scale was found for epsilon {target:.6g}; raise it to 1e-6 or more")
    slope = 1.2
    for _ in range(40):
        if high_epsilon >= _GOOD_ENOUGH * target or high - low < 1e-6 * high:
            return high
        # ε falls as the scale to some power between 1 (pure) and 2: step a little short of the target.
        ratio = max(high_epsilon, 1e-3 * target) / (0.9985 * target)
        guess = high * max(0.1, ratio ** (1 / slope))
        if not low < guess < high:
            guess = math.sqrt(low * high) if low else high / 2
        guess_epsilon = epsilon_at(guess)
        if guess_epsilon > 0 and high_epsilon > 0 and math.isfinite(guess_epsilon):
            slope = min(3.0, max(0.7, math.log(guess_epsilon / high_epsilon) / math.log(high / guess)))
        if guess_epsilon <= target:
            high, high_epsilon = guess, guess_epsilon
        else:
            low = guess
    return high
