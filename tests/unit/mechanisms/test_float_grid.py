"""On the grid no sum of floats is ever rounded, whatever its order."""

from __future__ import annotations

import functools
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.mechanisms.float_grid import FloatGrid

finite = st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e300, max_value=1e300)
bounds = st.tuples(st.floats(-1e6, 1e6), st.floats(1.0, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(bounds, st.lists(finite, min_size=1, max_size=50), st.booleans())
def test_sums_of_values_and_of_squares_are_exact(limits, values, squares) -> None:
    low, high = limits
    grid = FloatGrid.for_bounds(low, high, squares=squares, centred=True)
    clipped = grid.clip(np.array(values))
    assert ((low <= grid.low) & (grid.low <= clipped) & (clipped <= grid.high) & (grid.high <= high)).all()
    middle = grid.low + (grid.high - grid.low) / 2
    centred = clipped - middle
    assert [Fraction(c) for c in centred] == [Fraction(c) - Fraction(middle) for c in clipped]
    assert sum(map(Fraction, centred)) == Fraction(float(centred.sum()))
    if squares:
        assert sum(Fraction(c) ** 2 for c in centred) == Fraction(float((centred**2).sum()))


@given(bounds, st.lists(finite, min_size=1, max_size=50))
def test_values_stay_close(limits, values) -> None:
    low, high = limits
    grid = FloatGrid.for_bounds(low, high, squares=False, centred=False)
    assert grid.clip(np.array(values)) == pytest.approx(
        np.clip(values, low, high), abs=max(abs(low), abs(high)) / 2**21
    )


def test_a_float_sum_off_the_grid_can_move_by_more_than_a_value() -> None:
    """What the grid is for: beside the value 1 every other is rounded up to its double, so 1 moves the sum by more."""
    small = [2.0**-53 * (1 + 2.0**-52)] * 3
    # Not `sum`, which makes up for rounding since Python 3.12.
    with_one, without = (functools.reduce(operator.add, values) for values in ([1.0, *small], small))
    assert Fraction(with_one) - Fraction(without) > 1


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf), (-1e308, 1e308)])
def test_bounds_without_a_grid_are_refused(low, high) -> None:
    with pytest.raises(ValueError, match=r"^bounds must be finite with low < high, got"):
        FloatGrid.for_bounds(low, high, squares=False, centred=False)


@pytest.mark.parametrize(
    ("low", "high", "squares", "centred", "exponent"),
    [
        (-8.0, 8.0, False, False, 3 - 22),
        (0.0, 10.0, False, False, 4 - 22),
        (0.0, 10.0, True, False, 4 - 10),
        (0.0, 10.0, False, True, 3 - 22),
        (2.0**40, 2.0**40 + 4096, False, True, 41 - 51),
        (0.0, 2.0**-1000, False, False, -1000),
    ],
)
def test_the_step_is_the_finest_that_exact_sums_allow(low, high, squares, centred, exponent) -> None:
    grid = FloatGrid.for_bounds(low, high, squares=squares, centred=centred)
    assert grid.step == 2.0**exponent
    assert (grid.low, grid.high) == (low, high)


def test_bounds_to_be_centred_are_a_thousand_steps_apart_at_least() -> None:
    low, step = 2.0**40, 2.0**-10
    grid = FloatGrid.for_bounds(low, low + 1000 * step, squares=False, centred=True)
    assert (grid.step, grid.high - grid.low) == (step, 1000 * step)
    with pytest.raises(ValueError, match=r"^bounds must not lie so close together for their size, got low 1"):
        FloatGrid.for_bounds(low, low + 999 * step, squares=False, centred=True)


def test_what_is_bounded_once_it_is_added_up_is_cut_to_whole_steps_towards_zero() -> None:
    grid = FloatGrid.for_bounds(-8.0, 8.0, squares=False, centred=False)
    steps = np.array([0.0, 3.7, -3.7, 5.0, 1e9, -1e9])
    assert (grid.snap(steps * grid.step, 1000.5 * grid.step) / grid.step).tolist() == [0, 3, -3, 5, 1000, -1000]
    assert grid.snap(np.array([3, -20]), 16.0).tolist() == [3.0, -16.0]
