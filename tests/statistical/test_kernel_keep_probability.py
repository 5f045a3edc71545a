"""Partitions are kept as often as PyDP says: each strategy, with and without a pre-threshold.

20,000 fresh decisions a count; the binomial test fails by chance with probability 1e-9 for each. A strategy with
another delta, or a pre-threshold off by one, is rejected by the same test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydp.algorithms.partition_selection import create_partition_strategy
from scipy import stats

from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding, TruncatedGeometric
from dpbeam.mechanisms.selection import Selector

DRAWS = 20_000
ALPHA = 1e-9
EPSILON, DELTA, L0 = 1.5, 1e-3, 3
STRATEGIES = ["truncated_geometric", "laplace", "gaussian"]


def theirs(strategy, pre_threshold, delta=DELTA):
    return create_partition_strategy(strategy, EPSILON, delta, L0, *([pre_threshold] if pre_threshold > 1 else []))


def ours(strategy, pre_threshold):
    """The event with the scale and threshold that PyDP picks for (EPSILON, DELTA, L0)."""
    common = {"stage": "s", "l0": L0, "pre_threshold": pre_threshold}
    if strategy == "truncated_geometric":
        return TruncatedGeometric(epsilon=EPSILON, delta=DELTA, **common)
    threshold = theirs(strategy, 1).threshold
    if strategy == "laplace":
        return LaplaceThresholding(scale=L0 / EPSILON, l1=float(L0), threshold=threshold, delta=DELTA, **common)
    # PyDP halves delta between noise and threshold: 1 + sigma · z = threshold, where z leaves a unit's share above.
    share = -np.expm1(np.log1p(-DELTA / 2) / L0)
    sigma = (threshold - 1) / stats.norm.isf(share)
    return GaussianThresholding(sigma=sigma, l2=L0**0.5, threshold=threshold, delta=DELTA / 2, **common)


def counts(strategy, pre_threshold):
    """A few counts at which the decision is open, and the least that may be kept at all."""
    reference = theirs(strategy, pre_threshold)
    chances = {n: reference.probability_of_keep(n) for n in range(1, 80)}
    open_ = [n for n, chance in chances.items() if 0.02 < chance < 0.98]
    return [pre_threshold, open_[0], open_[len(open_) // 3], open_[len(open_) // 2], open_[-1]]


def matches(mechanism, users, chance):
    kept = int(Selector(mechanism=mechanism).keep(np.full(DRAWS, users)).sum())
    return stats.binomtest(kept, DRAWS, chance).pvalue > ALPHA


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pre_threshold", [1, 8])
def test_partitions_are_kept_as_often_as_pydp_says(strategy, pre_threshold):
    for users in counts(strategy, pre_threshold):
        chance = theirs(strategy, pre_threshold).probability_of_keep(users)
        assert matches(ours(strategy, pre_threshold), users, chance), users


@pytest.mark.parametrize(("strategy", "law"), [("laplace", stats.laplace), ("gaussian", stats.norm)])
@pytest.mark.parametrize("pre_threshold", [1, 8])
def test_the_closed_form_of_a_threshold_is_what_pydp_says(strategy, law, pre_threshold):
    mechanism = ours(strategy, pre_threshold)
    scale = mechanism.scale if strategy == "laplace" else mechanism.sigma
    for users in counts(strategy, pre_threshold):
        closed = law.sf(mechanism.threshold - (users - (pre_threshold - 1)), scale=scale)
        assert closed == pytest.approx(theirs(strategy, pre_threshold).probability_of_keep(users), rel=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_pre_threshold_off_by_one_is_noticed(strategy):
    users = counts(strategy, 8)[3]
    chance = theirs(strategy, 8).probability_of_keep(users)
    assert not matches(replace(ours(strategy, 8), pre_threshold=9), users, chance)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_delta_is_noticed(strategy):
    users = counts(strategy, 1)[3]
    assert not matches(ours(strategy, 1), users, theirs(strategy, 1, delta=DELTA * 10).probability_of_keep(users))
