"""The law of a noisy count given that it passed its threshold, against numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from dpbeam.mechanisms import threshold_bias
from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding

MECHANISMS = [
    GaussianThresholding(stage="s", sigma=4.0, l2=2.0, threshold=25.0, delta=1e-8, l0=4),
    LaplaceThresholding(stage="s", scale=3.0, l1=4.0, threshold=30.0, delta=1e-4, l0=4),
    GaussianThresholding(stage="s", sigma=4.0, l2=2.0, threshold=25.0, delta=1e-8, l0=4, pre_threshold=10),
]


def law(mechanism):
    if isinstance(mechanism, GaussianThresholding):
        return stats.norm(scale=mechanism.sigma)
    return stats.laplace(scale=mechanism.scale)


def least(mechanism):
    return mechanism.threshold + mechanism.pre_threshold - 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_far_above_the_threshold_the_interval_is_that_of_the_noise_and_there_is_no_bias(mechanism):
    low, high, bias = threshold_bias.interval(np.array([500.0]), mechanism)
    assert (low[0], high[0]) == pytest.approx((500 - law(mechanism).isf(0.025), 500 + law(mechanism).isf(0.025)))
    assert bias[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_bias_is_the_mean_of_noise_that_lifts_a_count_over_the_threshold(mechanism):
    noise, t = law(mechanism), least(mechanism)

    def of(true):
        mass = noise.sf(t - true)
        return (
            integrate.quad(lambda z: z * noise.pdf(z), t - true, 80, limit=400, points=[max(0.0, t - true)])[0] / mass
        )

    for shown in (t, t + 3.0, t + 9.0, t + 40.0):
        bias = threshold_bias.interval(np.array([shown]), mechanism)[2]
        assert bias[0] == pytest.approx(of(shown - of(shown)), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_interval_ends_where_the_kept_count_is_in_a_tail_of_its_law(mechanism):
    noise, t = law(mechanism), least(mechanism)
    value = t + 7.0
    low, high, _ = threshold_bias.interval(np.array([value]), mechanism)
    above_high = noise.sf(value - high[0]) / noise.sf(t - high[0])
    assert above_high == pytest.approx(0.975, rel=1e-6)
    above_low = noise.sf(value - low[0]) / noise.sf(t - low[0])
    floor = max(1, mechanism.pre_threshold)
    assert low[0] == floor or above_low == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_count_below_the_pre_threshold_is_considered(mechanism):
    low, high, bias = threshold_bias.interval(np.array([least(mechanism), least(mechanism) + 0.1]), mechanism)
    assert (low >= max(1, mechanism.pre_threshold)).all()
    assert (low <= high).all()
    assert (bias >= 0).all()


def test_the_laws_tails_and_their_means_are_those_of_the_distributions():
    at = np.array([-30.0, -3.0, -1.0, -0.4, 0.0, 0.4, 1.0, 3.0, 30.0])
    for law_of, log_sf, mean in (
        (stats.norm(), threshold_bias._log_sf_gaussian, threshold_bias._mean_gaussian),
        (stats.laplace(), threshold_bias._log_sf_laplace, threshold_bias._mean_laplace),
    ):
        assert log_sf(at) == pytest.approx(law_of.logsf(at), rel=1e-12, abs=1e-12)
        beyond = [integrate.quad(lambda z: z * law_of.pdf(z), t, 60, points=[0.0], limit=400)[0] for t in at[1:-1]]  # noqa: B023
        assert mean(at)[1:-1] == pytest.approx(beyond / law_of.sf(at[1:-1]), rel=1e-6)


def test_intervals_of_large_noise_reach_as_far_as_it_does():
    mechanism = GaussianThresholding(stage="s", sigma=4e4, l2=2.0, threshold=1e5, delta=1e-8, l0=4)
    low, high, _ = threshold_bias.interval(np.array([1e6]), mechanism)
    assert (low[0], high[0]) == pytest.approx((1e6 - law(mechanism).isf(0.025), 1e6 + law(mechanism).isf(0.025)))
