"""Calibration against known exact results, and each of the mixes that PipelineDP's own PLD accountant gets wrong."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal, localcontext

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dpbeam.accounting import calibrate as calibration
from dpbeam.accounting.calibrate import SELECTION_DELTA_SHARE, _gaussian_epsilon, calibrate
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.mechanism_at import _Laplace, _Normal
from dpbeam.accounting.plan import solve
from dpbeam.accounting.requests import SELECTIONS, Request
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding, TruncatedGeometric
from dpbeam.mechanisms.noise_step import step_of
from tests.helpers.requested import check_requested


def request(kind, *, weight=1.0, l0=1, linf=1.0, metric="m", stage="s"):
    if kind in SELECTIONS:
        return Request(stage=stage, metric=metric, kind=kind, weight=weight, l0=l0)
    return Request(stage=stage, metric=metric, kind=kind, weight=weight, l1=l0 * linf, l2=math.sqrt(l0) * linf)


def solved(kinds, epsilon=1.0, delta=1e-6, **more):
    requests = [request(kind, **more) for kind in kinds]
    mechanisms = calibrate(requests, epsilon=epsilon, delta=delta)
    certificate = check_requested(requests, mechanisms, epsilon=epsilon, delta=delta)
    assert certificate.epsilon >= 0.95 * epsilon
    return mechanisms


def balle_wang_delta(sigma, epsilon):
    norm = stats.norm
    return norm.cdf(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * norm.cdf(-0.5 / sigma - epsilon * sigma)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.05, 1e-5), (1.0, 1e-6), (10.0, 1e-10)])
def test_one_gaussian_has_at_most_half_a_percent_more_noise_than_the_analytic_gaussian_mechanism(epsilon, delta):
    (gaussian,) = solved(["gaussian"], epsilon, delta)
    assert balle_wang_delta(gaussian.sigma, epsilon) <= delta
    assert balle_wang_delta(gaussian.sigma * 0.995, epsilon) > delta


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 10.0])
def test_one_laplace_mechanism_has_the_textbook_scale(epsilon):
    (laplace,) = solved(["laplace"], epsilon, 1e-9, l0=3, linf=2.0)
    assert laplace.l1 == 6.0
    assert laplace.scale == pytest.approx(6 / epsilon, rel=5e-3)


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 10.0])
def test_a_truncated_geometric_selection_alone_gets_the_whole_epsilon(epsilon):
    (selection,) = solved(["truncated_geometric"], epsilon, 1e-10, l0=20)
    assert isinstance(selection, TruncatedGeometric)
    assert selection.epsilon == pytest.approx(epsilon, rel=5e-3)
    assert selection.delta == SELECTION_DELTA_SHARE * 1e-10


def test_ten_gaussians_get_the_noise_that_their_exact_composition_needs():
    mechanisms = solved(["gaussian"] * 10)
    assert mechanisms[0].sigma == pytest.approx(13.36, rel=5e-3)


@pytest.mark.parametrize(
    "kinds",
    [
        ["truncated_geometric", "gaussian", "gaussian"],
        ["gaussian", "truncated_geometric", "gaussian"],
        ["truncated_geometric", "laplace"],
        ["truncated_geometric"],
        ["laplace_thresholding", "laplace"],
        ["gaussian_thresholding", "gaussian"],
        ["gaussian_thresholding", "laplace_thresholding", "truncated_geometric"],
    ],
)
def test_every_mix_and_order_meets_its_target(kinds):
    solved(kinds)


def test_a_truncated_geometric_selection_keeps_its_epsilon_whatever_stands_before_it():
    first, last = (
        {type(m): m for m in calibrate([request(k) for k in kinds], epsilon=1.0, delta=1e-6)}
        for kinds in (["truncated_geometric", "laplace"], ["laplace", "truncated_geometric"])
    )
    assert first[TruncatedGeometric].epsilon == pytest.approx(last[TruncatedGeometric].epsilon, rel=1e-9)
    assert first[TruncatedGeometric].epsilon == pytest.approx(1 / first[Laplace].scale, rel=1e-9)


def test_a_small_weight_on_a_metric_doesnt_lift_its_selection_above_the_target():
    requests = [request("truncated_geometric"), request("gaussian", weight=0.1)]
    selection, gaussian = calibrate(requests, epsilon=1.0, delta=1e-6)
    assert selection.epsilon < 1
    assert gaussian.sigma == pytest.approx(10 * math.sqrt(2) / selection.epsilon)


@pytest.mark.parametrize("kind", ["laplace_thresholding", "gaussian_thresholding"])
@pytest.mark.parametrize("delta", [1e-12, 1e-10, 1e-5])
@pytest.mark.parametrize("l0", [1, 20, 100_000])
def test_a_threshold_shows_a_lone_unit_with_the_stated_delta_and_hardly_less(kind, delta, l0):
    (selection,) = calibrate([request(kind, l0=l0)], epsilon=1.0, delta=delta)
    assert isinstance(selection, LaplaceThresholding | GaussianThresholding)
    noise = stats.laplace if kind.startswith("laplace") else stats.norm
    width = selection.scale if isinstance(selection, LaplaceThresholding) else selection.sigma
    shown = -math.expm1(l0 * math.log1p(-noise.sf((selection.threshold - 1) / width)))
    assert shown <= selection.delta
    assert shown == pytest.approx(selection.delta, rel=1e-6)


@pytest.mark.parametrize("delta", [1e-4, 1e-9, 1e-12])
@pytest.mark.parametrize("l0", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["laplace_thresholding", "gaussian_thresholding"])
def test_a_threshold_has_room_for_noise_in_whole_steps(kind, delta, l0):
    """The law that is really drawn: a two-sided geometric one, one step wider than planned; a Gaussian that is rounded
    to steps. In 60 digits, where the law is discrete."""
    (selection,) = calibrate([request(kind, l0=l0)], epsilon=1.0, delta=delta)
    step = step_of(selection)
    if isinstance(selection, LaplaceThresholding):
        with localcontext() as context:
            context.prec = 60
            wide = Decimal(selection.scale) / Decimal(step) + 1
            steps = ((Decimal(selection.threshold) - 1) / Decimal(step)).to_integral_value(ROUND_CEILING)
            shown = (-steps / wide).exp() / (1 + (-1 / wide).exp())
            each = 1 - (1 - Decimal(selection.delta)) ** (1 / Decimal(l0))
            assert shown <= each
            assert shown > each * (1 - Decimal("1e-8"))
        return
    each = -math.expm1(math.log1p(-selection.delta) / l0)
    exact = 1 + stats.norm.isf(each, scale=selection.sigma)
    assert step < selection.threshold - exact < 1e-9 * exact


def test_the_delta_of_the_selections_follows_their_weights():
    requests = [request("truncated_geometric", weight=1.0), request("gaussian_thresholding", weight=3.0)]
    first, second = calibrate(requests, epsilon=1.0, delta=1e-6)
    assert second.delta == pytest.approx(3 * first.delta)
    assert first.delta + second.delta == pytest.approx(SELECTION_DELTA_SHARE * 1e-6)


def test_noise_is_inverse_to_weight_across_kinds():
    requests = [request("laplace", weight=2.0), request("gaussian", weight=0.5, l0=4)]
    laplace, gaussian = calibrate(requests, epsilon=1.0, delta=1e-6)
    assert math.sqrt(2) * laplace.scale / laplace.l1 * 2.0 == pytest.approx(gaussian.sigma / gaussian.l2 * 0.5)


def test_more_epsilon_means_less_noise():
    sigmas = [solved(["gaussian", "laplace"], epsilon)[0].sigma for epsilon in (0.05, 0.5, 5.0, 25.0)]
    assert sigmas == sorted(sigmas, reverse=True)


def test_a_delta_too_small_for_ffts_is_met_by_renyi_divergences():
    for kinds, delta in ((["gaussian", "laplace"], 5e-13), (["laplace", "laplace"], 1e-15)):
        mechanisms = calibrate([request(kind) for kind in kinds], epsilon=1.0, delta=delta)
        assert 0.9 < certify_events(mechanisms, epsilon=1.0, delta=delta).epsilon <= 1.0


@pytest.mark.parametrize("kinds", [["gaussian"], ["gaussian_thresholding", "laplace"], ["gaussian"] * 9])
def test_a_delta_that_the_gaussian_sampler_may_fail_with_is_refused(kinds):
    with pytest.raises(
        UsageError,
        match=r"its sampler may fail with as much; raise the run's delta, or use laplace noise, and lap",
    ):
        solved(kinds, delta=2.8e-14)
    solved(kinds, delta=2e-12)


@pytest.mark.parametrize("epsilon", [30.0, 100.0, 1000.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6])
def test_gaussian_noise_is_never_so_small_that_its_sampler_s_reach_would_show(epsilon, delta):
    requests = [request("gaussian"), request("laplace")]
    gaussian, _ = calibrate(requests, epsilon=epsilon, delta=delta)
    assert stats.norm.sf(8.81 - gaussian.l2 / gaussian.sigma) < delta
    assert check_requested(requests, (gaussian, _), epsilon=epsilon, delta=delta).epsilon <= epsilon


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("delta", [1e-14, 1e-6])
@pytest.mark.parametrize("epsilon", [299.0, 301.0, 700.0, 800.0, 1000.0])
def test_an_epsilon_whose_exponential_floats_can_not_hold_is_met(epsilon, delta):
    truncated = ["truncated_geometric", "laplace"] if delta == 1e-6 else ["laplace"]
    for kinds in (["laplace"], truncated, ["laplace_thresholding", "laplace"]):
        solved(kinds, epsilon, delta)


def test_a_thousand_mechanisms_of_many_weights_meet_their_target():
    kinds = ("laplace", "gaussian", "truncated_geometric", "laplace_thresholding")
    requests = [request(kinds[i % 4], weight=0.1 * (1 + i % 70)) for i in range(1000)]
    mechanisms = calibrate(requests, epsilon=3.0, delta=1e-6)
    assert check_requested(requests, mechanisms, epsilon=3.0, delta=1e-6).epsilon >= 0.95 * 3


def test_mechanisms_hold_plain_floats():
    for mechanism in solved(["laplace", "gaussian", "truncated_geometric", "gaussian_thresholding"]):
        values = [v for v in vars(mechanism).values() if v is not None and not isinstance(v, str)]
        assert {type(v) for v in values} <= {int, float}


def test_no_request_is_refused():
    with pytest.raises(Refused) as refused:
        calibrate([], epsilon=1.0, delta=1e-6)
    assert str(refused.value) == "a plan needs at least one mechanism: ask for a metric or a private selection"


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, "1", True])
def test_an_epsilon_that_is_no_positive_finite_number_is_refused(epsilon):
    with pytest.raises(UsageError) as refused:
        calibrate([request("laplace")], epsilon=epsilon, delta=1e-6)
    assert str(refused.value) == f"epsilon must be a positive finite number, got {epsilon!r}"


@pytest.mark.parametrize("delta", [5e-324, 9e-301])
def test_a_delta_that_floats_can_not_reckon_with_is_refused(delta):
    with pytest.raises(UsageError) as refused:
        calibrate([request("laplace")], epsilon=1.0, delta=delta)
    assert str(refused.value) == f"delta must be at least 1e-300, got {delta!r}: below it floats mean nothing"


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-6, math.nan, math.inf, "1e-6"])
def test_a_delta_outside_of_0_and_1_is_refused(delta):
    with pytest.raises(UsageError) as refused:
        calibrate([request("laplace")], epsilon=1.0, delta=delta)
    assert str(refused.value) == f"delta must be above 0 and below 1, got {delta!r}; a common choice is 1e-8"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weight", math.nan, "weight must be a positive finite number, got nan"),
        ("weight", 0, "weight must be a positive finite number, got 0"),
        ("l1", math.inf, "l1 must be a positive finite number, got inf"),
        ("l2", math.nan, "l2 must be a positive finite number, got nan"),
        ("l0", 0, "l0 must be a whole number of at least 1, got 0"),
        ("l0", True, "l0 must be a whole number of at least 1, got True"),
        ("pre_threshold", 5, "only a selection has l0 and pre_threshold"),
    ],
)
def test_a_request_that_no_guarantee_can_rest_on_is_refused(field, value, message):
    fields = {"stage": "s", "metric": "m", "kind": "laplace", "weight": 1.0, "l1": 1.0, "l2": 1.0} | {field: value}
    with pytest.raises(UsageError) as refused:
        Request(**fields)
    assert str(refused.value) == f"stage s, m: {message}"


def test_a_large_delta_beside_a_small_epsilon_needs_no_finer_grid_than_the_losses(monkeypatch):
    seen = []
    composed = calibration._composed_epsilon

    def looking(mix, scale, interval, delta):
        seen.append(interval / calibration._interval(mix, scale))
        return composed(mix, scale, interval, delta)

    monkeypatch.setattr(calibration, "_composed_epsilon", looking)
    (mechanism,) = calibrate([request("gaussian")], epsilon=0.01, delta=0.1)
    assert min(seen) > 1 / 9
    assert certify_events([mechanism], epsilon=0.01, delta=0.1).epsilon >= 0.0099


def planned(kinds, epsilon, delta):
    requests = [request(kind) for kind in kinds]
    return solve(requests, lambda found: check_requested(requests, found, epsilon=epsilon, delta=delta), epsilon, delta)


EVERY_KIND = [
    ["laplace"],
    ["laplace"] * 3,
    ["gaussian", "laplace"],
    ["laplace_thresholding"],
    ["truncated_geometric", "gaussian"],
]


@pytest.mark.parametrize(
    ("kinds", "delta"),
    [
        (kinds, delta)
        for kinds in EVERY_KIND
        for delta in (1e-300, 1e-14, 1e-12, 1e-6, 0.1, 0.5)
        if delta > 1e-13 or not {"truncated_geometric", "gaussian"} & set(kinds)
    ],
)
def test_the_least_epsilon_of_a_run_is_planned_whatever_its_delta(kinds, delta):
    mechanisms, certificate = planned(kinds, 1e-6, delta)
    assert certificate.epsilon <= 1e-6 * (1 + 1e-9)
    if delta <= 1e-6:
        assert certificate.epsilon >= 0.85e-6
    if delta >= 0.1:  # then δ decides: as much noise as for a far larger ε
        larger, _ = planned(kinds, 1e-4, delta)
        assert noise_of(mechanisms[-1]) == pytest.approx(noise_of(larger[-1]), rel=0.02)


def noise_of(mechanism):
    return mechanism.sigma if isinstance(mechanism, Gaussian) else mechanism.scale


@pytest.mark.parametrize("kinds", EVERY_KIND[1:3])
def test_an_epsilon_too_small_for_floats_is_refused_with_a_remedy_that_works(kinds):
    delta = 1e-12 if "gaussian" in kinds else 1e-14
    for epsilon in (1e-9, 1e-12):
        with pytest.raises(Refused, match=r"counts as 1e-09 at least, so raise epsilon|; raise it to 1e-6 or more"):
            planned(kinds, epsilon, delta)
    planned(kinds, 1e-6, delta)


@given(
    mu=st.floats(-3, 1.2).map(lambda power: 10**power),
    delta=st.floats(-12, -0.5).map(lambda power: 10**power),
    fineness=st.floats(-2.5, -0.8).map(lambda power: 10**power),
)
def test_one_gaussian_has_the_epsilon_that_the_accounting_library_gives_it(mu, delta, fineness):
    """Only where floats round: both are exact on the grid's points and connect them by the same dots."""
    known = pld.from_gaussian_mechanism(1 / mu, value_discretization_interval=mu * fineness)
    assert _gaussian_epsilon(mu, mu * fineness, delta) == pytest.approx(known.get_epsilon_for_delta(delta), rel=1e-9)


@pytest.mark.parametrize("probability", [1e-12, 1e-9, 1e-3, 0.4, 0.6])
@pytest.mark.parametrize(("ours", "theirs"), [(_Normal, stats.norm), (_Laplace, stats.laplace)])
def test_tails_of_noise_are_those_of_scipy(ours, theirs, probability):
    value = ours.isf(probability, 3.7)
    assert value == pytest.approx(theirs.isf(probability, scale=3.7), rel=1e-15)
    assert ours.sf(value, 3.7) == pytest.approx(theirs.sf(value, scale=3.7), rel=1e-15)
