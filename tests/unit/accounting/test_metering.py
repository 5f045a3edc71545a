"""What runs cost in each meter is at or above what they lose, alone and composed, and caps hold what they say."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from dpbeam.accounting import composition
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.composition import Losses
from dpbeam.accounting.gaussian_curve import gaussian_delta, gaussian_epsilon
from dpbeam.accounting.metering import FOR_SAMPLERS, MeteredLoss, epsilon_of, metered_cap, metered_cost
from dpbeam.accounting.unfolding import unfold
from dpbeam.errors import Refused
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.meters import GDP, METERS, ZCDP
from dpbeam.mechanisms.cost_events import PoissonSampled, Repeated
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, TruncatedGeometric

METERED = ("zcdp", "gdp")
LOSSES = (1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5, 0.999, 1.0, 2.0, 5.0, 20.0)


def gaussian(mu: float) -> Gaussian:
    return Gaussian(stage="s", metric="m", sigma=1 / mu, l2=1.0)


def laplace(epsilon: float) -> Laplace:
    return Laplace(stage="s", metric="m", scale=1 / epsilon, l1=1.0)


def selection(epsilon: float, delta: float = 1e-9) -> TruncatedGeometric:
    return TruncatedGeometric(stage="s", epsilon=epsilon, delta=delta, l0=1)


def laplace_delta(loss: float, epsilon: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, -np.expm1((epsilon - loss) / 2))


def worst_delta(loss: float, epsilon: np.ndarray) -> np.ndarray:
    """Of randomised response: (e^loss − e^ε)/(1 + e^loss)."""
    return np.maximum(0.0, -np.expm1(epsilon - loss) / (1 + math.exp(-loss)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("event", "curve"), [(laplace, laplace_delta), (selection, worst_delta)])
def test_the_gaussian_that_dominates_is_above_at_every_epsilon_and_no_smaller_one_is(loss, event, curve) -> None:
    mu = math.sqrt(metered_cost([event(loss)], "gdp").loss)
    at = np.concatenate([[0.0], np.linspace(0, loss * 1.1, 2001), np.geomspace(loss * 1e-9, loss, 500)])
    assert (gaussian_delta(np.array(mu), at) >= curve(loss, at) * (1 - 1e-8) - 1e-15).all()  # of a sum near 1/2
    less = gaussian_delta(np.array(mu * (1 - 1e-6)), at)
    assert (less < curve(loss, at)).any()


@pytest.mark.parametrize("loss", LOSSES[2:])
@pytest.mark.parametrize("event", [laplace, selection])
def test_rho_is_above_every_renyi_divergence_by_its_order_and_no_smaller_one_is(loss, event) -> None:
    rho = metered_cost([event(loss)], "zcdp").loss
    less = np.concatenate([np.logspace(-3, 4, 4001), [1e-4]])
    order = 1 + less
    if event is laplace:
        high, low = np.log(order / (2 * order - 1)) + less * loss, np.log(less / (2 * order - 1)) - order * loss
    else:
        high, low = less * loss - np.log1p(np.exp(-loss)), -order * loss - np.log1p(np.exp(-loss))
    divergence = np.logaddexp(high, low) / less
    assert (divergence <= rho * order * (1 + 1e-7) + 1e-11).all()
    assert (divergence > 0.99 * rho * order).any()


def test_a_gaussian_costs_its_closed_forms_and_a_selection_sets_its_delta_aside() -> None:
    thresholding = GaussianThresholding(
        stage="s", sigma=10.0, l2=2.0, threshold=1 + 10 * 7.0, delta=1e-9, l0=4, pre_threshold=1
    )
    zcdp, gdp = (metered_cost([gaussian(0.1), thresholding], meter) for meter in METERED)
    assert zcdp.loss == pytest.approx(0.1**2 / 2 + 0.2**2 / 2, rel=1e-8)
    assert gdp.loss == pytest.approx(0.1**2 + 0.2**2, rel=1e-8)
    assert zcdp.delta == gdp.delta
    assert 1e-9 < zcdp.delta < 1.001e-9
    assert metered_cost([selection(0.5, 3e-9)], "zcdp").delta == pytest.approx(3e-9, rel=1e-8)
    assert metered_cost([laplace(0.5)], "zcdp").delta == 0


@pytest.mark.parametrize("meter", METERED)
def test_a_sample_costs_no_more_than_everybody(meter) -> None:
    for event in (gaussian(0.3), laplace(0.3)):
        sample = Repeated(event=PoissonSampled(probability=0.01, event=event), count=100)
        assert 0 < metered_cost([sample], meter).loss <= 100 * metered_cost([event], meter).loss * (1 + 1e-8)
    pure = metered_cost([PoissonSampled(probability=0.01, event=laplace(0.3))], meter)
    assert pure.loss < metered_cost([laplace(0.3)], meter).loss / 1000


@pytest.mark.parametrize("meter", METERED)
def test_what_contradicts_itself_or_protects_nobody_has_no_cost(meter) -> None:
    with pytest.raises(Refused, match="protects nobody"):
        metered_cost([laplace(1e5)], meter)
    with pytest.raises(Refused, match="at least one mechanism"):
        metered_cost([], meter)
    with pytest.raises(Refused, match="shows a lone unit"):
        metered_cost([GaussianThresholding(stage="s", sigma=1.0, l2=1.0, threshold=2.0, delta=1e-9, l0=1)], meter)


@pytest.mark.parametrize("meter", METERED)
@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
def test_a_cap_in_the_meter_is_worth_its_epsilon_and_delta_and_no_less(meter, epsilon, delta) -> None:
    cap = metered_cap(epsilon, delta, meter)
    proved = epsilon_of(cap.loss, delta - cap.delta, meter)
    assert epsilon * (1 - FOR_SAMPLERS) * (1 - 1e-4) <= proved <= epsilon
    if meter == "gdp":
        exact = float(gaussian_delta(np.array(math.sqrt(cap.loss)), np.array(epsilon * (1 - FOR_SAMPLERS))))
        assert exact <= delta / 2
    else:  # ρ-zCDP holds more than Gaussians; they are among it
        exact = float(gaussian_delta(np.array(math.sqrt(2 * cap.loss)), np.array(epsilon)))
        assert exact <= delta / 2


def test_zcdp_is_read_as_an_epsilon_no_lower_than_any_order_proves() -> None:
    for rho in (1e-6, 1e-3, 0.1, 1.0, 10.0):
        for delta in (1e-3, 1e-6, 1e-12):
            less = np.geomspace(1e-5, 1e9, 200_001)
            best = np.min((1 + less) * rho + np.log1p(-1 / (1 + less)) - np.log((1 + less) * delta) / less)
            assert epsilon_of(rho, delta, "zcdp") == pytest.approx(max(0.0, best), rel=1e-6)


def history(rng: random.Random) -> list[object]:
    """1 to 40 events of all kinds, some repeated."""
    kinds = rng.choice([("g",), ("g",), ("l",), ("s",), ("g", "l"), ("g", "l", "s")])
    events: list[object] = []
    for _ in range(rng.randint(1, 12)):
        size = 10 ** rng.uniform(-2.5, 0)
        kind = rng.choice(kinds)
        made = {"g": gaussian, "l": laplace, "s": selection}[kind](size)
        events.append(Repeated(event=made, count=rng.choice([1, 1, 2, 5, 20])))
    return events


def true_epsilon(losses: Losses, delta: float) -> float:
    """The composed loss from below: exact for Gaussians alone, and for pure losses that are equal; else that of the
    Gaussians by themselves, or of the largest pure loss."""
    known = [float(gaussian_epsilon(np.array([losses.mu]), delta)[0]) * (1 - 1e-9)] if losses.mu else []
    for loss, count in losses.worst.items():
        known.append(_repeated_response(loss, count, delta))
    for loss in losses.laplace:
        known.append(max(0.0, loss + 2 * math.log1p(-delta)))
    return max(known)


def _repeated_response(loss: float, count: int, delta: float) -> float:
    """The ε of randomised response, `count` times, from below: exactly, over its binomial losses."""
    k = np.arange(count + 1)
    losses = (2 * k - count) * loss
    log_mass = special.gammaln(count + 1) - special.gammaln(k + 1) - special.gammaln(count - k + 1)
    log_mass = log_mass + k * (loss - np.logaddexp(0, loss)) - (count - k) * np.logaddexp(0, loss)
    low, high = 0.0, count * loss
    for _ in range(60):
        middle = (low + high) / 2
        above = losses > middle
        if np.sum(np.exp(log_mass[above]) * -np.expm1(middle - losses[above])) <= delta:
            high = middle
        else:
            low = middle
    return low


@pytest.mark.parametrize("seed", range(20))
def test_for_a_thousand_random_histories_what_is_enforced_is_at_or_above_what_was_lost(seed) -> None:
    """50 histories a seed. The truth is exact for Gaussians, and for what is drawn by randomised response; of mixed
    histories it is that of their largest part, and PLDs of some are in the next test."""
    rng, delta = random.Random(seed), 1e-6
    for _ in range(50):
        events = history(rng)
        losses = unfold(events).losses
        truth = true_epsilon(losses, delta)
        for meter in METERS.values():
            if meter.name in METERED:
                cost = metered_cost(events, meter.name)
                charged = Amount.charge(cost.loss, cost.delta, meter)
                units = charged.epsilon / 10**12
                assert epsilon_of(units, delta, meter.name) >= truth
            else:
                assert composition.naive_epsilon(losses, delta) >= truth


@pytest.mark.parametrize("seed", range(12))
def test_for_mixed_histories_what_is_enforced_is_at_or_above_the_pld(seed) -> None:
    """The PLD is an upper bound as well, within 0.3 % here; so is the comparison."""
    rng, delta = random.Random(1000 + seed), 1e-6
    events = [gaussian(0.2), laplace(0.3), selection(0.2, 1e-12), *history(rng)]
    pld = composition.pld_epsilon(unfold(events).losses, delta)
    for meter in METERED:
        assert epsilon_of(metered_cost(events, meter).loss, delta, meter) >= pld * 0.997


def admitted(meter: str, cap: tuple[float, float], mu: float) -> int:
    """How many runs of one Gaussian of this μ a cap admits, as a ledger counts."""
    if meter == "basic":
        # A run of (ε, δ), each the same part of the cap: as many as there are parts, for the best number of parts.
        return max(n for n in range(1, 400) if float(gaussian_epsilon(np.array([mu]), cap[1] / n)[0]) <= cap[0] / n)
    found, by = metered_cap(*cap, meter), {"zcdp": ZCDP, "gdp": GDP}[meter]
    cost = metered_cost([gaussian(mu)], meter)
    left, one = Amount.cap(found.loss, found.delta, by), Amount.charge(cost.loss, cost.delta, by)
    return min(left.epsilon // one.epsilon, left.delta // one.delta)


@pytest.mark.parametrize("cap", [(1.0, 1e-6), (3.0, 1e-6), (10.0, 1e-5)])
def test_on_fifty_gaussian_runs_zcdp_admits_twice_basic_and_gdp_a_tenth_more(cap) -> None:
    mu = math.sqrt(2 * metered_cap(*cap, "zcdp").loss / 50.5)
    assert admitted("zcdp", cap, mu) == 50
    assert admitted("zcdp", cap, mu) >= 2 * admitted("basic", cap, mu)
    assert admitted("gdp", cap, mu) >= Fraction(11, 10) * admitted("zcdp", cap, mu)
    together = [Repeated(event=gaussian(mu), count=admitted("gdp", cap, mu))]
    assert certify_events(together, epsilon=cap[0], delta=cap[1]).epsilon <= cap[0]


@pytest.mark.parametrize("meter", METERED)
def test_an_adversary_who_adapts_never_passes_the_cap(meter) -> None:
    """Who chooses each run by what earlier ones gave, greedily for what is left, has at the end spent (ε, δ) at most by
    the conversion, whatever they were told; the ledger's rule is that of the filter: what doesn't fit isn't run."""
    by = {"zcdp": ZCDP, "gdp": GDP}[meter]
    for seed in range(200):
        rng, epsilon, delta = random.Random(seed), 2.0, 1e-6
        cap = metered_cap(epsilon, delta, meter)
        left, told, spent, mus, asked = Amount.cap(cap.loss, cap.delta, by), 0.0, Amount.zero(by), [], 0
        while asked < 60:
            asked += 1
            # A lucky answer makes them ask for more, an unlucky one for what just fits.
            share = min(1.0, abs(told)) if rng.random() < 0.5 else 1.001
            mu = math.sqrt(max(1e-9, share * left.epsilon / 1e12 * (2 if meter == "zcdp" else 1)))
            cost = metered_cost([gaussian(mu), selection(mu / 10, 10 ** rng.uniform(-12, -7))], meter)
            charge = Amount.charge(cost.loss, cost.delta, by)
            if not charge.fits(left):
                continue
            left, spent, told = left - charge, spent + charge, rng.gauss(mu, 1)
            mus.append(mu)
        assert spent.fits(Amount.cap(cap.loss, cap.delta, by))
        conversion = delta - spent.delta / 1e18
        truth = float(gaussian_delta(np.array(math.hypot(*mus)), np.array(epsilon)))
        assert truth + spent.delta / 1e18 <= delta
        assert conversion >= delta / 2 - 1e-18


def test_small_costs_and_caps_are_whole_units_on_the_safe_side() -> None:
    """Exhaustively for ρ of 1 to 300 units, and what lies just beside."""
    for units in range(1, 301):
        for beside in (-1e-3, 0.0, 1e-3):
            rho = (units + beside) * 1e-12
            cost = metered_cost([gaussian(math.sqrt(2 * rho))], "zcdp")
            charged = Amount.charge(cost.loss, cost.delta, ZCDP)
            assert Fraction(charged.epsilon, 10**12) >= Fraction(rho) * (1 - Fraction(1, 10**12))
            assert charged.epsilon <= units + 1
    assert isinstance(metered_cap(1, 1e-6, "gdp"), MeteredLoss)
