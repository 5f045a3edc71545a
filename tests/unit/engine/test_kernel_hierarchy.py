"""Every row has one cell: its leaf if that is kept, else the `other` below its longest kept prefix."""

from __future__ import annotations

import datetime as dt
import pickle
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.bounding import hierarchy

TEXT = (pa.string(), pa.string(), pa.string())
KEYS = ("country", "city", "shop")
words = st.sampled_from(["", "a", "b", "other", "null", "(other)"])
leaves = st.tuples(words, words, words)


def table(rows, types=TEXT):
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table({k: pa.array(list(c), t) for k, c, t in zip(KEYS, columns, types, strict=True)})


def batch(rows, types=TEXT):
    return pa.RecordBatch.from_arrays([c.combine_chunks() for c in table(rows, types).columns], names=list(KEYS))


def among(rows, types=TEXT):
    return hierarchy.Hierarchy(keys=KEYS, kept=table(rows, types))


def cell_of(row, kept):
    """Straight from the definition."""
    for depth in range(3, 0, -1):
        if any(row[:depth] == leaf[:depth] for leaf in kept):
            return (*row[:depth], *(None,) * (3 - depth), depth)
    return (None, None, None, 0)


def shown(made):
    return [tuple(row.values()) for row in hierarchy.shown(made, KEYS).to_pylist()]


def as_table(made):
    return pa.Table.from_batches([made])


@settings(max_examples=300, deadline=None)
@given(st.lists(leaves, max_size=30), st.sets(leaves, max_size=6))
def test_each_row_goes_to_the_cell_that_the_definition_says(rows, kept):
    rolled = hierarchy.roll_up(batch(rows), among(sorted(kept)))
    assert shown(as_table(rolled)) == [cell_of(row, kept) for row in rows]


@settings(max_examples=200, deadline=None)
@given(st.lists(leaves, max_size=30), st.sets(leaves, max_size=6))
def test_every_cell_of_a_row_is_listed_once_so_nothing_is_lost(rows, kept):
    listed = Counter(tuple(row.values()) for row in hierarchy.cells(table(sorted(kept)), KEYS).to_pylist())
    rolled = Counter(tuple(r.values()) for r in hierarchy.roll_up(batch(rows), among(sorted(kept))).to_pylist())
    assert set(listed.values()) == {1}
    assert set(rolled) <= set(listed)
    assert sum(rolled.values()) == len(rows)


@settings(max_examples=100, deadline=None)
@given(st.sets(leaves, max_size=6))
def test_the_cells_are_the_leaves_and_an_other_below_each_prefix(kept):
    prefixes = {leaf[:depth] for leaf in kept for depth in (1, 2)} | {()}
    wanted = {(*leaf, 3) for leaf in kept} | {(*p, *(None,) * (3 - len(p)), len(p)) for p in prefixes}
    assert set(shown(hierarchy.cells(table(sorted(kept)), KEYS))) == wanted


def test_a_key_that_is_called_other_is_not_the_other():
    kept = [("a", "other", "other")]
    rows = [("a", "other", "other"), ("a", "other", "x"), ("a", "x", "x"), ("x", "x", "x")]
    assert shown(as_table(hierarchy.roll_up(batch(rows), among(kept)))) == [
        ("a", "other", "other", 3),
        ("a", "other", None, 2),
        ("a", None, None, 1),
        (None, None, None, 0),
    ]


@pytest.mark.parametrize(
    ("kind", "zero", "one"),
    [
        (pa.string(), "", "x"),
        (pa.int64(), 0, 7),
        (pa.bool_(), False, True),
        (pa.date32(), dt.date(1970, 1, 1), dt.date(2024, 5, 1)),
        (pa.timestamp("us"), dt.datetime(1970, 1, 1), dt.datetime(2024, 5, 1)),
    ],
    ids=str,
)
def test_no_type_has_a_key_that_is_taken_for_the_placeholder(kind, zero, one):
    types = (kind, kind, kind)
    rows = [(zero, zero, zero), (zero, zero, one), (zero, one, one), (one, one, one)]
    rolled = hierarchy.roll_up(batch(rows, types), among([(zero, zero, zero)], types))
    assert shown(as_table(rolled)) == [
        (zero, zero, zero, 3),
        (zero, zero, None, 2),
        (zero, None, None, 1),
        (None, None, None, 0),
    ]
    cells = hierarchy.cells(table([(zero, zero, zero)], types), KEYS)
    assert len(set(map(tuple, (row.values() for row in cells.to_pylist())))) == 4


def test_dictionary_encoded_keys_roll_up_like_plain_ones():
    rows = [("a", "b", "c"), ("a", "b", "d"), ("x", "y", "z")]
    plain = batch(rows)
    encoded = pa.RecordBatch.from_arrays([c.dictionary_encode() for c in plain.columns], names=list(KEYS))
    kept = among([("a", "b", "c")])
    assert hierarchy.roll_up(encoded, kept).to_pylist() == hierarchy.roll_up(plain, kept).to_pylist()


def test_a_hierarchy_that_is_sent_to_a_worker_is_the_same():
    kept = among([("a", "b", "c"), ("a", "x", "y")])
    rows = batch([("a", "b", "c"), ("a", "b", "d"), ("a", "z", "z"), ("x", "y", "z")])
    sent = pickle.loads(pickle.dumps(kept))  # noqa: S301
    assert (sent.keys, sent.kept) == (kept.keys, kept.kept)
    assert hierarchy.roll_up(rows, sent).to_pylist() == hierarchy.roll_up(rows, kept).to_pylist()
