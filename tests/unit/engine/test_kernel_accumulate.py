"""Accumulators merge exactly, keep to public partitions, and route by key."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import accumulate, kernels
from dpbeam.engine.arrays.grouping import members
from dpbeam.engine.metrics import kernel_of
from dpbeam.errors import RunFailed
from dpbeam.queries.metrics.means import Variance
from dpbeam.queries.metrics.quantiles import Median
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.sharing import quantities
from tests.helpers import kernel_reference as reference

SPEC = reference.stage(keys=["p", "q"], key_types=["string", "bool"], metrics=reference.ALL_METRICS[:3])
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "é"]), st.booleans(), *[st.integers(-(2**40), 2**40)] * 3), max_size=12
)


def batch_of(rows):
    schema = accumulate.accumulators_schema(SPEC)
    return pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def public_of(*keys):
    return pa.table({"p": pa.array([p for p, _ in keys], pa.string()), "q": pa.array([q for _, q in keys], pa.bool_())})


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=3, max_size=3))
def test_merging_is_associative_and_commutative_and_sorts_by_key(parts):
    a, b, c = map(batch_of, parts)
    once = accumulate.merge([a, b, c], SPEC)
    assert once.equals(accumulate.merge([c, accumulate.merge([b, a], SPEC)], SPEC))
    keys = list(zip(once.column("p").to_pylist(), once.column("q").to_pylist(), strict=True))
    assert keys == sorted(set(keys))


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_merging_with_nothing_changes_nothing(rows):
    merged = accumulate.merge([batch_of(rows)], SPEC)
    assert accumulate.merge([merged, accumulate.empty(SPEC)], SPEC).equals(merged)


def test_nothing_merges_into_no_partition():
    assert accumulate.merge([], SPEC).equals(accumulate.empty(SPEC))


@pytest.mark.parametrize("rows", [0, 3])
def test_rows_that_are_units_of_their_own_are_one_partition_where_there_are_no_keys(rows):
    spec = reference.stage(unit=None, l0=1, linf=1, keys=(), key_types=(), metrics=reference.COUNTS)
    found = accumulate.accumulate_rows(pa.record_batch({"v": np.zeros(rows)}), spec)
    assert found.to_pylist() == [{"__count": rows, "__users": rows}] * min(rows, 1)


def test_merging_an_overflow_fails_the_run():
    with pytest.raises(RunFailed, match=r"^a sum must stay within 64-bit integers"):
        accumulate.merge([batch_of([("a", True, 1, 1, 2**62)])] * 2, SPEC)


def test_the_columns_are_keys_then_counts_then_the_sums_by_quantity():
    spec = reference.stage()
    assert accumulate.accumulators_schema(spec).names == ["p", "__count", "__users", "__q_2", "__q_3"]
    assert accumulate.empty(spec).num_rows == 0


def test_public_partitions_start_as_zeros():
    rows = accumulate.zeros(public_of(("b", True), ("a", False)), SPEC).to_pylist()
    assert rows == [{"p": p, "q": q, "__count": 0, "__users": 0, "__q_2": 0} for p, q in [("a", False), ("b", True)]]


def test_every_quantity_has_one_type_of_column_from_the_start():
    for quantity in quantities((*reference.VALUE_METRICS, *reference.WORD_METRICS)):
        if quantity.kind in ("count", "privacy_id_count"):
            continue
        nothing = kernel_of(quantity).zeros(quantity, 3)
        assert (nothing.type, len(nothing)) == (kernel_of(quantity).arrow_type(quantity), 3), quantity.name
        order = np.arange(3)
        merged = kernel_of(quantity).merge(quantity, nothing, order, order, order)
        assert merged.equals(nothing), quantity.name
        if quantity.kind in ("sum", "squares", "bins", "vector", "tree"):
            values = {"v": np.linspace(-30.0, 30.0, 7), "w": np.ones(7)}
            made = kernel_of(quantity).of_rows(quantity, values, np.arange(7) % 3, 3)
            assert (made.type, len(made)) == (kernel_of(quantity).arrow_type(quantity), 3), quantity.name


def test_partitions_without_rows_are_zeros_beside_those_with():
    metric = {"column": "v", "low": 0.0, "high": 8.0}
    for made in quantities((Sum(name="s", **metric), Median(name="m", ranks=(0.5,), **metric))):
        column = kernel_of(made).of_rows(made, {"v": np.array([1.0, 2.0])}, np.array([1, 1]), 4)
        empty = kernel_of(made).zeros(made, 1)
        assert [column.slice(i, 1).equals(empty) for i in range(4)] == [True, False, True, True]


def test_the_grid_of_squares_is_that_of_what_they_are_about_their_middle():
    _, squares, _ = quantities((Variance(name="m", column="v", low=-1.0, high=5.0),))
    assert (kernels.grid_of(squares).low, kernels.grid_of(squares).high) == (-4.5, 4.5)
    with pytest.raises(ValueError, match=r"^a count is counted, not summed$"):
        kernels.grid_of(quantities(reference.COUNTS)[0])


def test_rows_outside_the_public_partitions_are_dropped_as_whole_keys():
    rows = pa.record_batch(
        {"u": [1, 2, 3, 4], "p": ["a", "a", "b", "c"], "q": [True, False, False, True], "v": [1.0] * 4}
    )
    kept = accumulate.filter_public(rows, SPEC, public_of(("a", True), ("b", False), ("z", True)))
    assert kept.column("u").to_pylist() == [1, 3]


def test_a_key_beyond_all_public_ones_is_not_one_of_them():
    public = pa.table({"p": ["a", "b", "a"], "q": [False, False, True]})
    rows = pa.record_batch({"u": [1, 2, 3], "p": ["b", "a", "b"], "q": [True, True, False], "v": [1.0] * 3})
    assert accumulate.filter_public(rows, SPEC, public).column("u").to_pylist() == [2, 3]


def test_every_row_is_in_a_table_without_columns():
    assert members([], [], 3).tolist() == [True] * 3


def test_no_public_partitions_leave_no_rows():
    rows = pa.record_batch({"u": [1], "p": ["a"], "q": [True], "v": [1.0]})
    assert accumulate.filter_public(rows, SPEC, public_of()).num_rows == 0


def test_a_public_list_may_come_without_any_chunk():
    nothing = pa.table({"p": pa.chunked_array([], pa.string()), "q": pa.chunked_array([], pa.bool_())})
    rows = pa.record_batch({"u": [1], "p": ["a"], "q": [True], "v": [1.0]})
    assert accumulate.filter_public(rows, SPEC, nothing).num_rows == 0
    assert accumulate.zeros(nothing, SPEC).equals(accumulate.empty(SPEC))


def test_partitions_are_sorted_by_all_keys_also_where_the_first_is_a_number():
    spec = reference.stage(keys=["p", "q"], key_types=["int64", "int64"], metrics=reference.COUNTS)
    keys = pa.table({"p": [2, 1, 1, 1], "q": [0, 5, 3, 4]})
    for some, wanted in ((keys.slice(1), [(1, 3), (1, 4), (1, 5)]), (keys, [(1, 3), (1, 4), (1, 5), (2, 0)])):
        assert [(row["p"], row["q"]) for row in accumulate.zeros(some, spec).to_pylist()] == wanted


def test_partitions_are_sorted_by_key_whatever_their_counts_are():
    spec = reference.stage(unit=None, l0=1, linf=1, metrics=reference.COUNTS)
    found = accumulate.accumulate_rows(pa.record_batch({"p": [2, 1, 1], "v": [0.0] * 3}), spec)
    assert [(row["p"], row["__count"]) for row in found.to_pylist()] == [(1, 2), (2, 1)]
    assert not any(field.nullable for field in accumulate.accumulators_schema(SPEC))


def test_an_empty_batch_has_no_public_rows():
    rows = pa.record_batch(
        {"u": pa.array([], pa.int64()), "p": pa.array([], pa.string()), "q": pa.array([], pa.bool_())}
    )
    assert accumulate.filter_public(rows, SPEC, public_of(("a", True))).num_rows == 0


def test_a_public_filter_takes_dictionary_and_large_strings():
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        rows = pa.record_batch({"u": [1, 2], "p": pa.array(["a", "b"]).cast(kind), "q": [True, True], "v": [1.0, 2.0]})
        assert accumulate.filter_public(rows, SPEC, public_of(("b", True))).column("u").to_pylist() == [2]


def test_each_partition_goes_to_one_part_and_always_the_same():
    rows = batch_of([(f"k{i}", i % 2 == 0, 1, 1, 1) for i in range(200)])
    home = {}
    for batch in (rows, rows.take(pa.array(np.arange(199, -1, -1))), rows.slice(20, 30)):
        for part, some in accumulate.split_by_partition(batch, SPEC, 8):
            for row in some.to_pylist():
                assert home.setdefault((row["p"], row["q"]), part) == part
    assert len(home) == 200
    assert set(home.values()) == set(range(8))


def test_long_inputs_are_summed_in_exact_pieces(monkeypatch):
    spec = reference.stage(unit=None, l0=1, linf=1)
    rows = pa.record_batch({"p": [1, 2, 1, 1, 2] * 20, "v": np.linspace(-30, 30, 100)})
    whole = accumulate.accumulate_rows(rows, spec)
    monkeypatch.setattr(kernels, "_EXACT_ROWS", 7)
    assert accumulate.accumulate_rows(rows, spec).equals(whole)


def test_rows_with_a_unit_are_not_accumulated_unbounded():
    with pytest.raises(
        ValueError, match=r"^stage s: only rows that are units of their own, with l0 and linf 1, go unbounded$"
    ):
        accumulate.accumulate_rows(pa.record_batch({"u": [1], "p": [1], "v": [1.0]}), reference.stage(l0=1, linf=1))
