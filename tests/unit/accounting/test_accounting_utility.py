"""Keep probabilities against PyDP's, noise figures against quantiles, metrics against their mechanisms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydp.algorithms.partition_selection import create_partition_strategy
from scipy import stats

from dpbeam.accounting.utility import keep_probability, noise_figure, selection_figure, utility
from dpbeam.mechanisms import truncated_geometric
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, LaplaceThresholding, TruncatedGeometric
from dpbeam.queries.metrics.counts import Count
from dpbeam.queries.metrics.means import Mean

COUNTS = (0, 1, 2, 3, 5, 10, 20, 45, 60, 90, 200)


def lone(delta, l0):
    return -math.expm1(math.log1p(-delta) / l0)


def geometric(epsilon=1.0, delta=1e-5, l0=4, pre_threshold=1):
    return TruncatedGeometric(stage="s", epsilon=epsilon, delta=delta, l0=l0, pre_threshold=pre_threshold)


def laplace_like_pydp(epsilon, delta, l0, pre_threshold=1):
    b = l0 / epsilon
    return LaplaceThresholding(
        stage="s",
        scale=b,
        l1=float(l0),
        threshold=1 + stats.laplace.isf(lone(delta, l0), scale=b),
        delta=delta,
        l0=l0,
        pre_threshold=pre_threshold,
    )


@pytest.mark.parametrize("pre_threshold", [1, 3, 12])
@pytest.mark.parametrize(("epsilon", "delta", "l0"), [(1.0, 1e-5, 4), (0.1, 1e-9, 1), (10.0, 1e-3, 20)])
def test_truncated_geometric_keeps_with_the_probability_that_pydp_states(epsilon, delta, l0, pre_threshold):
    ours = geometric(epsilon, delta, l0, pre_threshold)
    theirs = create_partition_strategy(
        "truncated_geometric", *truncated_geometric.pydp_parameters(ours), l0, pre_threshold
    )
    for units in COUNTS:
        assert keep_probability(ours, units) == pytest.approx(theirs.probability_of_keep(units), rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("pre_threshold", [1, 3])
def test_laplace_thresholding_keeps_with_the_probability_that_pydp_states(pre_threshold):
    theirs = create_partition_strategy("laplace", 1.0, 1e-5, 4, pre_threshold)
    for units in COUNTS:
        assert keep_probability(laplace_like_pydp(1.0, 1e-5, 4, pre_threshold), units) == pytest.approx(
            theirs.probability_of_keep(units) if units else 0.0, rel=1e-6
        )


def test_gaussian_thresholding_is_the_normal_tail_beyond_the_threshold():
    ours = GaussianThresholding(stage="s", sigma=5.0, l2=2.0, threshold=30.0, delta=1e-6, l0=4, pre_threshold=11)
    assert keep_probability(ours, 10) == 0
    assert keep_probability(ours, 40) == pytest.approx(0.5)
    assert keep_probability(ours, 45) == pytest.approx(stats.norm.cdf(1.0))


@given(
    epsilon=st.floats(0.01, 20),
    delta=st.floats(1e-10, 0.1),
    l0=st.integers(1, 100),
    pre_threshold=st.integers(1, 50),
    units=st.integers(0, 5000),
)
@settings(deadline=None, max_examples=200)
def test_more_units_never_make_a_partition_less_likely_to_be_kept(epsilon, delta, l0, pre_threshold, units):
    selection = geometric(epsilon, delta, l0, pre_threshold)
    here, next_ = keep_probability(selection, units), keep_probability(selection, units + 1)
    assert 0 <= here <= next_ + 1e-12 <= 1 + 2e-12


@pytest.mark.parametrize("selection", [geometric(), geometric(pre_threshold=9), laplace_like_pydp(0.5, 1e-8, 2)])
def test_the_figures_are_the_least_counts_that_reach_their_probability(selection):
    figure = selection_figure(selection)
    for units, probability in ((figure.units_50, 0.5), (figure.units_99, 0.99)):
        assert keep_probability(selection, units) >= probability > keep_probability(selection, units - 1)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError) as refused:
        keep_probability(geometric(), -1)
    assert str(refused.value) == "a partition has at least 0 privacy units, got -1"


def test_a_laplace_half_width_holds_95_percent():
    figure = noise_figure(Laplace(stage="s", metric="m", scale=3.0, l1=1.0))
    assert figure.std == pytest.approx(stats.laplace.std(scale=3.0))
    assert stats.laplace.cdf(figure.half_width_95, scale=3.0) == pytest.approx(0.975)


def test_a_gaussian_half_width_holds_95_percent():
    figure = noise_figure(Gaussian(stage="s", metric="m", sigma=3.0, l2=1.0))
    assert figure.std == 3.0
    assert stats.norm.cdf(figure.half_width_95, scale=3.0) == pytest.approx(0.975)


def test_a_mean_shows_the_figures_of_its_sum_and_count():
    metrics = {"s": (Mean(name="h_mean", column="h", low=0.0, high=1.0),)}
    mechanisms = [Laplace(stage="s", metric=name, scale=1.0, l1=1.0) for name in ("h_mean.sum", "count")]
    (figure,) = utility(mechanisms, metrics).metrics
    assert figure.std is None
    assert [part.metric for part in figure.parts] == ["h_mean.sum", "count"]


def test_a_renamed_count_has_the_figure_of_the_count():
    metrics = {"s": (Count(name="visits"),)}
    (figure,) = utility([Gaussian(stage="s", metric="count", sigma=2.0, l2=1.0)], metrics).metrics
    assert (figure.metric, figure.std) == ("visits", 2.0)


def test_the_selection_of_partitions_and_that_of_values_are_both_shown():
    of_values = replace(laplace_like_pydp(1.0, 1e-5, 4), metric="top")
    shown = utility([geometric(), of_values], {"s": ()}).selections
    assert [figure.metric for figure in shown] == ["partitions", "top"]
