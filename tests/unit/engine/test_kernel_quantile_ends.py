"""The ends of a quantile's interval are those of their definition, for any noisy counts: a search by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpbeam.engine.release.quantile_tree import search

LOW, HIGH, NORMAL_95 = -3.0, 5.0, 1.959963984540054
LAST = 16**4 - 1


def noisy_counts(seed, level, node):
    """The noisy counts of a node's 16 children: rows in few of them, noise in all."""
    rng = np.random.default_rng([seed, level, node])
    rows = np.where(rng.random(16) < 0.4, rng.integers(0, 60, 16), 0)
    return np.rint(rows + rng.normal(0, 3, 16))


def margin_of(rank):
    return 1.79 + min(1, (min(rank, 1 - rank) - 0.005) / 0.045) * 0.07


def ends(children, rank, std):
    """The leaves that a search for the lower and for the upper end comes to.

    At the place between k children and the others, the rows left of it less rank · all rows are 0 but for their noise
    if the quantile is there. Their noise is that of 16 counts, each taken 1 − rank or rank times, and of one count for
    each child passed below.
    """
    found = []
    for upper in (False, True):
        node, offset, passed, clear = 0, 0.0, 0.0, False
        for level in range(4):
            counts = children(level, node)
            left = [float(sum(counts[:k])) for k in range(17)]
            if level == 0:
                offset, clear = -rank * left[16], left[16] > NORMAL_95 * std * 4
                spread = [k * (1 - rank) ** 2 + (16 - k) * rank**2 for k in range(17)]
            else:
                spread = [passed + k for k in range(17)]
            figures = [offset + rows for rows in left]
            rising = [(max(figures[: k + 1]) + min(figures[k:])) / 2 for k in range(17)]
            margin = [margin_of(rank) * std * math.sqrt(each) for each in spread]
            if not clear:
                child = 15 if upper else 0
            elif upper:
                child = max((k for k in range(16) if rising[k] <= margin[k]), default=0)
            else:
                child = min((k for k in range(16) if rising[k + 1] >= -margin[k + 1]), default=15)
            offset, passed, node = figures[child], spread[child], node * 16 + child
        found.append(node)
    return found


def value(leaf):
    share = min(leaf / LAST, 1.0)
    return share * HIGH + (1 - share) * LOW


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.lists(st.floats(0.005, 0.995), min_size=1, max_size=3, unique=True),
    st.sampled_from([0.0, 0.5, 3.0, 12.0, 60.0]),
)
@example(1, [0.25, 0.5], 0.0)
@example(2, [0.995, 0.005], 3.0)
@example(16, [0.25, 0.5], 0.5)  # where every place below is rejected in one partition
@example(43, [0.25, 0.5], 0.5)
def test_the_ends_are_where_the_first_and_the_last_place_is_not_rejected(seed, ranks, std):
    partitions = 3

    def children(level, nodes):
        return np.array([noisy_counts(seed, level, node) for node in nodes.tolist()])

    found = search(children, partitions, ranks, LOW, HIGH, std)
    for partition in range(partitions):
        for place, rank in enumerate(ranks):
            quantile, low, high = found[partition, place]
            first = partition  # a level's nodes are numbered over all partitions
            lower, upper = ends(
                lambda level, node, at=first: noisy_counts(seed, level, at * 16**level + node), rank, std
            )
            assert low == min(value(lower), quantile)
            assert high == max(value(upper + 1), quantile)


def test_a_place_that_is_just_not_rejected_is_in_the_interval():
    """Four rows without noise: the median may be anywhere from the second to the third; ties are not rejected."""

    def children(level, nodes):
        counts = np.zeros((len(nodes), 16))
        counts[:, [2, 5, 9, 11]] = 1 if level == 0 else 0
        counts[:, 7] = 0 if level == 0 else 1
        return counts

    ((_, low, high),) = search(children, 1, [0.5], 0.0, 16.0, 0.0)[0]
    assert 5 <= low < 6
    assert 9 <= high < 10


def test_a_child_of_just_the_negligible_share_counts():
    def children(level, nodes):
        counts = np.zeros((len(nodes), 16))
        counts[:, 3], counts[:, 8] = (1, 199) if level == 0 else (1, 0)
        return counts

    ((quantile, _, _),) = search(children, 1, [0.005], 0.0, 16.0, 0.0)[0]
    assert 3 <= quantile < 4


def counts_of(first, below):
    """Children's counts: `first[p]` of partition p at the top, `below` (or zeros) everywhere further down."""

    def children(level, nodes):
        return np.array([first[node] if level == 0 else below for node in nodes.tolist()], dtype=np.float64)

    return children


def one(place, count):
    return [float(count) if k == place else 0.0 for k in range(16)]


NOTHING = [0.0] * 16


def test_where_all_places_below_are_rejected_the_last_or_first_is_taken_whatever_others_do():
    """Rows that noise took away below: left of everything there are too few, or too many, in one of two partitions."""
    dip = [0.0] * 4 + [40.0, 40.0, -40.0, 0.0] + [40.0] * 2 + [0.0] * 6
    first, std, rank = [one(5, 100), dip, one(0, 100)], 0.5, 0.5
    found = search(counts_of(first, NOTHING), 3, [rank], LOW, HIGH, std)[:, 0]
    for partition, (quantile, low, high) in enumerate(found):
        alone = counts_of([first[partition]], NOTHING)
        lower, upper = ends(lambda level, node, alone=alone: alone(level, np.array([node]))[0], rank, std)
        assert (low, high) == (min(value(lower), quantile), max(value(upper + 1), quantile))


@pytest.mark.parametrize("std", [0.0, 1.0])
def test_a_partition_that_may_be_empty_may_have_its_quantile_anywhere(std):
    found = search(counts_of([NOTHING, one(15, 100)], one(15, 100)), 2, [0.5], LOW, HIGH, std)[:, 0]
    assert found[0, 1:].tolist() == [LOW, HIGH]
    assert found[1, 1] > HIGH - 1  # rows in the last child count as well as others
