"""What nested events cost: against their definitions, against dp_accounting, and against each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld import privacy_loss_distribution as oracle
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from dpbeam.accounting import composition, convolution
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.composition import Losses, pld_epsilon, rdp_epsilon
from dpbeam.accounting.sampled import (
    DIRECTIONS,
    Sampled,
    inner_loss,
    log_moments,
    loss_grid,
    outer_loss,
    sampled_gaussian_delta,
    sampled_gaussian_epsilon,
)
from dpbeam.accounting.unfolding import unfold
from dpbeam.errors import Refused
from dpbeam.mechanisms.cost_events import Composed, PoissonSampled, Repeated
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding, TruncatedGeometric

ANY = 1e3
TRAINING = [
    (0.01, 1.0, 10_000, 1e-5),
    (0.01, 1.0, 1, 1e-5),
    (0.1, 2.0, 100, 1e-6),
    (0.5, 1.0, 10, 1e-5),
    (0.001, 0.6, 10_000, 1e-7),
    (0.9, 3.0, 30, 1e-5),
    (0.02, 4.0, 1_000, 1e-8),
    (0.3, 0.5, 3, 1e-6),
]
"""Probabilities, noise multipliers, steps and δ."""


def gaussian(sigma=1.0, l2=1.0, metric="m"):
    return Gaussian(stage="s", metric=metric, sigma=sigma, l2=l2)


def laplace(scale=1.0, l1=1.0):
    return Laplace(stage="s", metric="l", scale=scale, l1=l1)


def geometric(epsilon=1.0, delta=1e-8):
    return TruncatedGeometric(stage="s", epsilon=epsilon, delta=delta, l0=1)


def training(q, sigma, steps):
    return Repeated(event=PoissonSampled(probability=q, event=gaussian(sigma)), count=steps)


def cost(*events, delta=1e-6):
    return certify_events(events, epsilon=1e9, delta=delta)


@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), TRAINING)
def test_no_method_is_below_the_truth_and_the_least_is_near_what_dp_accounting_says(q, sigma, steps, delta):
    """The truth is above dp_accounting's optimistic estimate."""
    certificate = cost(training(q, sigma, steps), delta=delta)
    least = oracle.from_gaussian_mechanism(
        sigma, pessimistic_estimate=False, use_connect_dots=False, sampling_prob=q, value_discretization_interval=1e-4
    )
    least = least.self_compose(steps).get_epsilon_for_delta(delta) if steps > 1 else least.get_epsilon_for_delta(delta)
    event = dp_event.SelfComposedDpEvent(dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(sigma)), steps)
    by_oracle = PLDAccountant(value_discretization_interval=1e-4).compose(event).get_epsilon(delta)
    assert all(least <= epsilon for epsilon in certificate.to_json().values())
    assert certificate.epsilon <= by_oracle * 1.02
    assert certificate.pld <= by_oracle * 1.02


@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), TRAINING)
def test_the_renyi_epsilon_is_that_of_dp_accounting_at_whole_orders(q, sigma, steps, delta):
    event = dp_event.SelfComposedDpEvent(dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(sigma)), steps)
    by_oracle = RdpAccountant(orders=range(2, 257)).compose(event).get_epsilon(delta)
    losses = Losses(sampled={Sampled(probability=q, pair="gaussian", loss=1 / sigma): steps})
    assert rdp_epsilon(losses, delta) <= by_oracle * (1 + 1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("q", "mu"), [(0.01, 1.0), (0.3, 0.4), (0.9, 3.0), (1e-4, 2.0)])
def test_the_delta_of_sampled_gaussian_noise_is_what_its_densities_say(direction, q, mu):
    x = np.linspace(-10, 10 + mu, 4_000_001)
    without = stats.norm.pdf(x)
    mixed = (1 - q) * without + q * stats.norm.pdf(x, mu)
    one, other = (mixed, without) if direction == "less" else (without, mixed)
    for epsilon in (0.0, q / 4, q, 1.0):
        exact = integrate.trapezoid(np.maximum(0.0, one - math.exp(epsilon) * other), x)
        stated = float(sampled_gaussian_delta(direction, q, mu, np.array(epsilon)))
        assert stated == pytest.approx(exact, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("q", "mu"), [(0.01, 1.0), (0.3, 0.4), (0.9, 3.0), (1e-4, 2.0)])
@pytest.mark.parametrize("step", [1e-4, 1e-2])
def test_a_grid_has_no_less_delta_than_the_noise_and_hardly_more(direction, q, mu, step):
    first, masses = loss_grid(Sampled(probability=q, pair="gaussian", loss=mu), direction, step, 1e-15)
    losses = (first + np.arange(len(masses))) * step
    for epsilon in (0.0, q / 4, q / 2, q, 1.0, 2.5):
        found = float(np.dot(masses, np.maximum(0.0, -np.expm1(np.minimum(0.0, epsilon - losses)))))
        exact = float(sampled_gaussian_delta(direction, q, mu, np.array(epsilon)))
        assert exact <= found * (1 + 1e-9) + 1e-15
        assert found <= exact * 1.01 + step * 0.3


@pytest.mark.parametrize("pair", ["gaussian", "laplace", "worst"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_grid_keeps_the_masses_of_both_distributions(pair, direction):
    for q, loss in ((0.2, 1.3), (1e-3, 0.1), (0.999, 4.0)):
        first, masses = loss_grid(Sampled(probability=q, pair=pair, loss=loss), direction, 1e-3, 1e-20)
        losses = (first + np.arange(len(masses))) * 1e-3
        assert math.fsum(masses) == pytest.approx(1, abs=1e-12)
        assert math.fsum(masses * np.exp(-losses)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_of_what_is_outside_a_grid_only_what_is_above_is_left_to_delta(direction):
    tail, mu, q = 0.2, 1.0, 0.7
    _, masses = loss_grid(Sampled(probability=q, pair="gaussian", loss=mu), direction, 1e-4, tail)
    reach = math.sqrt(2 * math.log(1 / tail))
    near, far = stats.norm.sf(reach), stats.norm.sf(reach + mu)
    above = q * near + (1 - q) * far if direction == "less" else near
    assert 1 - math.fsum(masses) == pytest.approx(above, rel=1e-2)
    assert above <= tail


@given(q=st.floats(1e-9, 1 - 1e-9), loss=st.floats(-20, 300))
def test_losses_on_a_sample_and_within_are_each_others_inverse(q, loss):
    outer = outer_loss(np.array([loss]), q)
    assert float(outer_loss(inner_loss(outer, q), q)[0]) == pytest.approx(float(outer[0]), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("q", "mu"), [(0.01, 1.0), (0.3, 0.4), (0.7, 2.0)])
@pytest.mark.parametrize("less_one", [0.1, 0.5, 1.0, 1.7, 3.0, 9.5])
def test_log_moments_are_above_those_of_the_densities_in_both_directions(q, mu, less_one):
    order = less_one + 1
    x = np.linspace(-15, 15 + order * mu, 400_001)
    without, cell = stats.norm.logpdf(x), math.log((30 + order * mu) / 400_000)
    mixed = without + outer_loss(mu * x - mu**2 / 2, q)
    stated = float(log_moments(Sampled(probability=q, pair="gaussian", loss=mu), np.array([less_one]))[0])
    for one, other in ((mixed, without), (without, mixed)):
        exact = float(np.logaddexp.reduce(order * one - less_one * other)) + cell
        assert exact <= stated + 1e-12
        if less_one in (1.0, 3.0) and one is mixed:
            assert stated == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("order", [2000.0, 1e5])
def test_above_the_last_whole_order_a_moment_is_still_an_upper_bound(order):
    q, mu = 0.01, 1e-3
    x = np.linspace(-12, 12 + order * mu, 2_000_001)
    logs = order * outer_loss(mu * x - mu**2 / 2, q) + stats.norm.logpdf(x) + math.log(x[1] - x[0])
    stated = float(log_moments(Sampled(probability=q, pair="gaussian", loss=mu), np.array([order - 1]))[0])
    assert np.logaddexp.reduce(logs) <= stated + 1e-9


@pytest.mark.parametrize("larger", DIRECTIONS)
def test_the_direction_that_costs_more_counts(monkeypatch, larger):
    monkeypatch.setattr(composition, "_windowed", lambda _, direction, delta: 2.0 if direction == larger else 1.0)
    losses = Losses(sampled={Sampled(probability=0.1, pair="gaussian", loss=1.0): 9})
    assert pld_epsilon(losses, 1e-6) == 2.0


def test_directions_are_not_mixed_by_composition():
    """A step's costlier pair in either direction would be a pair of no direction, and cost more."""
    losses = Losses(sampled={Sampled(probability=0.3, pair="gaussian", loss=2.0): 3})
    less, more = (composition._windowed(losses, direction, 1e-6) for direction in DIRECTIONS)
    assert more <= -3 * math.log(0.7) < less


@pytest.mark.parametrize("q", [0.001, 0.2, 0.9])
def test_one_step_costs_its_exact_epsilon(q):
    exact = sampled_gaussian_epsilon(q, 1.0, 1e-5)
    assert max(float(sampled_gaussian_delta(d, q, 1.0, np.array(exact))) for d in DIRECTIONS) <= 1e-5
    assert max(float(sampled_gaussian_delta(d, q, 1.0, np.array(exact * 0.999))) for d in DIRECTIONS) > 1e-5
    assert cost(training(q, 1.0, 1), delta=1e-5).pld == pytest.approx(exact, rel=1e-3)


def test_more_steps_cost_more():
    costs = [cost(training(0.02, 1.0, steps)) for steps in (1, 3, 10, 100, 1_000, 30_000)]
    assert [c.pld for c in costs] == sorted(c.pld for c in costs)
    assert [c.rdp for c in costs] == sorted(c.rdp for c in costs)
    assert [c.naive for c in costs] == sorted(c.naive for c in costs)


def test_larger_samples_cost_more():
    costs = [cost(training(q, 1.0, 100)) for q in (0.001, 0.01, 0.02, 0.1, 0.5, 0.9, 1.0)]
    assert [c.pld for c in costs] == sorted(c.pld for c in costs)
    assert [c.rdp for c in costs] == sorted(c.rdp for c in costs)
    assert [c.naive for c in costs] == sorted(c.naive for c in costs)


@pytest.mark.parametrize("event", [gaussian(2.0), laplace(3.0), geometric(0.5)])
def test_a_sample_of_nearly_everybody_costs_what_everybody_does(event):
    whole = cost(Repeated(event=event, count=5))
    assert cost(Repeated(event=PoissonSampled(probability=1.0, event=event), count=5)) == whole
    nearly = cost(Repeated(event=PoissonSampled(probability=1 - 1e-12, event=event), count=5))
    for method, epsilon in whole.to_json().items():
        assert nearly.to_json()[method] == pytest.approx(epsilon, rel=3e-3 if method != "rdp" else 3e-2)


EVERY = (gaussian(3.0), laplace(4.0), geometric(0.1), PoissonSampled(probability=0.1, event=gaussian(2.0)))


@pytest.mark.parametrize("event", EVERY)
def test_a_repeated_event_costs_what_so_many_cost_one_by_one(event):
    assert cost(Repeated(event=event, count=7)) == cost(*[event] * 7)


def test_repeats_of_repeats_and_compositions_are_counted_out():
    inner = Composed(events=(EVERY[0], Repeated(event=Composed(events=EVERY), count=2)))
    assert cost(Repeated(event=inner, count=3)) == cost(*[EVERY[0]] * 3, *EVERY * 6)


def test_gaussians_on_one_sample_cost_what_one_gaussian_on_it_does():
    several = Composed(events=(gaussian(5.0), Repeated(event=gaussian(10.0, metric="n"), count=3)))
    one = gaussian(1 / math.hypot(0.2, math.sqrt(3) * 0.1))
    both = [unfold([Repeated(event=PoissonSampled(probability=0.05, event=e), count=9)]).losses for e in (several, one)]
    assert pld_epsilon(both[0], 1e-6) == pytest.approx(pld_epsilon(both[1], 1e-6), rel=1e-9)


def test_a_repeat_on_one_sample_costs_more_than_a_repeat_of_samples():
    on_one = PoissonSampled(probability=0.1, event=Repeated(event=gaussian(3.0), count=20))
    of_many = Repeated(event=PoissonSampled(probability=0.1, event=gaussian(3.0)), count=20)
    assert cost(on_one).pld > 1.5 * cost(of_many).pld


def test_a_sample_of_a_sample_is_a_sample_by_the_product():
    twice = PoissonSampled(probability=0.1, event=PoissonSampled(probability=0.5, event=gaussian()))
    assert cost(Repeated(event=twice, count=50)).pld == pytest.approx(cost(training(0.05, 1.0, 50)).pld, rel=1e-9)


@pytest.mark.parametrize(("q", "scale", "steps"), [(0.1, 1.0, 50), (0.5, 0.3, 3), (0.01, 0.5, 1_000)])
def test_laplace_noise_on_samples_costs_what_dp_accounting_says(q, scale, steps):
    found = cost(Repeated(event=PoissonSampled(probability=q, event=laplace(scale)), count=steps), delta=1e-5)
    least = oracle.from_laplace_mechanism(
        scale, pessimistic_estimate=False, use_connect_dots=False, sampling_prob=q, value_discretization_interval=1e-4
    )
    above = oracle.from_laplace_mechanism(scale, sampling_prob=q, value_discretization_interval=1e-4)
    assert all(least.self_compose(steps).get_epsilon_for_delta(1e-5) <= e for e in found.to_json().values())
    assert found.pld <= above.self_compose(steps).get_epsilon_for_delta(1e-5) * 1.02


def test_pure_epsilons_on_one_sample_add_up_before_they_are_sampled():
    event = PoissonSampled(probability=0.2, event=Composed(events=(laplace(2.0), geometric(0.25))))
    assert cost(event).naive == pytest.approx(math.log1p(0.2 * math.expm1(0.75)))


def hockey_stick(pairs, epsilon):
    """δ(ε) of independent finite pairs of distributions, by their every outcome together."""
    first = [math.prod(chosen) for chosen in itertools.product(*(one for one, _ in pairs))]
    second = [math.prod(chosen) for chosen in itertools.product(*(other for _, other in pairs))]
    return math.fsum(max(0.0, p - math.exp(epsilon) * q) for p, q in zip(first, second, strict=True))


@pytest.mark.parametrize("q", [0.05, 0.3, 0.8])
@pytest.mark.parametrize(("epsilon", "failure"), [(1.0, 0.01), (0.2, 0.03), (3.0, 0.002)])
@pytest.mark.parametrize("both_fail", [True, False])
def test_a_failure_on_a_sample_adds_its_share_in_both_directions(q, epsilon, failure, both_fail):
    """The lemma of docs/accounting.md by enumeration: outcomes that only P has, ±ε, and outcomes that only Q has."""
    high = 1 / (1 + math.exp(-epsilon))
    with_one = [failure, (1 - failure) * high, (1 - failure) * (1 - high), 0.0]
    lost = failure if both_fail else 0.0
    without = [0.0, (1 - lost) * (1 - high), (1 - lost) * high, lost]
    mixed = [(1 - q) * b + q * a for a, b in zip(with_one, without, strict=True)]
    clean = [(1 - q) * b + q * a for a, b in ((high, 1 - high), (1 - high, high))]
    steps = 4
    for at in (0.0, 0.1, 0.5, 1.0, 2.0):
        for worse, better in (
            ((mixed, without), (clean, [1 - high, high])),
            ((without, mixed), ([1 - high, high], clean)),
        ):
            assert hockey_stick([worse] * steps, at) <= steps * q * failure + hockey_stick([better] * steps, at) + 1e-12


def test_the_deltas_of_repeated_selections_add_up_by_their_count():
    with pytest.raises(Refused) as refused:
        cost(Repeated(event=geometric(0.1, 1e-8), count=100), delta=1e-6)
    assert str(refused.value).startswith("the selections alone fail with probability 1e-06, but the run may spend")
    assert unfold([Repeated(event=geometric(0.1, 1e-8), count=99)]).failures == pytest.approx(99e-8)


THRESHOLDING = GaussianThresholding(stage="s", sigma=8.0, l2=2.0, threshold=43.0, delta=4e-7, l0=4)


def test_a_selection_on_samples_fails_with_the_probability_that_a_unit_is_in_them():
    event = PoissonSampled(probability=0.1, event=Composed(events=(THRESHOLDING, gaussian(4.0))))
    found = unfold([Repeated(event=event, count=30)])
    assert found.failures == pytest.approx(30 * 0.1 * 4e-7)
    assert list(found.losses.sampled) == [Sampled(probability=0.1, pair="gaussian", loss=math.hypot(0.25, 0.25))]


def test_a_selection_on_a_sample_of_a_sample_fails_by_both_probabilities():
    event = PoissonSampled(probability=0.1, event=PoissonSampled(probability=0.5, event=geometric(1.0, 1e-6)))
    assert unfold([event]).failures == pytest.approx(0.05 * 1e-6)


def test_what_is_not_drawn_is_counted_for_every_gaussian_on_every_sample():
    flat, many = unfold([gaussian()]).undrawn, unfold([training(0.01, 1.0, 10_000)]).undrawn
    assert many == pytest.approx(10_000 * flat)
    within = PoissonSampled(probability=0.01, event=PoissonSampled(probability=0.1, event=gaussian()))
    assert unfold([Repeated(event=within, count=3)]).undrawn == pytest.approx(3 * flat)
    with pytest.raises(
        Refused, match=r"^what is drawn differs from Gaussian noise with probability 8\.\d+e-10, which "
    ):
        cost(training(0.01, 1.0, 10_000), delta=5e-10)


def test_a_mechanism_on_a_sample_that_contradicts_itself_is_refused():
    wrong = LaplaceThresholding(stage="s", scale=4.0, l1=1.0, threshold=60.0, delta=2e-6, l0=4)
    with pytest.raises(Refused, match=r"^stage s, partitions: l1 must be at least 4 for l0 4, got 1$"):
        cost(Repeated(event=PoissonSampled(probability=0.1, event=wrong), count=2), delta=1e-3)


def sampled(*inner):
    return PoissonSampled(probability=0.1, event=Composed(events=inner))


REMEDY = "; draw a PoissonSampled of its own, of all units, for each, or give all of them gaussian noise"


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (sampled(gaussian(), laplace()), "pure epsilons beside it, .*gaussian (s, m), laplace (s, l)"),
        (sampled(gaussian(), sampled(gaussian())), "a second sample beside or repeated within it, .*gaussian (s, m)"),
        (sampled(Repeated(event=sampled(gaussian()), count=2)), "a second sample beside or repeated within it"),
        (sampled(sampled(gaussian()), laplace()), "a second sample beside or repeated within it"),
    ],
)
def test_what_has_no_known_cost_on_one_sample_is_refused_by_name(event, what):
    with pytest.raises(Refused) as refused:
        cost(event)
    said, _, names = what.partition(", .*")
    assert str(refused.value).startswith(f"a sample with probability 0.1 holds gaussian noise with {said}, and ")
    assert str(refused.value).endswith(names + REMEDY)


def test_more_mechanisms_than_are_counted_are_refused():
    with pytest.raises(Refused) as refused:
        cost(Repeated(event=Repeated(event=gaussian(), count=10**5), count=10**5))
    assert str(refused.value) == "a certificate is for at most 1000000000 mechanisms, got 10000000000; repeat less"


def test_nested_events_above_their_epsilon_are_refused_with_what_to_change():
    with pytest.raises(Refused) as refused:
        certify_events([training(0.01, 1.0, 1_000)], epsilon=1.0, delta=1e-6)
    said, _, remedy = str(refused.value).partition(", but ")
    assert said == f"the mechanisms cost epsilon {cost(training(0.01, 1.0, 1_000)).epsilon:.6g} at delta 1e-06"
    assert remedy == ("the run may spend 1; add noise, repeat less, or take samples with a smaller probability")


@pytest.mark.parametrize(
    "event",
    [
        training(0.01, 1.0, 10_000),
        training(1e-4, 0.5, 1_000_000),
        training(0.3, 0.4, 100_000),
        Repeated(event=laplace(100.0), count=1_000_000),
        Composed(events=(training(0.01, 1.0, 10_000), laplace(2.0), geometric(0.5), gaussian(5.0))),
    ],
)
def test_ten_thousand_steps_are_one_grid_and_a_window(monkeypatch, event):
    """The work is pinned, which time isn't: cells of the grids and of the window, and how many are convolved."""
    composed, sizes = convolution._composed, []

    def spy(parts, step, tilt, start, size):
        sizes.append((len(parts), max(len(grid) for (_, grid), _ in parts), size))
        return composed(parts, step, tilt, start, size)

    monkeypatch.setattr(convolution, "_composed", spy)
    assert cost(event, delta=1e-4).pld < 1e9
    assert 1 <= len(sizes) <= 2
    assert all(parts <= 4 and cells <= (1 << 20) + 4 and size <= 1.1 * (1 << 22) for parts, cells, size in sizes)


@pytest.mark.parametrize("higher", [convolution._HIGHER, np.array([])])
@pytest.mark.parametrize("steps", [3, 40, 300])
def test_a_window_has_no_smaller_epsilon_than_the_whole_and_hardly_a_larger_one(monkeypatch, higher, steps):
    """Also where only Chernoff's bound on what is above it says how far it reaches."""
    monkeypatch.setattr(convolution, "_HIGHER", higher)
    grid = loss_grid(Sampled(probability=0.2, pair="laplace", loss=1.0), "less", 5e-3, 1e-12)
    whole = convolution.tilted_epsilon([(grid, steps)], 5e-3, 9.0 / math.sqrt(steps), 1e-6)
    found, wanted = convolution.windowed_epsilon([(grid, steps)], 5e-3, 1e-12, 1e-6 - 1e-12)
    assert wanted == 5e-3
    assert whole * (1 - 1e-6) <= found <= whole * 1.001 + (0.0 if len(higher) else 2.0)


@given(
    q=st.floats(1e-6, 0.999),
    mu=st.floats(0.01, 5),
    steps=st.integers(1, 10_000),
    delta=st.floats(-12, -2).map(lambda x: 10**x),
)
@settings(deadline=None, max_examples=15)
def test_the_pld_epsilon_is_never_above_the_renyi_epsilon_by_more_than_the_grid(q, mu, steps, delta):
    losses = Losses(sampled={Sampled(probability=q, pair="gaussian", loss=mu): steps})
    assert 0 <= pld_epsilon(losses, delta) <= rdp_epsilon(losses, delta) * 1.03 + 1e-6
