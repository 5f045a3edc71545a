"""Selection keeps nothing below its pre-threshold, and decides at the planned scale and threshold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dpbeam.mechanisms import noise, selection
from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding, TruncatedGeometric

LOOSE = {"stage": "s", "delta": 0.5, "l0": 1}


def mechanisms(pre_threshold):
    return [
        TruncatedGeometric(epsilon=50.0, pre_threshold=pre_threshold, **LOOSE),
        LaplaceThresholding(scale=0.01, l1=1.0, threshold=1.0, pre_threshold=pre_threshold, **LOOSE),
        GaussianThresholding(sigma=0.01, l2=1.0, threshold=1.0, pre_threshold=pre_threshold, **LOOSE),
    ]


@pytest.mark.parametrize("mechanism", mechanisms(5))
def test_nothing_below_the_pre_threshold_is_kept_and_much_above_it_all_is(mechanism):
    kept = selection.Selector(mechanism=mechanism).keep(np.array([0, 1, 4] * 500 + [7] * 500))
    assert not kept[:1500].any()
    assert kept[1500:].all()


@pytest.mark.parametrize("mechanism", mechanisms(1))
def test_a_partition_of_no_unit_is_never_kept(mechanism):
    assert not selection.Selector(mechanism=mechanism).keep(np.zeros(1000, dtype=np.int64)).any()


@pytest.mark.parametrize("mechanism", mechanisms(2))
def test_no_partitions_need_no_decision(mechanism):
    assert selection.Selector(mechanism=mechanism).keep(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("mechanism", mechanisms(2))
def test_a_used_selector_travels_without_its_strategy(mechanism):
    selector = selection.Selector(mechanism=mechanism)
    selector.keep(np.array([9]))
    sent = pickle.loads(pickle.dumps(selector))  # noqa: S301
    assert sent == selector
    assert not sent._built
    assert sent.keep(np.array([9])).tolist() == [True]


class Exact:
    """Adds no noise."""

    def add_noise(self, value):
        return value


def test_a_threshold_is_met_by_the_count_less_what_the_pre_threshold_takes(monkeypatch):
    monkeypatch.setattr(noise, "_laplace", lambda *_: Exact())
    monkeypatch.setattr(noise, "_gaussian", lambda *_: Exact())
    for event, more in (
        (LaplaceThresholding, {"scale": 1.0, "l1": 1.0}),
        (GaussianThresholding, {"sigma": 1.0, "l2": 1.0}),
    ):
        mechanism = event(threshold=7.5, pre_threshold=4, **more, **LOOSE)
        kept = selection.Selector(mechanism=mechanism).keep(np.array([3, 4, 10, 11, 12]))
        assert kept.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("pre_threshold", [1, 5])
def test_a_partition_of_just_the_pre_threshold_can_be_kept(pre_threshold):
    for mechanism in mechanisms(pre_threshold):
        assert selection.Selector(mechanism=mechanism).keep(np.full(200, pre_threshold)).any()


def test_a_pre_threshold_shifts_the_law_of_selection_also_where_it_is_two():
    # By the count less one, what is kept of two units is what is kept of one: with a probability of delta.
    mechanism = TruncatedGeometric(stage="s", epsilon=30.0, delta=1e-10, l0=1, pre_threshold=2)
    kept = selection.Selector(mechanism=mechanism).keep(np.array([2] * 100 + [9] * 100))
    assert kept.tolist() == [False] * 100 + [True] * 100


@pytest.mark.parametrize("mechanism", mechanisms(2))
def test_what_is_kept_is_a_mask(mechanism):
    assert selection.Selector(mechanism=mechanism).keep(np.array([1, 9])).dtype == np.bool_


def test_a_noisy_count_that_just_reaches_the_least_is_kept_by_both_ways(monkeypatch):
    monkeypatch.setattr(noise, "_laplace", lambda *_: Exact())
    mechanism = LaplaceThresholding(scale=1.0, l1=1.0, threshold=4.0, pre_threshold=2, **LOOSE)
    selector = selection.Selector(mechanism=mechanism)
    assert selector.keep(np.array([4, 5, 6])).tolist() == [False, True, True]
    assert selector.keep_noisy(np.array([4, 5, 6]))[0].tolist() == [False, True, True]


@pytest.mark.parametrize("mechanism", mechanisms(3)[1:])
def test_a_noisy_count_is_handed_on_of_what_is_kept_alone(mechanism):
    users = np.array([0, 2, 3, 9] * 100)
    kept, noisy = selection.Selector(mechanism=mechanism).keep_noisy(users)
    assert kept.dtype == np.bool_
    assert not kept[users < 3].any()
    assert kept[users == 9].all()
    assert 0 < kept[users == 3].mean() < 1
    assert (np.isnan(noisy) == ~kept).all()
    assert (np.abs(noisy[kept] - users[kept]) < 1).all()
    assert (noisy[kept] >= 3).all()
    assert len(np.unique(noisy[users == 9])) > 50


def test_a_selection_without_a_noisy_count_hands_none_on():
    with pytest.raises(TypeError, match=r"^truncated_geometric selects without a noisy count that could be released$"):
        selection.Selector(mechanism=mechanisms(1)[0]).keep_noisy(np.array([1]))
