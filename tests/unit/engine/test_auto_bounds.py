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
    HIDDEN,
    beyond_chance,
    clips,
    contributions,
    count_edges,
    count_grid,
    magnitudes,
    settled,
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
    """The widest bounds to choose from."""
    return clips(histogram(values, value_edges(**RANGE)), noise, low=low, high=high, **RANGE).pairs[0]


def seen(numbers, most=50, noise=EXACT, by_row=False):
    return contributions(histogram(numbers, count_edges(most)), noise, most=most, by_row=by_row)


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


def test_where_no_count_stands_out_nothing_is_seen():
    nothing = [0.0] * (len(value_edges(**RANGE)) - 1)
    assert clips(nothing, EXACT, low=None, high=None, **RANGE) is None
    assert clips(nothing, EXACT, low=2.0, high=None, **RANGE) is None
    assert contributions([0.0] * len(count_grid(50)), EXACT, most=50) is None


def test_clipping_bounds_to_choose_from_are_the_widest_and_all_within_them():
    found = clips(histogram([-3.0, 0.0, 0.0, 0.0], value_edges(**RANGE)), EXACT, low=None, high=None, **RANGE)
    assert found.pairs[0] == (-4.0, 0.0)
    ends = (-4.0, -2.0, -1.0, -0.5, -0.25, 0.0)
    assert set(found.pairs) == {(low, high) for low in ends for high in ends if low < high}
    assert found.values.tolist() == [-3.0, -1.5, -0.75, -0.375, -0.125, 0.0]
    assert found.parts.tolist() == [0.25, 0.0, 0.0, 0.0, 0.0, 0.75]
    assert (found.within(-2.0, math.inf), found.within(-4.0, 0.0), found.within(-math.inf, -0.25)) == (0.75, 1, 0.25)
    stated = clips(histogram([-3.0, 0.0], value_edges(**RANGE)), EXACT, low=-1.0, high=None, **RANGE)
    assert stated.pairs == ((-1.0, 0.0), (-1.0, -0.5), (-1.0, -0.25))


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
    found = clips(counts, EXACT, least=least, most=most, low=low, high=high)
    for found_low, found_high in () if found is None else found.pairs:
        assert found_low < found_high
        assert found_high - found_low >= 1e-15
        assert found_low == low or found_low in grid
        assert found_high == high or found_high in grid


def test_another_number_of_counts_than_bins_is_refused():
    with pytest.raises(ValueError, match="bins"):
        clips([1.0], EXACT, low=None, high=None, **RANGE)
    with pytest.raises(ValueError, match=r"has 3 bins, got 1"):
        contributions([1.0], EXACT, most=3)


def test_the_grid_of_counts_goes_by_half_octaves_to_the_most():
    assert count_grid(1) == (1,)
    assert count_grid(8) == (1, 2, 3, 4, 6, 8)
    assert count_grid(50) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 50)


def test_each_count_up_to_the_most_is_in_the_bin_of_the_next_grid_value():
    counts = np.arange(1, 51)
    for number in counts.tolist():
        row = histogram([number], count_edges(50))
        assert count_grid(50)[row.index(1)] == min(step for step in count_grid(50) if step >= number)


def test_with_exact_noise_every_unit_is_seen_in_its_bin():
    numbers = [1] * 30 + [7] * 5 + [50]
    found = seen(numbers)
    assert dict(zip(count_grid(50), found.units.tolist(), strict=True)) == dict.fromkeys(count_grid(50), 0.0) | {
        1: 30.0, 8: 5.0, 50: 1.0
    }  # fmt: skip
    assert (found.total, found.mean, found.largest) == (30 + 5 * 7.5 + 50, 117.5 / 36, 50)
    assert found.bounds == count_grid(50)
    assert seen([1] * 30 + [7] * 5).bounds == (1, 2, 3, 4, 6, 8)


def test_what_a_bound_keeps_is_the_share_of_all_contributions():
    found = seen([1] * 30 + [8] * 5)  # 8 stands in a bin of 7 and 8
    assert [found.kept(bound) for bound in (1, 4, 8)] == [35 / 67.5, (30 + 20) / 67.5, 1.0]


def test_rows_seen_by_one_of_them_weigh_by_the_root_of_their_pair():
    found = seen([1] * 40 + [50] * 10, by_row=True)
    weight = 10 * math.sqrt(50)
    assert found.kept(1) == pytest.approx((40 + weight / 50) / (40 + weight))
    assert found.mean == pytest.approx((40 + weight) / (40 + weight / 50))


@settings(max_examples=200)
@given(st.integers(1, 2**31 - 1), st.booleans(), st.randoms(use_true_random=False))
def test_of_any_noisy_counts_what_is_kept_rises_to_all_of_it(most, by_row, random):
    """A run is charged by then, so nothing that noise can do may make it fail."""
    counts = [random.choice([0.0, -1e15, random.uniform(-1e3, 1e3), 1e15]) for _ in count_grid(most)]
    found = contributions(counts, EXACT, most=most, by_row=by_row)
    if found is not None:
        assert (found.units >= 0).all()
        shares = [found.kept(bound) for bound in found.bounds]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert 1 <= found.mean <= most


NOISE = Gaussian(stage="s.units", metric="l0", sigma=10.0, l2=1.0)


def test_a_tail_spread_over_bins_is_seen_by_its_sum_and_lone_noise_is_not():
    grid = count_grid(50)
    alone = beyond_chance(NOISE, len(grid))
    counts = [5_000.0] + [0.0] * (len(grid) - 1)
    assert contributions(counts, NOISE, most=50).largest == 1
    spread = [5_000.0] + [0.9 * alone] * (len(grid) - 1)
    assert contributions(spread, NOISE, most=50).largest > 16
    assert contributions([5_000.0, *[0.0] * (len(grid) - 2), 1.1 * alone], NOISE, most=50).largest == 50


def test_where_noise_could_hide_as_many_units_as_are_seen_nothing_is_seen():
    grid = count_grid(50)
    hidden = beyond_chance(NOISE, 1, HIDDEN) * math.sqrt(len(grid) - 1)
    assert contributions([1.01 * hidden] + [0.0] * (len(grid) - 1), NOISE, most=50) is not None
    assert contributions([0.99 * hidden] + [0.0] * (len(grid) - 1), NOISE, most=50) is None


def test_units_of_which_only_the_number_stands_out_are_not_seen():
    """All bins together are far above noise, and none of them, nor any but the first with all beyond it."""
    grid = count_grid(3)
    alone = beyond_chance(NOISE, len(grid))
    counts = [0.9 * alone, 0.69 * alone, 0.69 * alone]
    assert sum(counts) > math.sqrt(3) * alone
    assert contributions(counts, NOISE, most=3) is None


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
    assert clips([0.0] * (bins - 1) + [at], noise, low=None, high=None, **RANGE) is None
    above = clips([0.0] * (bins - 1) + [math.nextafter(at, math.inf)], noise, low=None, high=None, **RANGE)
    assert above.pairs == ((4.0, 8.0),)
    at = beyond_chance(noise, len(count_grid(50)))
    assert contributions([0.0] * (len(count_grid(50)) - 1) + [at], noise, most=50) is None
    found = contributions([0.0] * (len(count_grid(50)) - 1) + [math.nextafter(at, math.inf)], noise, most=50)
    assert found.largest == 50


def test_a_stated_bound_that_leaves_no_room_on_the_grid_is_refused():
    grid = np.array(magnitudes(**RANGE))
    with pytest.raises(ValueError, match=r"^a bound must be below 8\.0, the grid's highest"):
        settled(grid, -1.0, 1.0, 8.0, None)
    with pytest.raises(ValueError, match=r"^a bound must be above -8\.0, the grid's lowest"):
        settled(grid, -1.0, 1.0, None, -8.0)
    for low, high in ((2.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=rf"^bounds must be in order, got low {low}, high {high}$"):
            settled(grid, -1.0, 1.0, low, high)


def test_a_bound_is_chosen_apart_from_a_stated_one_however_large_or_close_that_is():
    grid = np.array(magnitudes(1, 2.0**62))
    assert settled(grid, -1.0, 1.0, 2.0**60, None)[1] == 2.0**61
    assert settled(grid, -1.0, 1.0, None, -(2.0**60))[0] == -(2.0**61)
    assert settled(grid, -1.0, 1.0, 1 - 4e-16, None)[1] == 2.0  # 1 is too near
