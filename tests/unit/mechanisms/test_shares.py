"""Shares of noisy numbers: what they are where there is hardly any noise, and where there is nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.mechanisms.shares import Share, nested, share

NOISES = [
    Laplace(stage="s", metric="rows", scale=1.0, l1=1.0),
    Gaussian(stage="s", metric="rows", sigma=1.0, l2=1.0),
]


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.kind)
def test_of_large_numbers_it_is_their_share_in_a_narrow_interval(noise) -> None:
    found = share([1e6, 2e6, 5e6], [False, True, True], noise)
    assert found.value == 7 / 8
    assert found.high - found.low < 2e-3


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.kind)
def test_of_what_may_be_noise_alone_no_share_is_rejected(noise) -> None:
    found = share([1.0, -0.5, 2.0], [False, False, True], noise)
    assert (found.low, found.high) == (0, 1)


def test_beyond_what_a_share_can_be_it_is_the_nearest() -> None:
    assert share([-3.0, 0.0, 1000.0], [False, False, True], NOISES[1]).value == 1
    assert share([1000.0, 0.0, -3.0], [False, False, True], NOISES[1]).value == 0


def test_a_share_outside_its_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="a share must lie in its interval, within 0 and 1"):
        Share(value=0.5, low=0.6, high=0.7)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.sampled_from(NOISES))
def test_whatever_is_drawn_there_is_a_share_in_its_interval(noisy, noise) -> None:
    found = share(noisy, [False, False, True], noise)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.sampled_from(NOISES))
def test_whatever_is_drawn_a_part_is_no_larger_than_the_whole(noisy, noise) -> None:
    alone = [share(noisy, inside, noise) for inside in ([False, False, True], [False, True, True])]
    part, whole = nested(*alone)
    assert part.value <= whole.value
    for before, after in zip(alone, (part, whole), strict=True):  # so that an interval holds what it held
        assert after.low <= before.low <= before.high <= after.high
    if alone[0].value <= alone[1].value:
        assert [part, whole] == alone
