"""Means and variances of noisy figures stay in their bounds; their intervals end where the test by the noise turns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpbeam.mechanisms import moments, noise_width
from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.queries.metrics.counts import Count
from dpbeam.queries.metrics.means import Mean, Variance
from dpbeam.queries.sharing import quantities


def noise_of(name, scale, laplace):
    if laplace:
        return Laplace(stage="s", metric=name, scale=scale, l1=1.0)
    return Gaussian(stage="s", metric=name, sigma=scale, l2=1.0)


def parts(kind, low, high, *, laplace=False, **figures):
    """The noisy figures of a mean or variance, a number for each partition, and the scales of their noise."""
    metric = {"mean": Mean, "variance": Variance}[kind](name="m", column="v", low=low, high=high)
    made = []
    for quantity in quantities((metric,)):
        values, scale = figures[quantity.kind]
        noisy = np.array(values, dtype=np.float64).reshape(-1, 1)
        made.append(
            moments.NoisyQuantity(quantity=quantity, noise=noise_of(quantity.name, scale, laplace), noisy=noisy)
        )
    return made


@pytest.mark.parametrize(("low", "high"), [(-10.0, -2.0), (2.0, 10.0), (0.1, 0.7), (-0.3, 1e6 / 3)])
def test_a_mean_and_its_interval_stay_in_the_bounds_to_the_last_bit(low, high):
    centre = (high - low) / 2
    made = parts("mean", low, high, sum=([9e9, -9e9, 0.0, 99 * centre, -99 * centre], 0.5), count=([100.0] * 5, 0.5))
    for found in moments.mean(*made):
        assert ((low <= found) & (found <= high)).all()
    value, _, _ = moments.mean(*made)
    assert value[:3] == pytest.approx([high, low, low + centre])


@pytest.mark.parametrize(("low", "high"), [(-10.0, -2.0), (2.0, 10.0)])
def test_the_interval_of_a_mean_at_a_bound_is_as_wide_as_the_noise_says(low, high):
    reach, sigma, rows = (high - low) / 2, 2.0, 1000.0
    made = parts("mean", low, high, sum=([-reach * rows, reach * rows], 1.0), count=([rows] * 2, sigma))
    value, bottom, top = moments.mean(*made)
    width = noise_width.NORMAL_95 * math.hypot(1.0, reach * sigma) / rows  # with the noise's scale at the bound itself
    assert value.tolist() == [low, high]
    assert (bottom[0], top[1]) == (low, high)
    assert [top[0], bottom[1]] == pytest.approx([low + width, high - width], abs=width / 50)


def test_a_variance_stays_between_nothing_and_what_the_bounds_allow():
    made = parts("variance", -3.0, 5.0, sum=([0.0] * 3, 1.0), squares=([9e9, -9e9, 0.0], 1.0), count=([100.0] * 3, 1.0))
    value, low, high = moments.variance(*made)
    assert value.tolist() == [16.0, 0.0, 8.0]
    assert ((low <= value) & (value <= high)).all()
    assert ((low >= 0.0) & (high <= 16.0)).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_mean_beyond_the_bounds_counts_as_the_bound_in_a_variance(sign):
    # Every value at a bound, their squares a little larger by the noise: the mean is taken as the bound.
    rows, most = 1000.0, 16.0
    figures = {"sum": ([sign * 1.1 * 4.0 * rows], 1.0), "squares": ([(0.5 + 0.2) * most * rows], 1.0)}
    value, _, _ = moments.variance(*parts("variance", -3.0, 5.0, **figures, count=([rows], 1.0)))
    assert value.tolist() == pytest.approx([0.2 * most])


def test_squares_that_were_shifted_by_something_else_give_the_same_variance():
    rows, half, shift = 400.0, 8.0, 1.5
    figures = {"sum": ([30.0], 1.0), "count": ([rows], 1.0)}
    plain = moments.variance(*parts("variance", -3.0, 5.0, squares=([100.0], 2.0), **figures))
    moved = moments.variance(
        *parts("variance", -3.0, 5.0, squares=([100.0 + (half - shift) * rows], 2.0), **figures), shift=shift
    )
    assert moved[0] == pytest.approx(plain[0])
    for found, shifted_by in ((plain, half), (moved, shift)):
        m, v = 30.0 / rows, found[2][0]
        width = noise_width.NORMAL_95 * math.hypot(2.0, 2 * m, shifted_by + m**2 - v) / rows
        assert v - found[0][0] == pytest.approx(width, rel=1e-3)


def test_the_interval_of_a_variance_ends_where_the_noise_of_its_three_figures_says():
    rows, sigmas = 5000.0, (3.0, 20.0, 2.0)
    s, q = 4000.0, -9000.0
    made = parts("variance", -3.0, 5.0, sum=([s], sigmas[0]), squares=([q], sigmas[1]), count=([rows], sigmas[2]))
    value, low, high = moments.variance(*made)
    m = s / rows
    assert value[0] == pytest.approx(q / rows + 8.0 - m**2)
    above = q + 8.0 * rows - s * m + (sigmas[0] ** 2 + (m * sigmas[2]) ** 2) / rows
    for end in (low[0], high[0]):
        spread = math.hypot(sigmas[1], 2 * m * sigmas[0], (8.0 + m**2 - end) * sigmas[2])
        assert abs(above - end * rows) == pytest.approx(noise_width.NORMAL_95 * spread, rel=1e-9)


def test_what_a_noisy_mean_adds_to_its_square_is_twice_as_much_with_laplace_noise():
    figures = {"sum": ([400.0], 40.0), "squares": ([-900.0], 1e-3), "count": ([500.0], 1e-3)}
    _, low, high = moments.variance(*parts("variance", -3.0, 5.0, laplace=True, **figures))
    m, rows = 0.8, 500.0
    above = -900.0 + 8.0 * rows - 400.0 * m + 2 * 40.0**2 / rows
    assert (low[0] + high[0]) / 2 == pytest.approx(above / rows, rel=1e-5)


@pytest.mark.parametrize(("laplace", "quantile"), [(False, noise_width.NORMAL_95), (True, noise_width.LAPLACE_95)])
def test_a_count_is_clear_of_zero_from_its_own_quantile_on(laplace, quantile):
    """Only then is what is divided by it anything less than all that the bounds allow."""
    counts = np.array([0.99, 1.01]) * quantile * 40.0
    made = parts("mean", 0.0, 8.0, laplace=laplace, sum=(-4.0 * counts, 1e-6), count=(counts, 40.0))
    _, low, high = moments.mean(*made)
    assert low.tolist() == [0.0, 0.0]
    assert (high < 8.0).tolist() == [False, True]
    figures = {"sum": (0.0 * counts, 1e-6), "squares": (-8.0 * counts, 1e-3), "count": (counts, 40.0)}
    _, low, high = moments.variance(*parts("variance", -3.0, 5.0, laplace=laplace, **figures))
    assert low.tolist() == [0.0, 0.0]
    assert (high < 16.0).tolist() == [False, True]
    _, low, _ = moments.variance(
        *parts("variance", -3.0, 5.0, laplace=laplace, **(figures | {"squares": ([0.0] * 2, 1e-3)}))
    )
    assert (low > 0.0).tolist() == [False, True]


def test_the_tail_of_laplaces_is_that_of_their_sum():
    at, b = np.array([0.0, 1.0, 5.0]), 2.0
    equal = moments.laplace_tail(at, [np.full(3, b)] * 2)
    assert equal == pytest.approx((1 + at / (2 * b)) * np.exp(-at / b), rel=2e-3)
    # Of three: Σ bᵢ⁴ exp(−d/bᵢ) / Π (bᵢ² − bⱼ²), for 1, 2 and 3.
    wanted = np.exp(-at) / 24 - 16 / 15 * np.exp(-at / 2) + 81 / 40 * np.exp(-at / 3)
    assert moments.laplace_tail(at, [np.full(3, b) for b in (3.0, -1.0, 2.0)]) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("laplace", [False, True])
def test_the_half_width_of_a_weighted_sum_leaves_five_percent_outside(laplace):
    (count,) = quantities((Count(name="count"),))
    made = [
        moments.NoisyQuantity(quantity=count, noise=noise_of("count", scale, laplace), noisy=np.zeros((1, 1)))
        for scale in (0.01, 0.02, 0.005)
    ]
    found = moments.half_width_of_sum(made, (1.0, -2.0, 3.0))
    if laplace:
        (tail,) = moments.laplace_tail(np.array([found]), [np.array([scale]) for scale in (0.01, 0.04, 0.015)])
        assert tail == pytest.approx(0.05, rel=1e-9)
    else:
        assert found == pytest.approx(noise_width.NORMAL_95 * math.hypot(0.01, 0.04, 0.015))
