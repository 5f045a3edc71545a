"""Numbers for people: no more digits than the noise lets stand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.reporting.numbers import exact, humane, one_in, significant


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (1234.5678, 13.7, "1,235"),
        (1234.5678, 0.137, "1,234.57"),
        (1234567.0, 5000.0, "1,234,600"),
        (-0.2, 13.7, "0"),
        (-27.4, 13.7, "−27"),
        (12.3456, 0.0, "12.35"),
        (12.3456, math.nan, "12.35"),
        (math.nan, 1.0, "–"),
        (math.inf, 1.0, "–"),
        (0.5, 1e-300, "0.5"),
    ],
)
def test_a_value_is_rounded_to_the_second_digit_of_its_noise(value: float, std: float, text: str) -> None:
    assert humane(value, std) == text


@given(value=st.floats(), std=st.floats())
@settings(deadline=None, max_examples=200)
def test_any_two_doubles_give_a_text(value: float, std: float) -> None:
    assert humane(value, std)
    assert significant(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1e-8, "1e−8"), (0.012345, "0.0123"), (98765.0, "98,800"), (0.0, "0"), (-2.5, "−2.5"), (None, "–")],
)
def test_significant_digits_are_kept_and_no_more(value: float | None, text: str) -> None:
    assert significant(value) == text.replace("e−", "e-")


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (0.25, "0.25"), (1e-8, "1e-8"), (9.6e-7, "9.6e-7")])
def test_exact_shows_what_a_policy_states(value: float, text: str) -> None:
    assert exact(value) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1e-6, "one in 1 million"), (2.5e-9, "one in 400 million"), (0.001, "one in 1,000"), (1e-12, "one in 1 trillion")],
)
def test_a_small_probability_is_put_in_words(probability: float, text: str) -> None:
    assert one_in(probability) == text
