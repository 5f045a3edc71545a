"""What the engine counts for automatic bounds: a unit is in one bin of each histogram, once, whatever it holds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpbeam.engine.aggregation import accumulate, kernels
from dpbeam.engine.automatic_bounds import count_edges, value_edges
from dpbeam.engine.bounding import contributions, unit_rows
from dpbeam.engine.stage import UnitRows
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.histograms import Histogram
from tests.helpers import kernel_reference as reference

SALT = reference.SALT
NOWHERE = value_edges(1e-3, 1e3)


def of_units(bounds: Bounds):
    """The stage of histograms of units, over partitions p and q."""
    by = {"l0": unit_rows.PARTITIONS, "linf": unit_rows.ROWS_WITH, "l1": unit_rows.ROWS}
    metrics = tuple(
        Histogram(name=name, column=by[name], edges=count_edges(most))
        for name, most in vars(bounds).items()
        if most is not None
    )
    spec = reference.stage(keys=(), key_types=(), l0=1, linf=1, metrics=metrics)
    units = UnitRows(stage="s", keys=("p", "q"), key_types=("int64", "int64"), bounds=bounds)
    return replace(spec, mode=units)


def of_values():
    """The stage of histograms of the values v, one row a unit."""
    metrics = (Histogram(name="v", column="v", edges=NOWHERE),)
    return reference.stage(keys=(), key_types=(), l0=1, linf=1, metrics=metrics)


def table(rows):
    schema = pa.schema([("u", pa.int64()), ("p", pa.int64()), ("q", pa.int64()), ("v", pa.float64())])
    return pa.Table.from_pylist([dict(zip("upqv", row, strict=True)) for row in rows], schema=schema)


def counted(rows, spec, cuts=(), shards=1, precut=True):
    """The merged histograms, by name, through the engine's steps."""
    inbox: dict[int, list[pa.RecordBatch]] = defaultdict(list)
    for i, batch in enumerate(reference.batches_of(table(rows), cuts)):
        cut = contributions.prebound(batch, spec.of_input, SALT, (0, i)) if precut else batch
        for shard, part in contributions.split_by_unit(cut, spec.of_input, shards, SALT):
            inbox[shard].append(part)
    partial = [accumulate.accumulate(unit_rows.bound(got, spec, SALT, (s,)), spec) for s, got in inbox.items()]
    merged = accumulate.merge([*partial, accumulate.whole(spec)], spec)
    found = {}
    for quantity in spec.quantities:
        column = merged.column(accumulate.quantity_column(spec, quantity))
        found[quantity.name] = kernels.vectors(quantity, column)[0].tolist()
    return found


def rows_of(units):
    return st.lists(
        st.tuples(st.sampled_from(units), st.integers(0, 2), st.integers(0, 1), st.floats(-1e4, 1e4)), max_size=40
    )


BOUNDS = st.builds(Bounds, l0=st.integers(1, 6), linf=st.integers(1, 5)) | st.builds(Bounds, l1=st.integers(1, 9))


@settings(max_examples=150, deadline=None)
@given(rows_of([1, 2, 3]), BOUNDS, st.lists(st.integers(0, 50), max_size=3), st.integers(1, 3))
def test_units_are_counted_by_what_they_contribute_up_to_the_most(rows, bounds, cuts, shards):
    spec = of_units(bounds)
    pairs = defaultdict(lambda: defaultdict(int))
    for unit, p, q, _ in rows:
        pairs[unit][p, q] += 1
    found = counted(rows, spec, cuts, shards)
    for name, most in vars(bounds).items():
        if most is None:
            continue
        numbers = {
            "l0": [min(len(own), most) for own in pairs.values()],
            "l1": [min(sum(own.values()), most) for own in pairs.values()],
            "linf": [min(max(own.values()), most) for own in pairs.values()],
        }[name]
        if name == "linf" and any(len(own) > 1 for own in pairs.values()):
            assert sum(found[name]) == len(pairs)  # of each unit one partition, whichever
            continue
        assert found[name] == np.histogram(numbers, bins=count_edges(most))[0].tolist()


@settings(max_examples=150, deadline=None)
@given(rows_of([1, 2]), rows_of([3]), BOUNDS)
def test_one_unit_more_moves_one_bin_of_each_histogram_of_units_by_one(others, own, bounds):
    spec = of_units(bounds)
    before, after = counted(others, spec), counted([*others, *own], spec)
    for name in before:
        moved = np.array(after[name]) - np.array(before[name])
        assert (moved.sum(), np.abs(moved).sum()) == (bool(own), bool(own))
    assert all(quantity.sensitivity(spec.bounds) == (1.0, 1.0) for quantity in spec.quantities)


@settings(max_examples=100, deadline=None)
@given(rows_of([1, 2]), rows_of([3]))
def test_one_unit_more_moves_one_bin_of_a_histogram_of_values_by_one(others, own):
    spec = of_values()
    # The unit's rows stand last, so that the others' rows draw the same priorities without them.
    (before,), (after,) = counted(others, spec).values(), counted([*others, *own], spec).values()
    assert np.abs(np.array(after) - np.array(before)).sum() == bool(own)
    assert all(quantity.sensitivity(spec.bounds) == (1.0, 1.0) for quantity in spec.quantities)


def test_cutting_at_the_source_leaves_the_histogram_of_units_as_it_is():
    """One unit swamps every batch: what is cut before the shuffle is what the bounds at their most would cut."""
    rng = np.random.default_rng(5)
    rows = [(0, int(p), int(q), 1.0) for p, q in zip(rng.integers(0, 3, 6000), rng.integers(0, 2, 6000), strict=True)]
    rows += [(u, 0, 0, 1.0) for u in range(1, 40)]
    spec = of_units(Bounds(l0=4, linf=7))
    (batch, _) = reference.batches_of(table(rows), [])
    assert contributions.prebound(batch, spec.of_input, SALT, (0, 0)).num_rows < 1000  # it really was cut
    cuts = [1500, 3000, 4500]
    assert counted(rows, spec, cuts, 3) == counted(rows, spec, cuts, 3, precut=False)


def test_a_unit_is_counted_by_a_partition_as_often_as_it_has_rows_there():
    """Of 12 rows 8 are in one partition: 3,000 units, and a chance of 1e-9 to fail where all is right."""
    rows = [(u, p, 0, 1.0) for u in range(3_000) for p, n in ((0, 8), (1, 3), (2, 1)) for _ in range(n)]
    found = counted(rows, of_units(Bounds(l0=3, linf=8)), shards=2)["linf"]
    by_bin = dict(zip((1, 2, 3, 4, 6, 8), found, strict=True))
    assert sum(found) == by_bin[1] + by_bin[3] + by_bin[8] == 3_000
    expected = [3_000 * share / 12 for share in (1, 3, 8)]
    assert stats.chisquare([by_bin[1], by_bin[3], by_bin[8]], expected).pvalue > 1e-9


def test_rows_of_units_need_rows_that_know_their_pair():
    batch = table([(1, 0, 0, 1.0)]).to_batches()[0]
    bounded = contributions.bound([batch], reference.stage(keys=("p",)), SALT, (0,))
    with pytest.raises(ValueError, match="know their pair"):
        unit_rows.one_row_a_unit(bounded)


def test_no_rows_give_an_empty_histogram():
    spec = of_units(Bounds(l0=3, linf=2))
    assert counted([], spec) == {"l0": [0, 0, 0], "linf": [0, 0]}
