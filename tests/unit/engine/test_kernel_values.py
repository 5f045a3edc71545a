"""Distinct values and the most frequent ones: exact against brute force, however the rows are split; and bounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import accumulate, distinct, frequent, long_lists
from dpbeam.engine.bounding import contributions
from dpbeam.engine.metrics import kernel_of
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.metrics.top_k import TopK
from tests.helpers import kernel_reference as reference

TEXTS = st.sampled_from(["a", "b", "c", "", "é", "a\0", "long " * 20]) | st.text(
    st.characters(exclude_categories=("Cs",)), max_size=5
)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)
SCHEMA = pa.schema([("u", pa.int64()), ("p", pa.int64()), ("t", pa.string()), ("n", pa.int64())])
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), TEXTS, NUMBERS), max_size=50)
SLACK = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
WORDS = reference.WORD_METRICS


def table_of(rows):
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def same(found, wanted, spec):
    assert found.keys() == wanted.keys()
    for key, answer in wanted.items():
        for name, value in answer.items():
            assert found[key][name] == value, (key, name)


@settings(max_examples=100, **SLACK)
@given(ROWS, st.lists(st.integers(0, 60), max_size=5), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_any_table_gives_the_reference_answer_however_it_is_split(exact, rows, cuts, shards, parts, by_row):
    bounds = {"unit": None, "l0": 1, "linf": 1} if by_row else {}
    spec = reference.stage(metrics=WORDS, **bounds)
    table = table_of(rows)
    merged = reference.accumulators(reference.batches_of(table, cuts), spec, shards=shards, parts=parts)
    same(reference.released(merged, spec), reference.expected(table.to_pylist(), spec), spec)


@pytest.mark.parametrize("by_row", [False, True])
def test_a_small_table_gives_the_reference_answer(exact, by_row):
    texts, numbers = ["b", "a", "", "é", "b", "long " * 20, "a"], [3, -(2**63), 3, 2**62, 2**62 + 1]
    table = table_of([(i % 4, i % 3, texts[i % 7], numbers[i % 5]) for i in range(60)])
    spec = reference.stage(metrics=WORDS, **({"unit": None, "l0": 1, "linf": 1} if by_row else {}))
    merged = reference.accumulators(reference.batches_of(table, [7, 20]), spec, shards=3, parts=2)
    same(reference.released(merged, spec), reference.expected(table.to_pylist(), spec), spec)


@settings(max_examples=40, **SLACK)
@given(ROWS, st.lists(st.integers(0, 60), max_size=3), st.integers(1, 60))
def test_lists_cut_into_pieces_merge_into_what_they_were(exact, rows, cuts, piece_bytes):
    spec = reference.stage(metrics=(*WORDS, Sum(name="s", column="n", low=0.0, high=9.0)))
    (merged,) = reference.accumulators(reference.batches_of(table_of(rows), cuts), spec) or [accumulate.empty(spec)]
    pieces = long_lists.spread(merged, piece_bytes)
    assert accumulate.merge([pieces], spec).equals(accumulate.merge([merged], spec))
    for column in pieces.columns:
        if pa.types.is_list(column.type):
            for row in range(len(column)):
                assert len(column.slice(row, 1).flatten()) <= max(1, piece_bytes // 8 + 1)


def test_a_partition_larger_than_a_message_is_sent_in_several_and_counted_once(exact):
    rows = 30_000
    table = pa.table(
        {"u": np.arange(rows), "p": [0] * rows, "t": [f"{i:020}" * 4 for i in range(rows)], "n": [1] * rows}
    )
    spec = reference.stage(metrics=WORDS)
    batch = accumulate.accumulate(contributions.bound(table.to_batches(), spec, reference.SALT, (0,)), spec)
    ((_, sent),) = accumulate.split_by_partition(batch, spec, 1)
    assert sent.num_rows == 3
    assert max(sent.slice(i, 1).nbytes for i in range(sent.num_rows)) < 3 * long_lists.PIECE_BYTES
    (row,) = accumulate.merge([sent], spec).to_pylist()
    assert (row["__count"], row["__users"], len(row["__q_2"]), len(row["__q_3"])) == (rows, rows, rows, 1)


def test_public_partitions_without_rows_have_no_values_and_candidates_of_zero(exact):
    spec = reference.stage(metrics=WORDS)
    public = pa.table({"p": [7]})
    merged = reference.accumulators(reference.batches_of(table_of([]), []), spec, public=public)
    ((key, row),) = reference.released(merged, spec).items()
    assert key == (7,)
    assert (row["kinds"], row["top_1"], row["top_1_count"], row["top_1_count_low"]) == (0.0, None, None, None)
    assert (row["listed_1"], row["listed_1_count"]) == ("a", 0.0)


BOUNDS = st.builds(Bounds, l0=st.integers(1, 3), linf=st.integers(1, 3)) | st.builds(Bounds, l1=st.integers(1, 6))


@settings(max_examples=150, deadline=None)
@given(ROWS, st.lists(st.tuples(st.just(9), st.integers(0, 2), TEXTS, NUMBERS), max_size=15), BOUNDS, st.integers(1, 3))
def test_a_unit_moves_every_quantity_by_its_sensitivity_at_most(others, own, bounds, most):
    metrics = tuple(replace(metric, max_values=most) if isinstance(metric, TopK) else metric for metric in WORDS)
    spec = reference.stage(metrics=metrics, **vars(bounds))

    def cells(rows):
        bounded = contributions.bound(table_of(rows).to_batches(), spec, reference.SALT, (0,))
        batch = accumulate.accumulate(bounded, spec).to_pylist()
        found = {}
        for quantity in spec.quantities[2:]:
            for row in batch:
                value = row[accumulate.quantity_column(spec, quantity)]
                match quantity.kind:
                    case "distinct":
                        found[quantity.name, row["p"]] = len(value)
                    case "values":
                        found |= {(quantity.name, row["p"], each["value"]): each["units"] for each in value}
                    case "candidates":
                        found |= {(quantity.name, row["p"], i): units for i, units in enumerate(value)}
        return found

    before, after = cells(others), cells([*others, *own])
    for quantity in spec.quantities[2:]:
        moved = [after.get(key, 0) - before.get(key, 0) for key in {*before, *after} if key[0] == quantity.name]
        l1, l2 = quantity.sensitivity(bounds)
        assert all(change >= 0 for change in moved)
        assert sum(moved) <= l1, quantity.name
        assert sum(change**2 for change in moved) <= l2**2 * (1 + 1e-12), quantity.name


def test_one_unit_counts_for_max_values_of_its_values_and_the_sensitivity_is_reached():
    metrics = (TopK(name="top", column="t", k=1, max_values=2),)
    spec = reference.stage(metrics=metrics, l0=3, linf=None)
    table = table_of([(1, p, t, 0) for p in range(4) for t in "abcde"])
    (row, *others) = accumulate.accumulate(
        contributions.bound(table.to_batches(), spec, reference.SALT, (0,)), spec
    ).to_pylist()
    kept = [each["value"] for one in (row, *others) for each in one["__q_0"]]
    assert (1 + len(others), len(kept)) == (3, 6)
    assert spec.quantities[0].sensitivity(spec.bounds) == (6.0, 6**0.5)


def test_a_units_values_are_chosen_whatever_other_units_have():
    metrics = (TopK(name="top", column="t", k=1, max_values=2),)
    spec = reference.stage(metrics=metrics, l0=3, linf=None)

    def of_unit_1(others):
        rows = [*others, *((1, 0, t, 0) for t in "abcdefgh")]
        batch = accumulate.accumulate(
            contributions.bound(table_of(rows).to_batches(), spec, reference.SALT, (0,)), spec
        )
        counts = Counter({each["value"]: each["units"] for row in batch.to_pylist() for each in row["__q_0"]})
        return counts - Counter({t: 1 for _, _, t, _ in others})

    alone = of_unit_1([])
    assert sum(alone.values()) == 2
    assert all(of_unit_1([(u, 0, t, 0) for u, t in enumerate(texts, 5)]) == alone for texts in ("ab", "hg", "xyz"))


@pytest.mark.parametrize("lost", [{"row_pairs": None}, {"words": {}}])
def test_values_are_not_counted_where_it_is_not_known_whose_they_are(lost):
    spec = reference.stage(metrics=(TopK(name="top", column="t", k=1, max_values=2),))
    bounded = contributions.bound(table_of([(1, 0, "a", 0)]).to_batches(), spec, reference.SALT, (0,))
    with pytest.raises(ValueError, match=r"^top: counts by value need to know each row's pair$"):
        kernel_of(spec.quantities[0]).of_kept(spec.quantities[0], replace(bounded, **lost))


def test_values_that_are_no_candidates_take_no_place():
    metric = TopK(name="top", column="t", k=1, max_values=1, candidates=("z",))
    spec = reference.stage(metrics=(metric,), l0=1, linf=None)
    table = table_of([(1, 0, t, 0) for t in "abcdefgz"])
    (row,) = accumulate.accumulate(
        contributions.bound(table.to_batches(), spec, reference.SALT, (0,)), spec
    ).to_pylist()
    assert row["__q_0"] == [1]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_counts_as_the_same_values_in_every_encoding(exact, kind):
    table = table_of([(1, 0, "a", 0), (2, 0, "b", 0), (3, 0, "a", 0)])
    other = table.set_column(2, "t", table["t"].cast(kind))
    spec = reference.stage(metrics=WORDS)
    wanted = reference.expected(table.to_pylist(), spec)
    same(reference.released(reference.accumulators(reference.batches_of(other, [1]), spec), spec), wanted, spec)


@pytest.mark.parametrize(
    ("values", "distinct_values"),
    [
        (pa.array([True, False, True]), 2),
        (pa.array([0, 1, 0], pa.date32()), 2),
        (pa.array([0, 1, 0], pa.timestamp("us")), 2),
        (pa.array([2**53, 2**53 + 1, 2**53]), 2),
    ],
)
def test_identities_are_exact_for_all_but_text(values, distinct_values):
    assert len(set(distinct.identities(values).tolist())) == distinct_values


def test_floats_are_refused_where_values_are_compared():
    with pytest.raises(TypeError, match=r"^a column of type double can't be hashed"):
        distinct.identities(pa.array([0.0, -0.0]))
    with pytest.raises(TypeError, match=r"^values of type double can't be counted by value"):
        frequent.words(pa.array([0.0, -0.0]), 2)


def test_equal_noisy_counts_are_ordered_by_what_is_shown(exact):
    spec = reference.stage(metrics=WORDS)
    for texts in ("abc", "cba", "bca"):
        table = table_of([(i, 0, t, 0) for i, t in enumerate(texts)])
        (row,) = reference.released(reference.accumulators(table.to_batches(), spec), spec).values()
        assert [row[f"top_{i}"] for i in (1, 2, 3)] == ["a", "b", "c"]


def test_of_equal_counts_the_candidate_listed_first_comes_first():
    listed = tuple(f"c{i}" for i in range(40))
    noisy = np.array([[7.0] * 40, [*[1.0] * 20, *[3.0] * 20]])
    found = [frequent.largest_candidate(noisy, listed, place) for place in (0, 1, 20)]
    assert [texts.to_pylist() for texts, _ in found] == [["c0", "c20"], ["c1", "c21"], ["c20", "c0"]]
    assert [counts.tolist() for _, counts in found] == [[7.0, 3.0], [7.0, 3.0], [7.0, 1.0]]


def pieces_of(row, piece_bytes):
    """A row as the rows that its lists are cut into, by the bytes before each entry."""
    cut = {}
    for name, entries in row.items():
        if name in ("numbers", "counted"):
            sizes = [8 if name == "numbers" else len(entry["value"].encode()) + 16 for entry in entries]
            for i, entry in enumerate(entries):
                cut.setdefault(sum(sizes[:i]) // piece_bytes, {}).setdefault(name, []).append(entry)
    rows = [{"numbers": [], "counted": []} | cut.get(i, {}) for i in range(1 + max(cut, default=0))]
    first = {"__count": row["__count"], "__pair": row["__pair"]}
    return [{"p": row["p"], **(first if i == 0 else {"__count": 0, "__pair": [0, 0]}), **r} for i, r in enumerate(rows)]


@pytest.mark.parametrize("piece_bytes", [1, 16, 20, 24, 33, 100, 10**6])
def test_rows_are_cut_where_their_lists_fill_a_piece(piece_bytes):
    texts = ["", "é", "a" * 30, "b"]
    rows = [
        {"p": "x", "__count": 7, "__pair": [1, 2], "numbers": [4, 5, 6, 7], "counted": []},
        {"p": "y", "__count": 8, "__pair": [3, 4], "numbers": [], "counted": []},
        {
            "p": "z",
            "__count": 9,
            "__pair": [5, 6],
            "numbers": [9],
            "counted": [{"value": t, "units": 3} for t in texts],
        },
        {"p": "w", "__count": 1, "__pair": [7, 8], "numbers": [1, 2], "counted": [{"value": "long" * 9, "units": 1}]},
    ]
    schema = pa.schema(
        [
            ("p", pa.string()),
            ("__count", pa.int64()),
            ("__pair", pa.list_(pa.int64(), 2)),
            ("numbers", distinct.TYPE),
            ("counted", frequent.COUNTS_TYPE),
        ]
    )
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    for whole, wanted in ((batch, rows), (batch.slice(1), rows[1:]), (batch.slice(0, 1), rows[:1])):
        if whole.nbytes > piece_bytes:
            found = long_lists.spread(whole, piece_bytes)
            assert found.schema == schema
            assert found.to_pylist() == [piece for row in wanted for piece in pieces_of(row, piece_bytes)]
    assert long_lists.spread(batch, batch.nbytes) is batch
    assert long_lists.spread(batch.select(["p", "__count"]), 1).num_rows == 4


def test_identities_of_chunks_are_those_of_the_whole():
    whole = pa.array([3, -1, 2**62, 3])
    assert distinct.identities(whole).tolist() == whole.to_pylist()
    assert distinct.identities(pa.chunked_array([whole[:1], whole[1:]])).tolist() == whole.to_pylist()
    nothing = distinct.identities(pa.chunked_array([], pa.int64()))
    assert (nothing.tolist(), nothing.dtype) == ([], np.int64)
