"""The certifier's numbers against closed forms and against dp_accounting; what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpbeam.accounting.calibrate import calibrate
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.composition import Losses, naive_epsilon, pld_epsilon, rdp_epsilon
from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding, TruncatedGeometric

ANY = 1e3


def gaussian(sigma=1.0, l2=1.0):
    return Gaussian(stage="s", metric="m", sigma=sigma, l2=l2)


def laplace(scale=1.0, l1=1.0):
    return Laplace(stage="s", metric="m", scale=scale, l1=l1)


def geometric(epsilon=1.0, delta=1e-8):
    return TruncatedGeometric(stage="s", epsilon=epsilon, delta=delta, l0=1)


def test_one_gaussian_costs_its_analytic_epsilon():
    certificate = certify_events([gaussian(4.2247)], epsilon=ANY, delta=1e-6)
    assert certificate.naive == pytest.approx(1.0, rel=1e-4)
    assert certificate.pld == pytest.approx(1.0, rel=1e-3)


def test_fifty_small_gaussians_cost_what_their_exact_composition_does():
    (one,) = calibrate(
        [Request(stage="s", metric="m", kind="gaussian", weight=1.0, l1=1.0, l2=1.0)], epsilon=0.1, delta=1e-8
    )
    certificate = certify_events([one] * 50, epsilon=ANY, delta=1e-6)
    assert certificate.pld == pytest.approx(0.63, rel=0.01)
    assert certificate.naive == pytest.approx(4.88, rel=0.01)


def test_laplace_mechanisms_add_up_naively():
    assert certify_events([laplace(2.0, 6.0)] * 4, epsilon=ANY, delta=1e-9).naive == pytest.approx(12.0)


def test_a_pair_of_worst_case_mechanisms_costs_what_the_exact_composition_theorem_says():
    # Two ε-DP pairs lose 2ε together with probability p² and nothing more than 0 else: δ(x) = p²·(1 − e^(x − 2ε)).
    epsilon, delta = 1.0, 0.05
    high = 1 / (1 + math.exp(-epsilon))
    exact = 2 * epsilon + math.log1p(-delta / high**2)
    assert pld_epsilon(Losses(worst={epsilon: 2}), delta) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("delta", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize(("mu", "laplaces"), [(0.3, {0.1: 5}), (1.0, {1.0: 1, 0.02: 40}), (0.05, {0.3: 12})])
def test_the_certifier_agrees_with_dp_accounting(mu, laplaces, delta):
    losses = Losses(gaussian={mu: 1}, laplace=laplaces)
    events = [dp_event.GaussianDpEvent(1 / mu)]
    events += [dp_event.SelfComposedDpEvent(dp_event.LaplaceDpEvent(1 / e), n) for e, n in laplaces.items()]
    event = dp_event.ComposedDpEvent(events)
    by_pld = PLDAccountant(value_discretization_interval=1e-3).compose(event).get_epsilon(delta)
    by_rdp = RdpAccountant().compose(event).get_epsilon(delta)
    assert pld_epsilon(losses, delta) == pytest.approx(by_pld, rel=2e-3)
    assert rdp_epsilon(losses, delta) <= by_rdp * (1 + 1e-3)
    assert rdp_epsilon(losses, delta) >= pld_epsilon(losses, delta)


@given(
    mu=st.floats(0.01, 3),
    laplaces=st.dictionaries(st.floats(0.01, 3), st.integers(1, 4), max_size=3),
    worst=st.dictionaries(st.floats(0.01, 3), st.integers(1, 4), max_size=3),
    delta=st.floats(-30, -3).map(lambda x: 10**x),
)
@settings(deadline=None, max_examples=60)
def test_the_pld_epsilon_is_never_above_the_renyi_epsilon_by_more_than_the_grid(mu, laplaces, worst, delta):
    losses = Losses(gaussian={mu: 1}, laplace=laplaces, worst=worst)
    assert 0 <= pld_epsilon(losses, delta) <= rdp_epsilon(losses, delta) * 1.03 + 1e-6


def test_a_delta_far_below_float_rounding_is_still_composed():
    losses = Losses(gaussian={0.2: 1})
    assert pld_epsilon(losses, 1e-100) == pytest.approx(naive_epsilon(losses, 1e-100), rel=2e-3)


def test_a_truncated_geometric_selection_costs_its_epsilon_and_delta():
    certificate = certify_events([geometric(0.7)], epsilon=0.7, delta=1e-6)
    assert certificate.naive == 0.7
    assert certificate.pld == pytest.approx(0.7, rel=5e-3)


def test_each_certificate_number_is_finite_and_not_negative():
    certificate = certify_events([gaussian(1e8), laplace(1e8), geometric(1e-8)], epsilon=ANY, delta=1e-2)
    assert all(0 <= value < math.inf for value in certificate.to_json().values())


def test_a_plan_above_its_epsilon_is_refused():
    with pytest.raises(Refused) as refused:
        certify_events([laplace(1.0)], epsilon=0.9, delta=1e-6)
    assert str(refused.value) == (
        "the mechanisms cost epsilon 0.999998 at delta 1e-06, but the run may spend 0.9; add noise to events of your "
        "own; a plan that dpbeam made is not safe to run, report it as a fault in the calibration"
    )


def test_selections_that_use_up_delta_are_refused():
    with pytest.raises(Refused) as refused:
        certify_events([geometric(0.1, 5e-7), geometric(0.1, 5e-7)], epsilon=1.0, delta=1e-6)
    assert str(refused.value) == (
        "the selections alone fail with probability 1e-06, but the run may spend delta 1e-06; raise the run's delta or "
        "drop a selection"
    )


def test_no_mechanism_is_refused():
    with pytest.raises(Refused) as refused:
        certify_events([], epsilon=1.0, delta=1e-6)
    assert str(refused.value) == "a certificate needs at least one mechanism: nothing is released"


def test_what_is_no_event_is_refused_by_its_type():
    with pytest.raises(Refused) as refused:
        certify_events([laplace(), "laplace"], epsilon=1.0, delta=1e-6)
    assert str(refused.value) == "no privacy loss is known of str: events are those of dpbeam.events"


@pytest.mark.parametrize("events", [laplace(), {laplace()}])
def test_a_certificate_of_what_is_no_list_of_events_is_refused(events):
    with pytest.raises(Refused) as refused:
        certify_events(events, epsilon=1.0, delta=1e-6)
    assert str(refused.value) == (
        "a certificate needs a list of events (dpbeam.events); of a single one, a list of that"
    )


@pytest.mark.parametrize("epsilon", [math.nan, math.inf, 0.0, -1.0, True])
def test_a_certificate_for_no_number_is_refused(epsilon):
    with pytest.raises(Refused) as refused:
        certify_events([laplace()], epsilon=epsilon, delta=1e-6)
    assert str(refused.value) == f"a certificate needs a positive finite epsilon, got {epsilon!r}"


@pytest.mark.parametrize("mu", [0.05, 0.5, 2.0, 3.0, 3.6, 3.9, 4.3])
@pytest.mark.parametrize("delta", [1e-10, 1e-6])
def test_what_the_gaussian_sampler_does_not_draw_is_counted(mu, delta):
    """δ at the certified ε of a Gaussian that is cut off at 8.81 σ, from its densities: with one unit there are results
    beyond the reach of what is drawn without it."""
    reach, norm = 8.81, stats.norm
    beyond = norm.sf(reach - mu) - norm.sf(reach)
    if beyond > 0.9 * delta:
        with pytest.raises(Refused, match="raise the run's delta, lower its epsilon, or use laplace noise"):
            certify_events([gaussian(1 / mu)], epsilon=ANY, delta=delta)
        return
    epsilon = certify_events([gaussian(1 / mu)], epsilon=ANY, delta=delta).epsilon
    least = min(reach, epsilon / mu + mu / 2)
    within = norm.sf(least - mu) - norm.sf(reach - mu) - math.exp(epsilon) * (norm.sf(least) - norm.sf(reach))
    assert (beyond + within) / (1 - 2 * norm.sf(reach)) <= delta


def test_moves_of_many_numbers_together_are_counted_by_their_norm():
    """`_undrawn` allows Q(8.81 − μ) + μ/2**44 for all numbers that one unit moves, however many up to 2**24."""
    norm, generator = stats.norm, np.random.default_rng(5)
    for mu in (0.01, 0.3, 1.0, 4.0):
        for count in (1, 2, 3, 10, 1000, 1 << 20):
            moves = generator.dirichlet(np.full(count, generator.choice([0.01, 0.1, 1.0, 100.0]))) ** 0.5 * mu
            assert np.sum(norm.sf(8.81 - moves) - norm.sf(8.81)) <= norm.sf(8.81 - mu) + mu * 2.0**-44
        equal = mu / 2.0**12
        assert 2.0**24 * (norm.sf(8.81 - equal) - norm.sf(8.81)) <= mu * 2.0**-44


def test_a_gaussian_thresholding_of_more_numbers_than_are_counted_is_refused():
    most = replace(THRESHOLDINGS["gaussian"], sigma=8192.0, l2=4096.0, threshold=1e5, l0=2**24)
    certify_events([most], epsilon=ANY, delta=1e-5)
    with pytest.raises(Refused, match=r"^stage s, partitions: l0 must be at most 16777216 with gaussian noise"):
        certify_events([replace(most, l0=2**24 + 1, l2=4097.0)], epsilon=ANY, delta=1e-5)


@pytest.mark.parametrize("mechanism", [laplace(1e-300), geometric(1e300)])
def test_a_mechanism_without_privacy_is_refused_and_not_computed(mechanism):
    with pytest.raises(Refused) as refused:
        certify_events([mechanism], epsilon=1.0, delta=1e-6)
    assert str(refused.value) == "the mechanisms cost epsilon 10000 or more, but the run may spend 1"


THRESHOLDINGS = {
    "laplace": LaplaceThresholding(stage="s", scale=4.0, l1=4.0, threshold=60.0, delta=2e-6, l0=4),
    "gaussian": GaussianThresholding(stage="s", sigma=8.0, l2=2.0, threshold=43.0, delta=4e-7, l0=4),
}


@pytest.mark.parametrize("kind", THRESHOLDINGS)
def test_a_threshold_that_gives_its_delta_is_accepted(kind):
    certify_events([THRESHOLDINGS[kind]], epsilon=ANY, delta=1e-5)


@pytest.mark.parametrize("kind", THRESHOLDINGS)
def test_a_threshold_too_low_for_its_delta_is_refused(kind):
    with pytest.raises(Refused, match=r"^stage s, partitions: a threshold of 20 shows a lone unit with probability "):
        certify_events([replace(THRESHOLDINGS[kind], threshold=20.0)], epsilon=ANY, delta=0.5)


@pytest.mark.parametrize(("kind", "name"), [("laplace", "l1"), ("gaussian", "l2")])
def test_a_thresholding_of_too_small_a_sensitivity_is_refused(kind, name):
    with pytest.raises(Refused) as refused:
        certify_events([replace(THRESHOLDINGS[kind], **{name: 1.0})], epsilon=ANY, delta=1e-5)
    must = {"l1": "4", "l2": "2"}[name]
    assert str(refused.value) == f"stage s, partitions: {name} must be at least {must} for l0 4, got 1"


def test_the_certifier_imports_neither_the_calibration_nor_its_library():
    from pathlib import Path

    from dpbeam.accounting import certify as certify_module
    from dpbeam.accounting import composition, convolution, gaussian_curve, loss_grids, sampled, unfolding

    for module in (certify_module, composition, convolution, gaussian_curve, loss_grids, sampled, unfolding):
        imports = [line for line in Path(module.__file__).read_text().splitlines() if "import" in line.split(" ")]
        assert not [line for line in imports if "calibrate" in line or "dp_accounting" in line]
