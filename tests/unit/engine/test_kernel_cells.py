"""Bounding by leaves of hierarchical keys: as many of a unit as may stay, spread over its cells."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.arrays import grouping
from dpbeam.engine.bounding import contributions
from dpbeam.engine.stage import Hierarchical
from tests.helpers import kernel_reference as reference

SALT = reference.SALT
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 39)), max_size=80)
COLUMNS = pa.schema([("u", pa.int64()), ("p", pa.int64()), ("id", pa.int64())])


def cells_of(found):
    """Ten leaves to a cell."""
    cell = pa.array(found.keys[0].to_numpy(zero_copy_only=False) // 10, pa.int64())
    return grouping.group([cell], found.size)


def spec_for(l0, other_l0, linf=10**6):
    return replace(reference.stage(l0=l0, linf=linf, metrics=reference.ID_METRIC), mode=Hierarchical(other_l0=other_l0))


def batches_of(pairs, cuts=()):
    table = reference.numbered([u for u, _ in pairs], [p for _, p in pairs]).cast(COLUMNS)
    return reference.batches_of(table, cuts)


def kept_leaves(pairs, spec, salt=SALT, cuts=()):
    """The kept (unit, leaf) pairs."""
    kept = reference.kept_ids(contributions.bound(batches_of(pairs, cuts), spec, salt, (1,), cells_of))
    return {pairs[i] for i in kept}


def sizes(pairs):
    """How many leaves each unit has in each of its cells, most first."""
    found = defaultdict(Counter)
    for unit, leaf in set(pairs):
        found[unit][leaf // 10] += 1
    return {unit: sorted(cells.values(), reverse=True) for unit, cells in found.items()}


def spread(cells, l0, most):
    """One leaf from each cell in turn while there are some, up to `most` of a cell and `l0` in all."""
    left, taken = [min(n, most) for n in cells], Counter()
    while sum(taken.values()) < l0 and any(left):
        for i, n in enumerate(left):
            if n and sum(taken.values()) < l0:
                left[i], taken[i] = n - 1, taken[i] + 1
    return sorted(taken.values(), reverse=True)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(0, 80), max_size=3))
def test_units_keep_as_many_leaves_of_each_cell_as_the_bounds_allow(pairs, l0, other_l0, cuts):
    kept = kept_leaves(pairs, spec_for(l0, other_l0), cuts=cuts)
    assert sizes(kept) == {unit: spread(cells, l0, min(l0, other_l0)) for unit, cells in sizes(pairs).items()}


MANY = [(unit, leaf) for unit in range(300) for leaf in range(40)]
"""300 units, each in four cells of ten leaves."""


def test_units_with_many_leaves_keep_the_same_number_of_each_cell():
    assert set(map(tuple, sizes(kept_leaves(MANY, spec_for(12, 5))).values())) == {(3, 3, 3, 3)}
    assert set(map(tuple, sizes(kept_leaves(MANY, spec_for(12, 2))).values())) == {(2, 2, 2, 2)}


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS, st.integers(1, 5), st.integers(1, 3))
def test_which_leaves_of_a_unit_stay_is_blind_to_other_units_and_to_the_order(pairs, others, l0, other_l0):
    mine, spec = [(9, leaf) for _, leaf in pairs], spec_for(l0, other_l0)
    alone = kept_leaves(mine, spec)
    assert {pair for pair in kept_leaves(others + mine[::-1], spec) if pair[0] == 9} == alone


def test_every_unit_draws_leaves_and_cells_of_its_own():
    """Of 300 units one leaf each of 40, and of a leaf a cell: each is drawn about as often as any other."""
    kept = kept_leaves(MANY, spec_for(1, 1))
    assert len(kept) == 300
    by_cell = Counter(leaf // 10 for _, leaf in kept)
    # The salt is fixed; of salts that are drawn one in 10⁸ would be further off (6 standard deviations).
    assert all(abs(by_cell[cell] - 75) < 46 for cell in range(4))
    assert max(Counter(leaf for _, leaf in kept).values()) < 40  # 7.5 are expected


def test_the_leaf_of_a_cell_says_nothing_about_the_cell():
    """Two hashes: were leaves ranked by their cells' one, or all units' alike, cells' first would be the same."""
    first = kept_leaves(MANY, spec_for(4, 1))
    chosen = {(unit, leaf // 10): leaf % 10 for unit, leaf in first}
    assert len(chosen) == 1200
    by_place = Counter(chosen.values())
    # 6.9 standard deviations, as those below.
    assert all(abs(by_place[place] - 120) < 72 for place in range(10))
    same = sum(chosen[unit, 0] == chosen[unit, 1] for unit in range(300))
    assert abs(same - 30) < 36


def test_another_salt_keeps_other_leaves_and_other_cells():
    for spec in (spec_for(4, 1), spec_for(1, 1)):
        one, two = (kept_leaves(MANY, spec, salt) for salt in (SALT, SALT[::-1]))
        assert one != two
    cells = [{(unit, leaf // 10) for unit, leaf in kept_leaves(MANY, spec_for(1, 1), s)} for s in (SALT, SALT[::-1])]
    assert cells[0] != cells[1]


def test_rows_of_the_leaves_that_stay_are_bounded_too():
    pairs = [(1, leaf) for leaf in range(40) for _ in range(3)]
    kept = reference.kept_ids(contributions.bound(batches_of(pairs), spec_for(8, 2, linf=2), SALT, (1,), cells_of))
    assert sorted(Counter(pairs[i] for i in kept).values()) == [2] * 8


@pytest.mark.parametrize(("l0", "other_l0"), [(4, 2), (6, 1), (2, 2)])
def test_what_is_cut_where_it_is_read_is_cut_by_cells(l0, other_l0):
    """One unit with 3,000 leaves in one cell and a few in others: cut first or not, the same leaves stay."""
    spec = spec_for(l0, other_l0, linf=1)
    pairs = [(1, leaf) for leaf in (10_005, 10_015, 10_025, *range(3000))]

    def one_large(found):
        cell = pa.array(np.maximum(found.keys[0].to_numpy(zero_copy_only=False) // 10, 999), pa.int64())
        return grouping.group([cell], found.size)

    whole = contributions.bound(batches_of(pairs), spec, SALT, (1,), one_large)
    cuts = [
        contributions.prebound(part, spec, SALT, (0, i), one_large) for i, part in enumerate(batches_of(pairs, (1500,)))
    ]
    assert sum(cut.num_rows for cut in cuts) <= 2 * l0
    again = contributions.bound(cuts, spec, SALT, (1,), one_large)
    assert reference.kept_ids(whole) == reference.kept_ids(again)
    assert len(whole.values["id"]) == min(l0, other_l0 + 3)


def test_what_was_bounded_by_leaves_has_their_cells():
    pairs = [(1, 5), (1, 17), (2, 12)]
    bounded = contributions.bound(batches_of(pairs), spec_for(4, 2), SALT, (1,), cells_of)
    of_leaf = dict(zip(bounded.keys[0].to_pylist(), bounded.cells.codes.tolist(), strict=True))
    assert {leaf: bounded.cells.keys[0][code].as_py() for leaf, code in of_leaf.items()} == {5: 0, 17: 1, 12: 1}
    assert contributions.bound(batches_of(pairs), spec_for(4, 2), SALT, (1,)).cells is None
