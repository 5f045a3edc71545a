"""Grids of automatic bounds, and what is chosen from noisy histograms over them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpbeam.engine.aggregation import kernels
from dpbeam.engine.automatic_bounds import (
    CHANCE,
    LINEAR,
    Chosen,
    beyond_chance,
    choose_clip,
    choose_count,
    count_edges,
    count_grid,
    magnitudes,
    value_edges,
)
from dpbeam.engine.metrics import kernel_of
from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.queries.automatic import outermost
from dpbeam.queries.quantities import Bins

EXACT = Gaussian(stage="s.values", metric="v", sigma=1e-9, l2=1.0)
RANGE = {"least": 0.25, "most": 8.0}


def histogram(values, edges):
    """The counts that the engine makes of the values."""
    quantity = Bins(name="v", weight=1.0, columns=("v",), edges=edges)
    made = kernel_of(quantity).of_rows(quantity, {"v": np.asarray(values)}, np.zeros(len(values), dtype=np.int64), 1)
    return kernels.vectors(quantity, made)[0].tolist()


def clip(values, low=None, high=None, noise=EXACT):
    found_low, found_high = choose_clip(histogram(values, value_edges(**RANGE)), noise, low=low, high=high, **RANGE)
    return found_low.value, found_high.value


def test_the_grid_of_magnitudes_is_0_and_the_powers_of_two_that_hold_the_range():
    assert magnitudes(0.3, 7.0) == (-8.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@settings(max_examples=300)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1))
def test_every_value_is_in_one_bin_whose_ends_hold_it_or_are_the_grids(value):
    low, high = clip([value])
    assert low <= min(max(value, -8.0), 8.0) <= high
    assert sum(histogram([value], value_edges(**RANGE))) == 1


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        ([1.0], (0.5, 1.0)),
        ([1.0000000001, 3.9], (1.0, 4.0)),
        ([0.0, 5.0], (0.0, 8.0)),
        ([0.0], (0.0, 0.25)),
        ([-0.01, 0.01], (-0.25, 0.25)),
        ([-3.0], (-4.0, -2.0)),
        ([-4.0], (-4.0, -2.0)),
        ([1e300, -1e300], (-8.0, 8.0)),
        ([100], (4.0, 8.0)),
    ],
)
def test_bounds_are_the_ends_of_the_outermost_bins_with_values(values, bounds):
    assert clip(values) == bounds


def test_a_stated_bound_stays_and_what_lies_beyond_it_does_not_count():
    assert clip([-5.0, 3.0], low=-1.5) == (-1.5, 4.0)
    assert clip([-5.0, 3.0, 7.0], high=0.1) == (-8.0, 0.1)
    assert clip([-5.0, 3.0], low=5.0) == (5.0, 8.0)
    assert clip([3.0], high=-4.0) == (-8.0, -4.0)
    assert clip([0.0], low=0.0) == (0.0, 0.25)


def test_where_no_count_stands_out_the_bounds_are_the_fallback_and_say_so():
    nothing = [0.0] * (len(value_edges(**RANGE)) - 1)
    assert choose_clip(nothing, EXACT, low=None, high=None, **RANGE) == (
        Chosen(value=-1.0, found=False),
        Chosen(value=1.0, found=False),
    )
    assert choose_clip(nothing, EXACT, low=2.0, high=None, **RANGE)[1] == Chosen(value=4.0, found=False)
    assert choose_clip(nothing, EXACT, low=None, high=-2.0, **RANGE)[0] == Chosen(value=-4.0, found=False)
    assert choose_count([0.0] * len(count_grid(50)), EXACT, most=50) == Chosen(value=1, found=False)


def test_the_fallback_stays_on_a_grid_without_1():
    nothing = [0.0] * (len(value_edges(100, 1000)) - 1)
    found = choose_clip(nothing, EXACT, least=100, most=1000, low=None, high=None)
    assert [each.value for each in found] == [-64.0, 64.0]
    nothing = [0.0] * (len(value_edges(0.01, 0.5)) - 1)
    found = choose_clip(nothing, EXACT, least=0.01, most=0.5, low=None, high=None)
    assert [each.value for each in found] == [-0.5, 0.5]


@settings(max_examples=400)
@given(st.data(), st.floats(1e-12, 1e3), st.floats(1.5, 1e9), st.sampled_from(["neither", "low", "high"]))
def test_any_noisy_counts_give_bounds_in_order_on_the_grid(data, least, factor, side):
    """A run is charged by then, so nothing that noise can do may make it fail. A stated bound leaves the other at least
    half of the grid, which the policy's checks see to."""
    most = least * factor
    grid = magnitudes(least, most)
    counts = [0.0] * (len(value_edges(least, most)) - 1)
    for place in data.draw(st.sets(st.integers(0, len(counts) - 1), max_size=3)):
        counts[place] = data.draw(st.sampled_from([-1e12, 1e-8, 1e12]))
    stated = data.draw(st.floats(-grid[-1] if side == "low" else grid[0] / 2, grid[-1] / (2 if side == "low" else 1)))
    low, high = (stated if side == name else None for name in ("low", "high"))
    found_low, found_high = choose_clip(counts, EXACT, least=least, most=most, low=low, high=high)
    assert found_low.value < found_high.value
    assert found_high.value - found_low.value >= 1e-15
    assert found_low.value == low or found_low.value in grid
    assert found_high.value == high or found_high.value in grid


def test_another_number_of_counts_than_bins_is_refused():
    with pytest.raises(ValueError, match="bins"):
        choose_clip([1.0], EXACT, low=None, high=None, **RANGE)
    with pytest.raises(ValueError, match=r"has 3 bins, got 1"):
        choose_count([1.0], EXACT, most=3)


def test_the_grid_of_counts_goes_by_half_octaves_to_the_most():
    assert count_grid(1) == (1,)
    assert count_grid(8) == (1, 2, 3, 4, 6, 8)
    assert count_grid(50) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 50)


def test_each_count_up_to_the_most_is_in_the_bin_of_the_next_grid_value():
    counts = np.arange(1, 51)
    for number in counts.tolist():
        row = histogram([number], count_edges(50))
        assert count_grid(50)[row.index(1)] == min(step for step in count_grid(50) if step >= number)


@pytest.mark.parametrize(
    ("contributions", "bound"),
    [
        ([1] * 100, 1),
        ([5] * 100, 6),
        ([50] * 100, 50),
        ([1] * 90 + [50] * 10, 1),
        ([1] * 900 + [50] * 10, 1),
        (list(range(1, 51)), 32),
    ],
)
def test_the_bound_keeps_the_most_against_the_root_of_itself(contributions, bound):
    assert choose_count(histogram(contributions, count_edges(50)), EXACT, most=50).value == bound


@pytest.mark.parametrize(("contributions", "bound"), [([5] * 100, 4), ([50] * 100, 50), (list(range(1, 51)), 8)])
def test_where_the_noise_that_selects_grows_faster_the_bound_is_lower(contributions, bound):
    counts = histogram(contributions, count_edges(50))
    assert choose_count(counts, EXACT, most=50, growth=LINEAR).value == bound


@settings(max_examples=200)
@given(st.integers(1, 2**31 - 1), st.randoms(use_true_random=False))
def test_any_noisy_counts_give_a_bound_up_to_the_most(most, random):
    grid = count_grid(most)
    counts = [random.choice([0.0, -1e15, random.uniform(-1e3, 1e3), 1e15]) for _ in grid]
    assert choose_count(counts, EXACT, most=most).value in grid


@pytest.mark.parametrize("bins", [1, 12, 123])
def test_noise_alone_reaches_the_threshold_with_the_stated_chance(bins):
    gaussian = beyond_chance(Gaussian(stage="s", metric="v", sigma=3.0, l2=1.0), bins)
    laplace = beyond_chance(Laplace(stage="s", metric="v", scale=3.0, l1=1.0), bins)
    assert bins * stats.norm(scale=3.0).sf(gaussian) == pytest.approx(CHANCE, rel=1e-6)
    assert bins * stats.laplace(scale=3.0).sf(laplace) == pytest.approx(CHANCE, rel=1e-6)
    assert math.isfinite(gaussian)


def test_noise_that_is_neither_gaussian_nor_laplace_is_refused():
    with pytest.raises(ValueError, match=r"^unknown noise None$"):
        beyond_chance(None, 1)


def test_the_outermost_magnitudes_are_powers_of_two_and_a_power_is_its_own():
    assert outermost(0.3, 7.0) == (0.25, 8.0)
    assert outermost(0.25, 8.0) == (0.25, 8.0)


def test_a_count_at_the_threshold_of_noise_does_not_count_and_one_above_it_does():
    noise = Laplace(stage="s.values", metric="v", scale=3.0, l1=1.0)
    bins = len(value_edges(**RANGE)) - 1
    at = beyond_chance(noise, bins)
    for count, found in ((at, False), (math.nextafter(at, math.inf), True)):
        low, high = choose_clip([0.0] * (bins - 1) + [count], noise, low=None, high=None, **RANGE)
        assert (low.found, high.found, high.value) == (found, found, 8.0 if found else 1.0)
    at = beyond_chance(noise, len(count_grid(50)))
    for count, found in ((at, False), (math.nextafter(at, math.inf), True)):
        chosen = choose_count([0.0] * (len(count_grid(50)) - 1) + [count], noise, most=50)
        assert chosen == Chosen(value=50 if found else 1, found=found)


def test_a_stated_bound_that_leaves_no_room_on_the_grid_is_refused():
    nothing = [0.0] * (len(value_edges(**RANGE)) - 1)
    with pytest.raises(ValueError, match=r"^a bound must be below 8\.0, the grid's highest"):
        choose_clip(nothing, EXACT, low=8.0, high=None, **RANGE)
    with pytest.raises(ValueError, match=r"^a bound must be above -8\.0, the grid's lowest"):
        choose_clip(nothing, EXACT, low=None, high=-8.0, **RANGE)
    for low, high in ((2.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=rf"^bounds must be in order, got low {low}, high {high}$"):
            choose_clip(nothing, EXACT, low=low, high=high, **RANGE)


def test_a_bound_is_chosen_apart_from_a_stated_one_however_large_or_close_that_is():
    wide = {"least": 1, "most": 2.0**62}
    nothing = [0.0] * (len(value_edges(**wide)) - 1)
    _, high = choose_clip(nothing, EXACT, low=2.0**60, high=None, **wide)
    assert high.value == 2.0**61
    low, _ = choose_clip(nothing, EXACT, low=None, high=-(2.0**60), **wide)
    assert low.value == -(2.0**61)
    _, high = choose_clip(nothing, EXACT, low=1 - 4e-16, high=None, **wide)  # 1 is too near
    assert high.value == 2.0
