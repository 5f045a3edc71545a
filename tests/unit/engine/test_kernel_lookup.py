"""Keys are found by value, whatever their hashes; what a round was told is found again."""

from __future__ import annotations

import copy
import pickle
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.arrays import lookup
from dpbeam.engine.arrays.lookup import ABSENT, Lookup
from dpbeam.engine.rounds.earlier_rounds import BIAS, KEPT, EarlierRounds

KEYS = st.tuples(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "a", "b", "ab", "ü"]))


def columns(keys):
    numbers, texts = zip(*keys, strict=True) if keys else ((), ())
    return pa.array(numbers, pa.int64()), pa.array(texts, pa.string())


@settings(max_examples=200, deadline=None)
@given(st.lists(KEYS, unique=True, max_size=20), st.lists(KEYS, max_size=30), st.booleans())
def test_every_key_is_found_where_it_is_and_no_other(keys, rows, encoded):
    rows = [*rows, *keys[::2]]
    number, text = columns(rows)
    found = Lookup(keys=columns(keys)).find([number, text.dictionary_encode() if encoded else text])
    assert found.tolist() == [keys.index(row) if row in keys else ABSENT for row in rows]


def test_rows_that_share_a_hash_with_a_key_are_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(lookup, "_hashes", lambda cols, seed: cols[0].to_numpy().astype(np.uint64) % np.uint64(7))
    found = Lookup(keys=(pa.array([1, 2, 10]),)).find([pa.array([8, 1, 10, 3, 9])])
    assert found.tolist() == [ABSENT, 0, 2, ABSENT, ABSENT]


def test_a_seed_is_taken_by_which_no_two_keys_share_a_hash(monkeypatch):
    def hashes(cols, seed):
        return cols[0].to_numpy().astype(np.uint64) % np.uint64(5 + seed % 8)

    monkeypatch.setattr(lookup, "_hashes", hashes)
    assert Lookup(keys=(pa.array([1, 6, 11]),)).find([pa.array([11, 6, 1])]).tolist() == [2, 1, 0]


def test_keys_that_are_there_twice_are_refused():
    with pytest.raises(ValueError, match=r"^what is looked up must have each key once$"):
        Lookup(keys=(pa.array(["a", "b", "a"]),))


def test_what_was_told_is_known_also_after_it_was_sent():
    days = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)]
    told = pa.table({"day": pa.chunked_array([days[:1], days[1:2]]), KEPT: [True, False], BIAS: [600, 1024]})
    known = EarlierRounds(table=told)
    for same in (known, copy.copy(known)):
        assert same.kept([pa.array(days)]).tolist() == [True, False, False]
        assert same.biases([pa.array(days[::-1])]).tolist() == [0, 1024, 600]
    assert EarlierRounds(table=told.slice(0, 0)).kept([pa.array(days)]).tolist() == [False] * 3
    assert len(pickle.dumps(known)) < 2 * len(pickle.dumps(told))
