"""Amounts are exact integers, rounded against the spender."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.errors import UsageError
from dpbeam.ledger.amounts import Amount

written = st.decimals(min_value="1e-11", max_value="1000", allow_nan=False, places=15).filter(
    lambda d: d > Decimal("1e-11")
)


def test_ten_tenths_are_exactly_one() -> None:
    total = Amount(epsilon=0, delta=0)
    for _ in range(10):
        total += Amount.charge(0.1, 1e-7)
    assert total == Amount.cap(1, 1e-6)


@given(written)
def test_a_charge_is_never_below_and_a_cap_never_above_what_is_written(epsilon: Decimal) -> None:
    unit = Fraction(1, 10**12)
    assert Amount.charge(str(epsilon), "1e-6").epsilon * unit >= Fraction(epsilon)
    assert Amount.cap(str(epsilon), "1e-6").epsilon * unit <= Fraction(epsilon)


@pytest.mark.parametrize("bad", [0, -1, 0.0, float("nan"), float("inf"), "x", "1_0", " 1", True, None, 1e30])
@pytest.mark.parametrize("name", ["epsilon", "delta"])
def test_what_is_no_positive_finite_number_is_refused(bad, name) -> None:
    with pytest.raises(UsageError, match=name):
        Amount.charge(**{"epsilon": 1, "delta": 1e-6} | {name: bad})


def test_a_delta_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="delta must be below 1"):
        Amount.charge(1, 1)


def test_a_difference_below_zero_can_not_be_built() -> None:
    with pytest.raises(ValueError, match="epsilon must be a whole number"):
        Amount.charge(1, 1e-6) - Amount.charge(2, 1e-6)
