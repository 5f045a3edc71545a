"""Which (unit, leaf) pairs count: one leaf of each cell before a second of any, and never too many of one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.bounding import leaf_sampling

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), unique=True, max_size=60)


def cells_of(seed, count=13):
    """Leaf l's cell: some cells have one leaf, some several."""
    return np.random.default_rng(seed).integers(0, 5, count)


def ranks(seed, units, of):
    """A hash of (unit, what it is of), with all 64 bits in use."""
    table = np.random.default_rng(seed).integers(0, 2**64, (5, 13), dtype=np.uint64)
    return table[units, of]


def by_definition(pairs, cell, leaf_rank, cell_rank, l0, most):
    """Leaves of each cell in the order of their ranks, the first `most`; of them the first `l0`, by place and rank."""
    in_cell = defaultdict(list)
    for i, (unit, _) in enumerate(pairs):
        in_cell[unit, int(cell[i])].append(i)
    left = defaultdict(list)
    for (unit, _), found in in_cell.items():
        for place, i in enumerate(sorted(found, key=lambda i: int(leaf_rank[i]))[:most]):
            left[unit].append((place, int(cell_rank[i]), i))
    return {i for found in left.values() for *_, i in sorted(found)[:l0]}


def counted(pairs, seed, l0, most):
    units, of_leaf = (np.array([pair[at] for pair in pairs], dtype=np.int64) for at in (0, 1))
    cell = cells_of(seed)[of_leaf]
    given_ranks = ranks(seed, units, of_leaf), ranks(seed + 1, units, cell)
    keep = leaf_sampling.spread_over_cells(units, cell, *given_ranks, l0, most)
    assert keep.dtype == np.bool_
    assert len(keep) == len(pairs)
    return set(np.flatnonzero(keep).tolist()), by_definition(pairs, cell, *given_ranks, l0, most)


@settings(max_examples=150, deadline=None)
@given(PAIRS, st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4))
def test_what_counts_is_what_the_definition_says(pairs, seed, l0, most):
    found, expected = counted(pairs, seed, l0, most)
    assert found == expected


@settings(max_examples=80, deadline=None)
@given(PAIRS, st.integers(0, 60), st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4))
def test_a_leaf_that_does_not_count_among_some_does_not_among_more(pairs, some, seed, l0, most):
    few, _ = counted(pairs[:some], seed, l0, most)
    many, _ = counted(pairs, seed, l0, most)
    assert {i for i in many if i < some} <= few


@pytest.mark.parametrize("seed", range(4))
def test_what_counts_of_many_leaves_of_units_far_apart_is_what_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    pairs = [(int(code) // 13, int(code) % 13) for code in rng.permutation(5 * 13)]
    found, expected = counted(pairs, seed, 7, 2)
    assert found == expected
    units, cell = rng.integers(0, 10**6, (2, 2000)) // np.array([[10**5], [2 * 10**5]])
    given_ranks = rng.integers(0, 2**64, (2, 2000), dtype=np.uint64)
    keep = leaf_sampling.spread_over_cells(units, cell, *given_ranks, 30, 9)
    again = by_definition(list(zip(units.tolist(), cell.tolist(), strict=True)), cell, *given_ranks, 30, 9)
    assert set(np.flatnonzero(keep).tolist()) == again


def test_cells_of_neighbouring_units_stay_apart():
    """65,535 cells: were a cell's number taken away from its unit's, −1 and 65,535 would be alike in two bytes."""
    unit, cell = np.array([0, 1, 0, 1]), np.array([1, 0, 1, 65_534])
    rank = np.arange(4, dtype=np.uint64)
    assert leaf_sampling.spread_over_cells(unit, cell, rank, rank, 4, 1).tolist() == [True, True, False, True]


def test_one_leaf_of_each_cell_comes_before_a_second_of_any():
    cell = np.array([0, 0, 0, 0, 1, 2])
    zeros, ones = np.zeros(6, dtype=np.int64), np.arange(6, dtype=np.uint64)
    keep = leaf_sampling.spread_over_cells(zeros, cell, ones, cell.astype(np.uint64), 3, 4)
    assert keep.tolist() == [True, False, False, False, True, True]
    keep = leaf_sampling.spread_over_cells(zeros, cell, ones, cell.astype(np.uint64), 6, 2)
    assert keep.tolist() == [True, True, False, False, True, True]


@pytest.mark.parametrize("step", [1, 1 << 32, 1 << 62])
def test_ranks_decide_by_all_their_bits(step):
    rank = np.array([2, 0, 1], dtype=np.uint64) * np.uint64(step)
    unit, cell = np.zeros(3, dtype=np.int64), np.array([0, 1, 2])
    assert leaf_sampling.spread_over_cells(unit, unit, rank, rank * np.uint64(0), 1, 1).tolist() == [False, True, False]
    assert leaf_sampling.spread_over_cells(unit, cell, rank * np.uint64(0), rank, 2, 1).tolist() == [False, True, True]


def test_more_units_and_cells_than_two_bytes_number():
    """Codes of (unit, cell) need 35 bits here, and runs of equal ones stay apart."""
    unit = np.repeat(np.arange(2**17), 2)
    cell = np.tile(np.array([7, 2**18]), 2**17)
    rank = np.random.default_rng(0).integers(0, 2**64, len(unit), dtype=np.uint64)
    assert leaf_sampling.spread_over_cells(unit, cell, rank, rank, 2, 1).all()
    keep = leaf_sampling.spread_over_cells(unit, cell, rank, rank, 1, 1).reshape(-1, 2)
    assert (keep.sum(axis=1) == 1).all()
    assert np.array_equal(keep[:, 0], rank[::2] < rank[1::2])


def test_of_nothing_nothing_counts():
    none = np.empty(0, dtype=np.int64)
    keep = leaf_sampling.spread_over_cells(none, none, none.view(np.uint64), none.view(np.uint64), 1, 1)
    assert (keep.dtype, len(keep)) == (np.bool_, 0)
