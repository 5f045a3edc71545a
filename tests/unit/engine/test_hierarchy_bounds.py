"""Bounded by leaves and rolled up: nothing lost, and one unit moves leaves and others by what is stated at most."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import accumulate, distinct, kernels
from dpbeam.engine.aggregation.tree import tree_leaves
from dpbeam.engine.bounding import contributions, hierarchy
from dpbeam.engine.bounding.leaf_sampling import spread_over_cells
from dpbeam.engine.stage import LEVEL, Flat, Hierarchical
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.distinct import DistinctCount
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.metrics.means import Variance
from dpbeam.queries.metrics.quantiles import Median
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.top_k import TopK
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.residual import effect_on_residual
from tests.helpers import kernel_reference as reference

KEYS = ("country", "city")
V = {"column": "v", "low": -1.0, "high": 0.7}
METRICS = (
    *reference.COUNTS,
    Sum(name="sum", **V),
    SumOfTotals(name="total", column="v", low_total=-0.9, high_total=0.4),
    Variance(name="variance", **V),
    Median(name="median", ranks=(0.5,), **V),
    Histogram(name="bins", column="v", edges=(-0.5, 0.0, 0.1)),
    *(VectorSum(name=norm, columns=("v", "w"), norm=norm, max_norm=0.3) for norm in ("l1", "l2", "linf")),
    DistinctCount(name="kinds", column="t"),
    TopK(name="top", column="t", k=2, max_values=2),
    TopK(name="listed", column="t", k=2, max_values=2, candidates=("a", "b", "c")),
)
TYPES = {"u": pa.int64(), "country": pa.string(), "city": pa.int64(), "v": pa.float64(), "w": pa.float64()}
SCHEMA = pa.schema([*TYPES.items(), ("t", pa.string())])
HOSTILE = st.sampled_from([0.0, -0.0, 0.7, -1.0, 1e308, -1e308, 5e-324, 2.0**-31, 0.7 - 2.0**-54, 1 / 3])
VALUES = HOSTILE | st.floats(-1, 1)
COUNTRIES, CITIES = ("x", "y"), 4
LEAVES = st.tuples(st.sampled_from(COUNTRIES), st.integers(0, CITIES - 1))
KEPT = st.sets(LEAVES, max_size=5)
KEY_COLUMNS = st.sampled_from([KEYS, KEYS[1:]])
"""Two keys, and one alone, whose others are all one."""
BOUNDS = st.builds(Bounds, l0=st.integers(1, 5), linf=st.integers(1, 3)) | st.builds(Bounds, l1=st.integers(1, 6))


def rows_of(unit, most=14):
    row = st.tuples(LEAVES, VALUES, VALUES, st.sampled_from("abcd"))
    return st.lists(row, max_size=most).map(lambda rows: [(unit, *leaf, *rest) for leaf, *rest in rows])


def stage(bounds, other_l0=None, metrics=METRICS, keys=KEYS):
    kinds = ("string", "int64", "int64")[-len(keys) - 1 :]
    spec = reference.stage(keys=(*keys, LEVEL), key_types=kinds, metrics=metrics, **vars(bounds))
    return replace(spec, mode=Hierarchical(other_l0=other_l0))


def among(kept, keys=KEYS):
    leaves = {leaf[-len(keys) :] for leaf in kept}
    columns_of = zip(*sorted(leaves), strict=True) if kept else [()] * len(keys)
    types = (pa.string(), pa.int64())[-len(keys) :]
    table = pa.table({k: pa.array(list(c), t) for k, c, t in zip(keys, columns_of, types, strict=True)})
    return hierarchy.Hierarchy(keys=keys, kept=table)


def batch(rows):
    return pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def accumulated(rows, spec, kept):
    leaves = among(kept, spec.leaf_keys)
    return accumulate.accumulate(hierarchy.bound([batch(rows)], spec, leaves, reference.SALT, (0,)), spec)


def cell_of(leaf, kept):
    for depth in (2, 1):
        if any(leaf[:depth] == other[:depth] for other in kept):
            return (leaf[0], leaf[1] if depth == 2 else 0, depth)
    return ("", 0, 0)


def numbers(found, quantity, spec):
    """The quantity of all cells as exact numbers, by (cell, place): of a tree every node, of values their units."""
    column = found.column(accumulate.quantity_column(spec, quantity))
    keys = list(zip(*(found.column(name).to_pylist() for name in spec.keys), strict=True))
    if quantity.kind == "tree":
        made = Counter()
        for partition, leaf, rows in zip(*(part.tolist() for part in tree_leaves(column)), strict=True):
            made.update({(keys[partition], level, leaf >> (4 * (4 - level))): rows for level in range(1, 5)})
        return made
    if quantity.kind == "distinct":
        return {(key, 0): size for key, size in zip(keys, distinct.lengths(column).tolist(), strict=True)}
    if quantity.kind == "values":
        return {
            (k, entry["value"]): entry["units"]
            for k, row in zip(keys, column.to_pylist(), strict=True)
            for entry in row
        }
    whole = quantity.kind in ("count", "privacy_id_count", "bins", "candidates")
    step = Fraction(1) if whole else Fraction(kernels.grid_of(quantity).step)
    vectors = kernels.vectors(quantity, column).tolist()
    return {(key, i): n * step for key, row in zip(keys, vectors, strict=True) for i, n in enumerate(row)}


@settings(max_examples=200, deadline=None)
@given(rows_of(1), rows_of(2), KEPT, BOUNDS, st.none() | st.integers(1, 4), KEY_COLUMNS)
def test_a_unit_moves_all_cells_and_each_other_by_what_is_stated_at_most(others, own, kept, bounds, other_l0, keys):
    spec = stage(bounds, None if bounds.l0 is None else other_l0, keys=keys)
    # The unit's rows stand last, so that the others' rows draw the same priorities without them.
    without, with_unit = accumulated(others, spec, kept), accumulated([*others, *own], spec, kept)
    for quantity in spec.quantities:
        before, after = (numbers(found, quantity, spec) for found in (without, with_unit))
        moved = {key: after.get(key, 0) - before.get(key, 0) for key in {*before, *after}}
        laplace, gaussian = (
            effect_on_residual(quantity, bounds, spec.other_leaves, noise) for noise in ("laplace", "gaussian")
        )
        l1, l2 = quantity.sensitivity(bounds)
        near = 1 + Fraction(1, 10**12)
        is_other = {key: key[0][-1] < len(keys) for key in moved}
        assert sum(map(abs, moved.values())) <= Fraction(l1) * near, quantity.name
        scaled = (change**2 / (Fraction(gaussian.noise) ** 2 if is_other[key] else 1) for key, change in moved.items())
        assert sum(scaled) <= Fraction(l2) ** 2 * near, quantity.name
        for cell in {key[0] for key in moved if is_other[key]}:
            changes = [change for key, change in moved.items() if key[0] == cell]
            assert sum(map(abs, changes)) <= Fraction(laplace.most) * near, quantity.name
            assert sum(change**2 for change in changes) <= Fraction(gaussian.most) ** 2 * near, quantity.name


@pytest.mark.parametrize(("other_l0", "leaves"), [(None, 4), (2, 2), (1, 1)])
@pytest.mark.parametrize("name", ["count", "privacy_id_count", "sum", "total", "median.tree", "bins", "kinds", "l2"])
def test_what_is_stated_is_reached_by_a_unit_all_of_whose_leaves_are_in_one_other(name, other_l0, leaves):
    """No tighter figure would do: with others filled, the change is the stated one, in one `other` and in all cells."""
    spec = stage(Bounds(l0=4, linf=2), other_l0)
    rows = [(1, "x", city, -1.0, 0.0, f"{city}{i}") for city in range(CITIES) for i in range(2)]
    rows = [(*row[:3], 0.05 if name == "bins" else row[3], *row[4:]) for row in rows]
    (quantity,) = (q for q in spec.quantities if q.name == name)
    moved = [float(n) for n in numbers(accumulated(rows, spec, set()), quantity, spec).values()]
    stated = effect_on_residual(quantity, spec.bounds, spec.other_leaves, "gaussian")
    assert spec.other_leaves == leaves
    assert np.hypot.reduce(moved) == pytest.approx(stated.most, rel=1e-9)
    if leaves == 4 and name != "privacy_id_count":
        assert stated.most / stated.noise == pytest.approx(quantity.sensitivity(spec.bounds)[1], rel=1e-9)


ADDED = ("count", "sum", "total", "squares", "bins", "vector")
"""The quantities that add up over cells."""


def over_all_cells(found, quantity, spec):
    total = Counter()
    for (_, place), number in numbers(found, quantity, spec).items():
        total[place] += number
    return {place: number for place, number in total.items() if number}


@settings(max_examples=200, deadline=None)
@given(rows_of(1, 20), rows_of(2, 20), KEPT, BOUNDS, st.none() | st.integers(1, 4), KEY_COLUMNS)
def test_rolling_up_loses_nothing_of_the_bounded_leaves(one, two, kept, bounds, other_l0, keys):
    spec = stage(bounds, None if bounds.l0 is None else other_l0, keys=keys)
    leaves = replace(spec.of_input, mode=Flat())
    cells_of = among(kept, keys).cells_of
    bounded = contributions.bound([batch([*one, *two])], spec.of_input, reference.SALT, (0,), cells_of)
    by_leaves = accumulate.accumulate(replace(bounded, cells=None), leaves)
    by_cells = accumulate.accumulate(hierarchy.rolled(bounded), spec)
    for quantity in spec.quantities:
        if quantity.kind in ADDED:
            assert over_all_cells(by_cells, quantity, spec) == over_all_cells(by_leaves, quantity, leaves)


@settings(max_examples=200, deadline=None)
@given(rows_of(1, 20), rows_of(2, 20), KEPT, st.integers(1, 8), st.integers(1, 3))
def test_totals_over_all_cells_dont_depend_on_what_is_kept(one, two, kept, l0, linf):
    """A unit in no more leaves than l0 has all of them in the totals, and one in more has as many rows there."""
    rows = [*one, *two]
    spec = stage(Bounds(l0=l0, linf=linf))
    all_leaves, some = (accumulated(rows, spec, leaves) for leaves in ({row[1:3] for row in rows}, kept))
    few = all(len({row[1:3] for row in unit}) <= l0 for unit in (one, two))
    for quantity in spec.quantities:
        if quantity.kind in ADDED and (few or (quantity.kind == "count" and linf == 1)):
            assert over_all_cells(some, quantity, spec) == over_all_cells(all_leaves, quantity, spec)


@settings(max_examples=100, deadline=None)
@given(rows_of(1), rows_of(2), KEPT)
def test_within_the_bounds_every_cell_has_all_that_its_leaves_have(one, two, kept):
    """From the definition, with bounds that don't bite; a person is counted once, a total cut leaf by leaf."""
    spec = stage(Bounds(l0=20, linf=20))
    count, units, _, total, *_ = spec.quantities
    rows = [*one, *two]
    cells = {cell_of(row[1:3], kept) for row in rows}
    found = accumulated(rows, spec, kept)
    assert set(zip(*(found.column(name).to_pylist() for name in spec.keys), strict=True)) == cells
    for cell in cells:
        inside = [row for row in rows if cell_of(row[1:3], kept) == cell]
        assert numbers(found, count, spec)[cell, 0] == len(inside)
        assert numbers(found, units, spec)[cell, 0] == len({row[0] for row in inside})
        step = Fraction(kernels.grid_of(total).step)
        totals = Counter()
        for unit, country, city, value, *_ in inside:
            totals[unit, country, city] += round(Fraction(min(max(value, -1024 * 0.9), 1024 * 0.9)) / step) * step
        wanted = sum(min(max(each, Fraction(-0.9)), Fraction(0.4)) for each in totals.values())
        assert abs(numbers(found, total, spec)[cell, 0] - wanted) <= len(totals) * step


@st.composite
def _pairs(draw):
    """Pairs of a unit and a leaf, each once: unit, cell of the leaf, and the two hashes."""
    leaves = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), unique=True, max_size=25))
    cell_of_leaf = draw(st.lists(st.integers(0, 4), min_size=12, max_size=12))
    salt = draw(st.integers(0, 2**32))
    cells = sorted({(unit, cell_of_leaf[leaf]) for unit, leaf in leaves})
    rank, cell_rank = (
        dict(zip(pairs, np.random.default_rng((salt, at)).permutation(len(pairs)).tolist(), strict=True))
        for at, pairs in enumerate((leaves, cells))
    )
    return [(unit, cell_of_leaf[leaf], rank[unit, leaf], cell_rank[unit, cell_of_leaf[leaf]]) for unit, leaf in leaves]


def chosen(pairs, l0, most):
    """The pairs that `spread_over_cells` keeps."""
    ordered = sorted(pairs)
    if not ordered:
        return set()
    unit, cell, leaf_rank, cell_rank = (np.array(column) for column in zip(*ordered, strict=True))
    keep = spread_over_cells(unit, cell, leaf_rank.astype(np.uint64), cell_rank.astype(np.uint64), l0, most)
    return {pair for pair, kept in zip(ordered, keep.tolist(), strict=True) if kept}


@settings(max_examples=300, deadline=None)
@given(_pairs(), st.integers(1, 6), st.integers(1, 6))
def test_as_many_leaves_as_can_be_and_a_cell_before_a_second_leaf(pairs, l0, most):
    most = min(l0, most)
    kept = chosen(pairs, l0, most)
    for unit in {pair[0] for pair in pairs}:
        by_cell = {}
        for pair in sorted((pair for pair in pairs if pair[0] == unit), key=lambda pair: pair[2]):
            by_cell.setdefault(pair[1], []).append(pair)
        ranked = sorted((at, pair[3], pair) for cell in by_cell.values() for at, pair in enumerate(cell[:most]))
        assert {pair for pair in kept if pair[0] == unit} == {pair for *_, pair in ranked[:l0]}
        of_cell = Counter(cell for one, cell, *_ in pairs if one == unit)
        kept_of_cell = Counter(cell for one, cell, *_ in kept if one == unit)
        assert sum(kept_of_cell.values()) == min(l0, sum(min(most, n) for n in of_cell.values()))
        assert len(kept_of_cell) == min(l0, len(of_cell))
        assert max(kept_of_cell.values()) <= most
        # Even: no cell has two more than another that could take one more.
        could = [kept_of_cell[cell] for cell, n in of_cell.items() if kept_of_cell[cell] < min(most, n)]
        assert max(kept_of_cell.values()) <= min(could, default=most) + 1


@settings(max_examples=300, deadline=None)
@given(_pairs(), st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_cutting_batches_first_gives_the_same_leaves(pairs, l0, most, random):
    most = min(l0, most)
    batches = [[], [], []]
    for pair in pairs:
        for part in random.sample(batches, random.choice((1, 1, 2))):  # a leaf may have rows in several batches
            part.append(pair)
    cut = {pair for part in batches for pair in chosen(part, l0, most)}
    assert chosen(cut, l0, most) == chosen(pairs, l0, most)


def test_a_crowded_batch_is_cut_by_cells_and_ends_in_the_same_leaves():
    """One unit with 3,000 leaves in one `other` and two kept leaves, cut where it is read."""
    spec = stage(Bounds(l0=4, linf=1), metrics=reference.COUNTS)
    rows = [(1, "x", city, 0.0, 0.0, "a") for city in range(3000)] + [(1, "y", 1, 0.0, 0.0, "a")] * 40
    kept = among({("x", 7), ("y", 1)})
    cuts = [
        contributions.prebound(batch(rows[at::2]), spec.of_input, reference.SALT, (0, at), kept.cells_of)
        for at in (0, 1)
    ]
    assert sum(cut.num_rows for cut in cuts) <= 2 * 4
    found = [hierarchy.bound(parts, spec, kept, reference.SALT, (0,)) for parts in ([batch(rows)], cuts)]
    whole, by_parts = (accumulate.accumulate(bounded, spec).to_pylist() for bounded in found)
    assert whole == by_parts
    assert sum(row["__count"] for row in whole) == 4
    assert {(row["country"], row["level"]): row["__count"] for row in whole} == {("x", 2): 1, ("y", 2): 1, ("x", 1): 2}


def test_a_unit_that_counts_for_a_value_in_several_leaves_of_an_other_counts_for_it_once():
    spec = stage(Bounds(l0=4, linf=2))
    rows = [(unit, "x", city, 0.0, 0.0, text) for unit in (1, 2) for city in range(4) for text in ("a", "b")]
    (row,) = accumulated(rows, spec, set()).to_pylist()
    names = {q.name: accumulate.quantity_column(spec, q) for q in spec.quantities}
    assert {entry["value"]: entry["units"] for entry in row[names["top"]]} == {"a": 2, "b": 2}
    assert row[names["listed"]] == [2, 2, 0]


def test_an_empty_shard_rolls_up_to_nothing():
    spec = stage(Bounds(l0=1, linf=1))
    bounded = hierarchy.bound([], spec, among({("x", 1)}), reference.SALT, (0,))
    assert accumulate.accumulate(bounded, spec).num_rows == 0


def test_only_what_was_bounded_by_leaves_is_rolled_up():
    spec = stage(Bounds(l0=1, linf=1))
    with pytest.raises(ValueError, match="only what was bounded by leaves can be rolled up"):
        hierarchy.rolled(contributions.bound([], spec.of_input, reference.SALT, (0,)))


@pytest.mark.parametrize(("leaves", "most"), [(0, 4), (5, 4)])
def test_more_leaves_than_the_bounds_let_in_have_no_figure(leaves, most):
    (quantity, *_) = stage(Bounds(l0=4, linf=1)).quantities
    with pytest.raises(ValueError) as error:
        effect_on_residual(quantity, Bounds(l0=4, linf=1), leaves, "laplace")
    assert str(error.value) == f"an other takes 1 to {most} leaves of a unit by its bounds, got {leaves}"


def test_unbounded_rows_have_no_figure():
    (quantity, *_) = stage(Bounds(l0=4, linf=1)).quantities
    with pytest.raises(ValueError, match="count: rows of a unit must be bounded by linf or l1"):
        effect_on_residual(quantity, Bounds(l0=4), 2, "laplace")


@settings(max_examples=100, deadline=None)
@given(rows_of(1, 20), rows_of(2, 20), KEPT, BOUNDS)
def test_what_is_rolled_up_has_one_pair_for_each_unit_and_cell_with_the_least_rank_of_its_leaves(
    one, two, kept, bounds
):
    spec = stage(bounds)
    bounded = contributions.bound([batch([*one, *two])], spec.of_input, reference.SALT, (0,), among(kept).cells_of)
    rolled = hierarchy.rolled(bounded)
    cells = bounded.cells.codes[bounded.pairs].tolist()
    least = {}
    ranks = [0] * len(cells) if bounded.ranks is None else bounded.ranks.tolist()
    for unit, cell, rank in zip(bounded.pair_units.tolist(), cells, ranks, strict=True):
        least[unit, cell] = min(rank, least.get((unit, cell), rank))
    assert list(zip(rolled.pair_units.tolist(), rolled.pairs.tolist(), strict=True)) == sorted(least)
    assert rolled.cells is None
    assert (rolled.ranks is None) == (bounded.ranks is None)
    if rolled.ranks is not None:
        assert rolled.ranks.tolist() == [least[pair] for pair in sorted(least)]
