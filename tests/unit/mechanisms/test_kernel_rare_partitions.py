"""Partitions of one rare unit count are decided by gaps; all others by PyDP's own word, each of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from pydp.algorithms.partition_selection import create_partition_strategy

from dpbeam.mechanisms import rare_partitions

RARE = create_partition_strategy("truncated_geometric", 1.0, 1e-12, 1)


class Watched:
    """PyDP's strategy, which also notes what it was asked."""

    def __init__(self, strategy=RARE):
        self._strategy, self.asked = strategy, []

    def should_keep(self, users):
        self.asked.append(users)
        return self._strategy.should_keep(users)

    def probability_of_keep(self, users):
        return self._strategy.probability_of_keep(users)


def test_a_rare_count_of_many_partitions_is_not_asked_for():
    strategy = Watched()
    assert not rare_partitions.decide(strategy, np.ones(100_000, dtype=np.int64)).any()
    assert strategy.asked == []


class Constant:
    """One chance of keeping, whatever the count; says no to all that it is asked of, and notes what that was."""

    def __init__(self, chance):
        self._chance, self.asked = chance, []

    def should_keep(self, users):
        self.asked.append(users)
        return False

    def probability_of_keep(self, users):
        return self._chance


@pytest.mark.parametrize("chance", [rare_partitions.LEAST, rare_partitions.MOST])
def test_just_enough_partitions_are_skipped_at_the_least_and_the_largest_chance(chance):
    strategy = Constant(chance)
    rare_partitions.decide(strategy, np.ones(rare_partitions.MANY, dtype=np.int64))
    assert strategy.asked == []


def test_counts_that_do_not_fit_are_not_taken_for_one_another():
    fits, large = (
        np.full(rare_partitions.MANY, (1 << 16) - 2),
        np.repeat([(1 << 16) - 1, 1 << 16, 1 << 40], rare_partitions.MANY),
    )
    strategy = Constant(rare_partitions.LEAST)
    rare_partitions.decide(strategy, np.concatenate([fits, large]))
    assert strategy.asked == large.tolist()


def test_a_count_of_few_partitions_is_asked_for_each():
    strategy = Watched()
    rare_partitions.decide(strategy, np.ones(rare_partitions.MANY - 1, dtype=np.int64))
    assert strategy.asked == [1] * (rare_partitions.MANY - 1)


@pytest.mark.parametrize("users", [100, 1 << 15, (1 << 16) - 1, 1 << 16, 1 << 40])
def test_a_likely_count_is_asked_for_each_however_large(users):
    strategy = Watched()
    kept = rare_partitions.decide(strategy, np.full(1000, users))
    assert kept.all()
    assert strategy.asked == [users] * 1000


def test_a_count_that_is_hardly_ever_kept_is_asked_for_each():
    strategy = Watched(create_partition_strategy("truncated_geometric", 1.0, 1e-17, 1))
    rare_partitions.decide(strategy, np.ones(100, dtype=np.int64))
    assert strategy.asked == [1] * 100


def test_what_is_kept_is_marked_where_it_stands():
    users = np.random.default_rng(1).permutation(np.repeat([1, 60, 2, 70_000], 1000))
    kept = rare_partitions.decide(Watched(), users)
    assert (kept == (users >= 60)).all()


def test_no_partitions_need_no_decision():
    assert rare_partitions.decide(Watched(), np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("chance", [2.0**-6, 0.01, 1e-5, 1e-9, 2.0**-50])
def test_the_rate_is_that_of_the_probability(chance):
    rate = Fraction(rare_partitions.rate(chance))
    series = sum(-((-rate) ** k) / math.factorial(k) for k in range(1, 12))  # 1 − e^−rate
    assert abs(series / Fraction(chance) - 1) < Fraction(1, 2**52)


@pytest.mark.parametrize("chance", [2.0**-6, 1e-3, 1e-9])
@pytest.mark.parametrize("trials", [0, 1, 1000])
def test_successes_are_among_the_trials_and_in_order(chance, trials):
    found = rare_partitions.successes(chance, trials)
    assert found.dtype == np.int64
    assert (np.diff(found) > 0).all()
    assert ((found >= 0) & (found < trials)).all()


@pytest.mark.parametrize("chance", [0.0, 2.0**-51, 0.02, 1.0, math.nan])
def test_a_chance_that_the_sampler_is_not_used_for_is_refused(chance):
    with pytest.raises(ValueError, match=r"^partitions are skipped by a probability from .* to .*, got "):
        rare_partitions.successes(chance, 10)


def test_decisions_are_marks():
    assert rare_partitions.decide(Watched(), np.array([1, 2] * 100)).dtype == np.bool_


def test_successes_are_numbered_by_the_gaps_between_them_until_no_trial_is_left(monkeypatch):
    gaps = iter([2, 0, 1, 1, 0, 5, 0])

    class Gaps:
        def __init__(self, rate):
            assert rate == rare_partitions.rate(2.0**-6)

        def sample(self):
            return next(gaps)

    monkeypatch.setattr("pydp.distributions.GeometricDistribution", Gaps)
    assert rare_partitions.successes(2.0**-6, 10).tolist() == [2, 3, 5, 7, 8]
