"""Amounts are exact integers, rounded against the spender."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.errors import UsageError
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.meters import BASIC, GDP, METERS, ZCDP

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


@pytest.mark.parametrize("other", [ZCDP, GDP])
def test_amounts_of_two_meters_are_never_added_subtracted_or_compared(other) -> None:
    one, another = Amount.charge(1, 1e-6), Amount.charge(1, 1e-6, other)
    assert one != another
    for use in (one.__add__, one.__sub__, one.fits):
        with pytest.raises(ValueError, match=f"amounts must be of one meter, got basic and {other.name}"):
            use(another)


@pytest.mark.parametrize(
    ("meter", "said", "fields"),
    [
        (
            BASIC,
            "ε 0.5, δ 0.000001",
            {"epsilon": 0.5, "delta": 1e-6, "epsilon_units": 5 * 10**11, "delta_units": 10**12},
        ),
        (ZCDP, "ρ 0.5, δ 0.000001", {"rho": 0.5, "delta": 1e-6, "rho_units": 5 * 10**11, "delta_units": 10**12}),
        (
            GDP,
            "μ² 0.5, δ 0.000001",
            {"mu_squared": 0.5, "delta": 1e-6, "mu_squared_units": 5 * 10**11, "delta_units": 10**12},
        ),
    ],
)
def test_an_amount_is_said_in_the_words_of_its_meter(meter, said, fields) -> None:
    amount = Amount.charge(0.5, 1e-6, meter)
    assert str(amount) == said
    assert amount.to_json() == fields


def test_a_charge_without_a_delta_is_one_of_other_meters_than_basic() -> None:
    assert Amount.charge(1, 0, ZCDP).delta == 0
    with pytest.raises(UsageError, match="delta must be above 0"):
        Amount.charge(1, 0)
    for meter in METERS.values():
        with pytest.raises(UsageError, match="delta must be above 0"):
            Amount.cap(1, 0, meter)


@pytest.mark.parametrize("meter", METERS.values(), ids=str)
def test_every_small_number_of_units_and_what_lies_around_it_is_rounded_against_the_spender(meter) -> None:
    """Exhaustively: n units and a quarter, a half and three quarters of one more, for all n to 200."""
    for n in range(1, 201):
        for quarter in range(4):
            written = Fraction(4 * n + quarter, 4)
            text = str(Decimal(written.numerator) / Decimal(written.denominator))
            charge = Amount.charge(f"{text}e-12", f"{text}e-18", meter)
            cap = Amount.cap(f"{text}e-12", f"{text}e-18", meter)
            assert (charge.epsilon, charge.delta) == (n + (quarter > 0), n + (quarter > 0))
            assert (cap.epsilon, cap.delta) == (n, n)
