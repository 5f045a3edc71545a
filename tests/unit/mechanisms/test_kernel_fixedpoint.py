"""Fixed-point sums: exact, the same in any order, never above the sensitivity."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpbeam.errors import RunFailed
from dpbeam.mechanisms.fixedpoint import Grid, checked_sum
from dpbeam.queries.quantities import Sum

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@st.composite
def bounds(draw):
    low, high = sorted((draw(FINITE), draw(FINITE)))
    assume(low < high)
    return low, high, draw(st.sampled_from([0.0, low + (high - low) / 2]))


@settings(max_examples=300, deadline=None)
@given(bounds(), st.lists(FINITE | st.floats(-10, 10), min_size=1, max_size=20))
def test_no_value_exceeds_the_sensitivity_that_the_plan_states(made, values):
    low, high, centre = made
    grid = Grid.for_bounds(low, high, centre)
    reach = Sum(name="q", weight=1.0, low=low, high=high, centre=centre).reach
    steps = grid.encode(np.array([*values, low, high]))
    assert all(abs(int(step)) * Fraction(grid.step) <= Fraction(reach) for step in steps)
    assert all(abs(int(step)) <= 2**30 for step in steps)


@settings(max_examples=200, deadline=None)
@given(bounds(), st.floats(0, 1))
def test_a_value_within_bounds_moves_by_at_most_a_step(made, share):
    low, high, centre = made
    assume(max(abs(low), abs(high)) > 1e-290)
    grid = Grid.for_bounds(low, high, centre)
    value = min(max(low + share * (high - low), low), high)
    back = float(grid.decode(grid.encode(np.array([value])))[0])
    assert abs(back - (value - centre)) <= grid.step * 1.0001


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**30), 2**30), st.integers(-(2**30), 2**30), st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_exact_up_to_two_to_the_thirty(a, b, value):
    assume(a != b)
    low, high = sorted((a, b))
    grid = Grid.for_bounds(float(low), float(high))
    assert int(grid.encode(np.array([value]))[0]) * Fraction(grid.step) == min(max(value, low), high)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**28), 2**28), st.integers(-(2**28), 2**28), st.integers(-(2**29), 2**29))
def test_whole_numbers_are_exact_about_a_centre_that_ends_in_a_half(a, b, value):
    assume(a != b)
    low, high = sorted((a, b))
    centre = low + (high - low) / 2
    grid = Grid.for_bounds(float(low), float(high), centre)
    exact = min(max(value, low), high) - Fraction(centre)
    assert int(grid.encode(np.array([value]))[0]) * Fraction(grid.step) == exact


@pytest.mark.parametrize(
    ("low", "high", "centre"),
    [(-3.0, 5.0, 0.0), (-5.0, 3.0, 0.0), (-3.0, 5.0, 1.0), (2.0, 9.0, 2.5), (-10.0, -2.0, -6.0)],
)
def test_the_finest_step_is_that_of_bounds_as_far_off_as_they_may_be(low, high, centre):
    grid = Grid.for_bounds(low, high, centre)
    reach = max(abs(low - centre), abs(high - centre))
    assert grid.finest() == replace(grid, step=reach / 2**30)
    assert grid.finest().step <= grid.step < 2 * grid.finest().step * 1.0001


def test_steps_are_whole_numbers_of_64_bits():
    assert Grid.for_bounds(0.0, 5.0).encode(np.array([1.0, 9.0])).dtype == np.int64


def test_whole_numbers_beyond_two_to_the_53_are_clipped_before_they_are_rounded():
    grid = Grid.for_bounds(0.25, 5.0)
    assert grid.decode(grid.encode(np.array([2**63 - 1, 2**53 + 1, -(2**63), 0]))).tolist() == [5.0, 5.0, 0.25, 0.25]


def test_bounds_beyond_int64_take_any_whole_number():
    grid = Grid.for_bounds(-1e20, 1e20)
    assert grid.decode(grid.encode(np.array([2**62, -(2**62)]))) == pytest.approx([2.0**62, -(2.0**62)], rel=1e-7)


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_closer_than_a_step_stay_within_the_larger_one(sign):
    low, high = sorted((sign * 9.9999999991, sign * (9.9999999991 + 1e-12)))
    grid = Grid.for_bounds(low, high)
    assert grid.lowest == grid.highest
    assert abs(grid.decode(grid.encode(np.array([0.0, 10.0, -10.0])))).max() <= 9.9999999991 + 1e-12


def test_equal_bounds_are_refused_also_far_from_the_centre():
    with pytest.raises(ValueError, match=r"^bounds must be finite with low < high"):
        Grid.for_bounds(1.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9) | st.floats(-1e-9, 1e-9), min_size=2, max_size=200), st.randoms())
def test_the_sum_is_the_same_in_any_order(values, random):
    grid = Grid.for_bounds(-1e9, 1e9)
    shuffled = list(values)
    random.shuffle(shuffled)
    start = np.array([0])
    assert checked_sum(grid.encode(np.array(values)), start) == checked_sum(grid.encode(np.array(shuffled)), start)


def test_a_float_sum_of_the_same_values_does_depend_on_the_order():
    assert np.cumsum([1e16, 3.0, -1e16])[-1] != np.cumsum([1e16, -1e16, 3.0])[-1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=10))
def test_a_checked_sum_is_exact_or_fails(values):
    total = sum(values)
    if -(2**63) <= total < 2**63:
        assert checked_sum(np.array(values), np.array([0])).tolist() == [total]
    else:
        with pytest.raises(RunFailed):
            checked_sum(np.array(values), np.array([0]))


def test_runs_are_summed_apart():
    assert checked_sum(np.array([1, -2, 3, 4]), np.array([0, 1, 3])).tolist() == [1, 1, 4]


def test_sums_to_the_ends_of_64_bits_are_exact_and_beyond_them_fail():
    large, (first, second) = 2**62, (2**62 + 2**33 + 5, 2**61 + 2**32 - 1)
    values = [large, large - 1, -large, -large, first, -second, 3, -first, second, large, -1]
    assert checked_sum(np.array(values), np.array([0, 2, 4, 7])).tolist() == [
        2**63 - 1, -(2**63), first - second + 3, -first + second + large - 1
    ]  # fmt: skip
    for beyond in ([large, large], [-large, -large, -1], [large, large - 1, 2**33]):
        with pytest.raises(RunFailed):
            checked_sum(np.array(beyond), np.array([0]))


def test_an_overflow_fails_the_run_without_naming_a_number():
    message = (
        "a sum must stay within 64-bit integers, and one did not; nothing was published; "
        "give the stage finer keys, or less data a run"
    )
    with pytest.raises(RunFailed, match=f"^{re.escape(message)}$"):
        checked_sum(np.array([2**62, 2**62]), np.array([0]))


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), (-1.7e308, 1.7e308)]
)
def test_bounds_that_are_no_interval_are_refused(low, high):
    with pytest.raises(ValueError, match=r"^bounds must be finite with low < high, got low "):
        Grid.for_bounds(low, high, low + (high - low) / 2)
