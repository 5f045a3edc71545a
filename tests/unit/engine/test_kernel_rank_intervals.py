"""Intervals of counts at a place: as wide as it takes to hold each value that might be there, and no wider."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dpbeam.engine.release import rank_intervals
from dpbeam.mechanisms import threshold_bias
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding

GAUSSIAN = Gaussian(stage="s", metric="m", sigma=3.0, l2=1.0)
LAPLACE = Laplace(stage="s", metric="m", scale=2.0, l1=1.0)
THRESHOLDS = [
    GaussianThresholding(stage="s", sigma=3.0, l2=1.0, threshold=10.0, delta=1e-4, l0=1),
    LaplaceThresholding(stage="s", scale=2.0, l1=1.0, threshold=10.0, delta=1e-4, l0=1),
]
LAWS = {"gaussian": stats.norm(scale=3.0), "laplace": stats.laplace(scale=2.0)}


def half_width(law, counts, at):
    """By the definition, a count at a time."""
    window = 4 * law.ppf(1 - (1 - 0.9975 ** (1 / len(counts))) / 2)
    near = sum(abs(count - at) <= window for count in counts)
    return law.ppf(1 - (1 - 0.9525 ** (1 / near)) / 2)


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
@given(st.lists(st.lists(st.floats(-50, 300), min_size=4, max_size=4), min_size=1, max_size=4), st.integers(0, 3))
def test_a_candidates_interval_is_as_wide_as_those_near_it_make_it(mechanism, counts, place) -> None:
    noisy = np.array(counts)
    at = -np.sort(-noisy, axis=1)[:, place]
    low, high = rank_intervals.of_candidates(noisy, at, mechanism)
    wanted = [half_width(LAWS[mechanism.kind], own, one) for own, one in zip(counts, at, strict=True)]
    assert (high - at).tolist() == pytest.approx(wanted)
    assert (at - low).tolist() == pytest.approx(wanted)


def test_a_value_that_is_alone_pays_little_for_the_others() -> None:
    _, high = rank_intervals.of_candidates(np.array([[1000.0, 5.0, 4.0, 3.0]]), np.array([1000.0]), GAUSSIAN)
    assert 1.959 * 3 < high[0] - 1000 < 1.99 * 3


@pytest.mark.parametrize("mechanism", THRESHOLDS)
def test_shown_values_have_the_interval_of_the_law_above_the_threshold_for_their_own_partition(mechanism) -> None:
    """Four values near each other, one alone, none, and two of which one is far."""
    shown, sizes = np.array([14.0, 13.0, 12.0, 11.0, 11.5, 500.0, 12.5]), np.array([4, 1, 0, 2])
    at = np.array([14.0, 11.5, np.nan, 500.0])
    low, high, bias = rank_intervals.of_shown(shown, sizes, at, mechanism)
    for i, near in ((0, 4), (1, 1), (3, 1)):
        wanted = threshold_bias.interval(at[i : i + 1], mechanism, 1 - 0.9525 ** (1 / near))
        assert (low[i], high[i], bias[i]) == pytest.approx(tuple(number[0] for number in wanted))
    assert high[0] > threshold_bias.interval(at[:1], mechanism)[1][0]
    assert np.isfinite([low[2], high[2]]).all()


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE])
def test_a_value_just_as_far_as_is_looked_is_still_near(mechanism) -> None:
    law = LAWS[mechanism.kind]
    edge = 4 * float(rank_intervals._half_width(mechanism, rank_intervals._each(0.0025, np.array([2])))[0])
    _, high = rank_intervals.of_candidates(np.array([[0.0, edge]]), np.array([0.0]), mechanism)
    assert high[0] == pytest.approx(law.ppf(1 - (1 - 0.9525**0.5) / 2))


@pytest.mark.parametrize("mechanism", THRESHOLDS)
def test_the_last_partitions_may_show_no_value(mechanism) -> None:
    ends = rank_intervals.of_shown(
        np.array([14.0, 15.0]), np.array([1, 1, 0]), np.array([14.0, 15.0, np.nan]), mechanism
    )
    assert [len(numbers) for numbers in ends] == [3, 3, 3]
