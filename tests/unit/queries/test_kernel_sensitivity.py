"""One unit more moves each quantity by no more than the sensitivity it states: measured exactly, on hostile values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import accumulate, kernels
from dpbeam.engine.aggregation.tree import tree_leaves
from dpbeam.engine.bounding import contributions
from dpbeam.engine.metrics.sums import totals
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.histograms import Histogram
from dpbeam.queries.metrics.means import Variance
from dpbeam.queries.metrics.quantiles import Median
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.quantities import NormClipped, Total
from tests.helpers import kernel_reference as reference

BOUNDS = {"column": "v", "low": -1.0, "high": 0.7}
METRICS = (
    *reference.COUNTS,
    Sum(name="sum", **BOUNDS),
    SumOfTotals(name="total", column="v", low_total=-0.9, high_total=0.4),
    Variance(name="variance", **BOUNDS),
    Median(name="median", ranks=(0.5,), **BOUNDS),
    Histogram(name="bins", column="v", edges=(-0.5, 0.0, 0.1)),
    *(VectorSum(name=f"{norm}", columns=("v", "w", "x"), norm=norm, max_norm=0.3) for norm in ("l1", "l2", "linf")),
)
# Values on which float sums lose their sensitivity: halves of a step, one step and a huge value, subnormals.
HOSTILE = st.sampled_from(
    [0.0, -0.0, 0.7, -1.0, 1e308, -1e308, 5e-324, 2.0**-31, 1.5 * 2.0**-30, 0.7 - 2.0**-54, -(2.0**-53), 1 / 3]
)
VALUES = HOSTILE | st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1, 1)
PARTITIONS = 3


def numbers(batch, quantity, spec):
    """The quantity of all partitions as exact numbers: for a tree, those of every node."""
    column = batch.column(accumulate.quantity_column(spec, quantity))
    keys = batch.column("p").to_pylist()
    found = {}
    if quantity.kind == "tree":
        for partition, leaf, rows in zip(*(part.tolist() for part in tree_leaves(column)), strict=True):
            for level in range(1, 5):
                node = (keys[partition], level, leaf >> (4 * (4 - level)))
                found[node] = found.get(node, 0) + rows
        return found
    whole = quantity.kind in ("count", "privacy_id_count", "bins")
    step = Fraction(1) if whole else Fraction(kernels.grid_of(quantity).step)
    for key, row in zip(keys, kernels.vectors(quantity, column).tolist(), strict=True):
        found.update({(key, i): number * step for i, number in enumerate(row)})
    return found


def rows_of(unit):
    return st.lists(st.tuples(st.just(unit), st.integers(0, PARTITIONS - 1), VALUES, VALUES, VALUES), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    rows_of(1),
    rows_of(2),
    st.builds(Bounds, l0=st.integers(1, 3), linf=st.integers(1, 3)) | st.builds(Bounds, l1=st.integers(1, 6)),
    st.sampled_from(["laplace", "gaussian"]),
    st.sampled_from([1.0, 2.0**19, 2.0**25]),
)
def test_a_unit_moves_every_quantity_by_its_sensitivity_at_most(others, own, bounds, kind, scale):
    """Also where the noise is so large that values are summed on a coarser grid."""
    spec = reference.stage(metrics=METRICS, kind=kind, scale=scale, **vars(bounds))
    coarser = [
        kernels.grid_of(q).step > kernels.grid_of(q.definition).step
        for q in spec.quantities
        if isinstance(q, NormClipped)
    ]
    assert set(coarser) == {scale > 1}

    def quantities(rows):
        table = [dict(zip("upvwx", row, strict=True)) for row in rows]
        schema = pa.schema([("u", pa.int64()), ("p", pa.int64()), *((name, pa.float64()) for name in "vwx")])
        batch = pa.RecordBatch.from_pylist(table, schema=schema)
        # The unit's rows stand last, so that the others' rows draw the same priorities without them.
        return accumulate.accumulate(contributions.bound([batch], spec, reference.SALT, (0,)), spec)

    without, with_unit = quantities(others), quantities([*others, *own])
    for quantity in spec.quantities:
        before, after = (numbers(batch, quantity, spec) for batch in (without, with_unit))
        moved = [after.get(key, 0) - before.get(key, 0) for key in {*before, *after}]
        l1, l2 = quantity.sensitivity(bounds)
        assert sum(map(abs, moved)) <= Fraction(l1) * (1 + Fraction(1, 10**12)), quantity.name
        assert sum(change**2 for change in moved) <= Fraction(l2) ** 2 * (1 + Fraction(1, 10**12)), quantity.name


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40), st.floats(1e-12, 1e12))
def test_a_shortened_vector_is_never_too_long_and_keeps_its_direction(norm, vector, most):
    (short,) = kernels.shorten(np.array([vector]), norm, most).tolist()
    exact = [abs(Fraction(number)) for number in short]
    length = {"l1": sum(exact), "l2": sum(x**2 for x in exact), "linf": max(exact)}[norm]
    assert length <= (Fraction(most) ** 2 if norm == "l2" else Fraction(most))
    wanted = reference.shortened(vector, norm, most)
    assert short == pytest.approx(wanted, rel=1e-9, abs=most * 1e-9)


def test_each_vector_is_cut_to_whole_steps_before_it_is_added_up():
    spec = reference.stage(unit=None, l0=1, linf=1, metrics=METRICS[-1:])
    (quantity,) = spec.quantities
    step = kernels.grid_of(quantity).step
    batch = pa.record_batch({"p": [0] * 5, "v": [1.6 * step] * 5, "w": [-1.6 * step] * 5, "x": [0.9 * step] * 5})
    assert accumulate.accumulate_rows(batch, spec).column("__q_0").to_pylist() == [[5, -5, 0]]


@settings(max_examples=60, deadline=None)
@given(rows_of(1), rows_of(2), st.integers(1, 3))
def test_totals_need_no_bound_on_rows(others, own, l0):
    metrics = (reference.COUNTS[1], SumOfTotals(name="total", column="v", low_total=-0.9, high_total=0.4))
    spec = reference.stage(metrics=metrics, l0=l0, linf=None)
    rows = [dict(zip("upvwx", row, strict=True)) for row in [*others, *own]]
    schema = pa.schema([("u", pa.int64()), ("p", pa.int64()), *((name, pa.float64()) for name in "vwx")])

    def totals(kept):
        batch = pa.RecordBatch.from_pylist(kept, schema=schema)
        found = accumulate.accumulate(contributions.bound([batch], spec, reference.SALT, (0,)), spec)
        return numbers(found, spec.quantities[1], spec)

    before, after = totals(rows[: len(others)]), totals(rows)
    moved = [after.get(key, 0) - before.get(key, 0) for key in {*before, *after}]
    assert sum(map(abs, moved)) <= Fraction(l0 * 0.9)


def total_of(values, low=-9.0, high=5.0):
    """The total, in the column's unit, of one unit's values in one partition."""
    quantity = Total(name="t", weight=1.0, columns=("v",), low=low, high=high)
    rows = np.zeros(len(values), dtype=np.int64)
    column = totals(quantity, {"v": np.asarray(values)}, rows, np.array([0]), 1)
    return column.to_pylist()[0] * Fraction(kernels.grid_of(quantity).step)


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([0.25, 0.375], 0.625),
        ([-0.25, -0.375, 2.0**-26], -0.625 + 2.0**-26),
        ([200.0, -196.0], 4.0),
        ([200, -150], 5.0),
        ([-200.0, 150.0], -9.0),
        ([1e300, -1e300, 1.5], 1.5),
        ([1e300, -9216.0, -1e300, 9216.0, -2.5], -2.5),
        ([10_000.0, -9215.0], 1.0),
        ([-10_000.0, 9215.0], -1.0),
    ],
)
def test_a_total_is_clipped_after_it_is_added_up_and_a_value_counts_for_1024_times_the_bound_at_most(values, total):
    assert total_of(values) == total


def test_no_number_of_rows_makes_a_total_wrap_round():
    rows = 2**23 + 1  # each of 2**40 steps
    assert total_of(np.full(rows, 1e300), -8.0, 8.0) == 8
    assert total_of(np.full(rows, -1e300), -8.0, 8.0) == -8


def test_values_whose_float_sum_is_off_by_more_than_one_row_add_up_exactly():
    """Casacuberta et al., section 5: 2**53 + 1 + 1 is 2**53 in floats, so one more row moves a float sum by 0 or 2."""
    spec = reference.stage(unit=None, l0=1, linf=1, metrics=(Sum(name="s", column="v", low=0.0, high=2.0),))
    (quantity,) = spec.quantities
    values = [2.0, *[2.0**-29] * 3000]
    for order in (values, values[::-1]):
        batch = pa.record_batch({"p": [0] * len(order), "v": order})
        (steps,) = accumulate.accumulate_rows(batch, spec).column("__q_0").to_pylist()
        assert steps * Fraction(kernels.grid_of(quantity).step) == 2 + 3000 * Fraction(1, 2**29)
