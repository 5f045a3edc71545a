"""Skipping from kept partition to kept partition has the law of deciding on each.

Every test fails by chance with probability 1e-9 for each figure it looks at, and is shown to reject the bug it guards
against: a gap that is one too short or too long, gaps used twice, a rate that isn't the probability's.
"""

from __future__ import annotations

import numpy as np
import pytest
from pydp.algorithms.partition_selection import create_partition_strategy
from scipy import stats

from dpbeam.mechanisms import rare_partitions
from dpbeam.mechanisms.rare_partitions import decide, successes

ALPHA = 1e-9
MOST = rare_partitions.MOST
CHANCES = [MOST, 1e-3, 1e-9, 2.0**-50]
GAPS = 40_000
OFTEN = create_partition_strategy("truncated_geometric", 0.2, 5e-3, 1)
"""Keeps a partition of 1 unit with 0.005, of 2 with 0.011, of 3 with 0.019: the first two are skipped."""


def is_geometric(gaps, chance) -> bool:
    """Chi-square of the failures before each success, in 40 classes of about one probability."""
    levels = np.arange(1, 40) / 40
    edges = np.unique(np.ceil(np.log1p(-levels) / np.log1p(-chance)).astype(np.int64))  # class i: edges[i-1] <= gap
    below = -np.expm1(edges * np.log1p(-chance))
    expected = np.diff(np.concatenate(([0.0], below, [1.0]))) * len(gaps)
    found = np.bincount(np.searchsorted(edges, gaps, side="right"), minlength=len(expected))
    return bool(stats.chisquare(found, expected).pvalue > ALPHA)


def is_binomial(found: int, trials: int, chance: float) -> bool:
    return bool(stats.binomtest(found, trials, chance).pvalue > ALPHA)


def gaps_of(chance):
    """The gaps of about GAPS successes (of the smallest chance 4,096), all of them before the end of the trials."""
    trials = int(min(GAPS / chance, 2**62))
    gaps = np.diff(successes(chance, trials), prepend=-1) - 1
    assert abs(len(gaps) - trials * chance) < 6.2 * (trials * chance) ** 0.5
    return gaps


@pytest.mark.parametrize("chance", CHANCES)
def test_gaps_are_geometric(chance):
    gaps = gaps_of(chance)
    assert is_geometric(gaps, chance)
    assert not is_geometric(gaps, 1.4 * chance)
    assert not is_geometric(gaps, chance / 1.4)


def test_gaps_one_off_are_noticed():
    gaps = gaps_of(MOST)
    assert not is_geometric(gaps + 1, MOST)
    assert not is_geometric(np.maximum(gaps - 1, 0), MOST)


@pytest.mark.parametrize("chance", CHANCES)
def test_a_gap_says_nothing_of_the_next(chance):
    gaps = gaps_of(chance)
    halves = (gaps[:-1:2] < np.median(gaps), gaps[1::2] < np.median(gaps))
    assert is_binomial(int((halves[0][: len(halves[1])] == halves[1]).sum()), len(halves[1]), 0.5)
    assert not is_binomial(int((halves[1] == halves[1]).sum()), len(halves[1]), 0.5)  # one draw used twice


def test_the_first_and_the_last_trial_succeed_as_often_as_any():
    trials, repeats = 100, 40_000
    found = np.concatenate([successes(MOST, trials) for _ in range(repeats)])
    often = np.bincount(found, minlength=trials)
    assert all(is_binomial(int(n), repeats, MOST) for n in often)
    assert not is_binomial(int(often[0] * 1.5), repeats, MOST)


def test_two_calls_keep_unrelated_partitions():
    trials = 4_000_000
    first, second = successes(MOST, trials), successes(MOST, trials)
    both = len(np.intersect1d(first, second))
    assert is_binomial(both, trials, MOST**2)
    assert not is_binomial(len(np.intersect1d(first, first)), trials, MOST**2)


@pytest.mark.parametrize("pre_threshold", [1, 3])
def test_every_count_is_kept_as_often_as_pydp_keeps_it(pre_threshold):
    each = 400_000
    theirs = (
        OFTEN if pre_threshold == 1 else create_partition_strategy("truncated_geometric", 0.2, 5e-3, 1, pre_threshold)
    )
    counts = np.arange(1, 4) + pre_threshold - 1
    users = np.random.default_rng(3).permutation(np.repeat(counts, each))
    kept = decide(theirs, users)
    for count in counts.tolist():
        chance, found = theirs.probability_of_keep(count), int(kept[users == count].sum())
        asked = sum(map(theirs.should_keep, [count] * each))
        assert is_binomial(found, each, chance)
        assert stats.fisher_exact([[found, each - found], [asked, each - asked]]).pvalue > ALPHA
        assert not is_binomial(found, each, 1.3 * chance)


def test_two_counts_are_decided_apart():
    """Partitions of 1 and 2 units in turn: were both decided by one draw, the same places would be kept."""
    pairs = 2_000_000
    kept = decide(OFTEN, np.tile([1, 2], pairs)).reshape(-1, 2)
    one, two = OFTEN.probability_of_keep(1), OFTEN.probability_of_keep(2)
    assert is_binomial(int(kept.all(axis=1).sum()), pairs, one * two)
    assert not is_binomial(int(kept[:, 0].sum()), pairs, one * two)
