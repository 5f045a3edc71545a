"""Hashes depend on values and seeds alone."""

from __future__ import annotations

import re
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.mechanisms import hashing

STRINGS = ["0x458eef9999fe2106", "0x16ca6fa21053065c", "0x1fb4ef342556a9e7"]
INTEGERS = ["0x71048b1561c7b0d5", "0xb602657fab5d12eb", "0x8708fffb07cb634"]
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8), TEXT, st.integers(0, 2**64 - 1))
def test_a_string_hashes_alike_alone_sliced_chunked_large_and_in_a_dictionary(values, before, seed):
    plain = pa.array(values)
    wanted = hashing.hash_column(plain, seed).tolist()
    forms = {
        "slice": pa.array([before, *values, before]).slice(1, len(values)),
        "chunks": pa.chunked_array([plain.slice(0, 1), plain.slice(1)]),
        "large": plain.cast(pa.large_string()),
        "dictionary": plain.dictionary_encode(),
    }
    for name, array in forms.items():
        assert hashing.hash_column(array, seed).tolist() == wanted, name
    assert [int(hashing.hash_column(pa.array([value]), seed)[0]) for value in values] == wanted


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXT, unique=True, min_size=2, max_size=30), st.integers(0, 2**64 - 1))
def test_different_strings_hash_differently(values, seed):
    assert len(set(hashing.hash_column(pa.array(values), seed).tolist())) == len(values)


def test_hashes_are_the_same_on_every_machine():
    # Fixed numbers: two workers of a job may run on other processors and other versions of the libraries.
    assert [hex(h) for h in hashing.hash_column(pa.array(["", "a", "é" * 50]), 7).tolist()] == STRINGS
    assert [hex(h) for h in hashing.hash_column(pa.array([0, -1, 2**63 - 1]), 7).tolist()] == INTEGERS


def test_every_kind_of_key_is_hashed_by_its_value():
    columns = [
        pa.array([True, False]),
        pa.array([date(2020, 1, 1), date(1960, 1, 1)]),
        pa.array([datetime(2020, 1, 1), datetime(1960, 1, 1)], pa.timestamp("us")),
        pa.array([3, -3]),
    ]
    for column in columns:
        forward, backward = hashing.hash_column(column, 1), hashing.hash_column(column.take(pa.array([1, 0])), 1)
        assert forward.tolist() == backward.tolist()[::-1]
        assert forward[0] != forward[1]


def test_a_string_that_fills_whole_words_differs_from_its_prefixes_and_zero_padding():
    values = [b"x" * n for n in range(100)] + [b"x" * n + b"\0" for n in range(100)]
    assert len(set(hashing.hash_column(pa.array([v.decode() for v in values]), 1).tolist())) == 200


def test_columns_do_not_run_into_each_other():
    batch = pa.record_batch({"a": ["a", "ab", "b"], "b": ["bc", "c", "a"]})
    swapped = pa.record_batch({"a": ["bc", "c", "a"], "b": ["a", "ab", "b"]})
    hashes = [*hashing.hash_rows(batch, ["a", "b"], 1).tolist(), *hashing.hash_rows(swapped, ["a", "b"], 1).tolist()]
    assert len(set(hashes)) == 6


def test_another_seed_gives_another_hash():
    for column in (pa.array(["a", "b"]), pa.array([1, 2])):
        assert not set(hashing.hash_column(column, 1).tolist()) & set(hashing.hash_column(column, 2).tolist())


def test_purposes_and_salts_give_unrelated_seeds():
    seeds = {hashing.seed_for(salt, purpose) for salt in (b"a" * 16, b"b" * 16) for purpose in ("route", "rank")}
    assert len(seeds) == 4


def test_generators_differ_by_purpose_and_by_every_number():
    names = [("a", (1, 2)), ("a", (12,)), ("a", (1, 2, 0)), ("b", (1, 2)), ("a", (2, 1))]
    draws = {int(hashing.generator(b"s", purpose, seeds).integers(2**63)) for purpose, seeds in names}
    assert len(draws) == len(names)


@pytest.mark.parametrize("values", [list(range(80000)), [f"user-{i}" for i in range(80000)]])
def test_shards_get_even_shares(values):
    counts = np.bincount(hashing.shard_of(hashing.hash_column(pa.array(values), 3), 8), minlength=8)
    assert abs(counts - 10000).max() < 700  # seven standard deviations; the seed is fixed, so this can't flake


def test_one_huge_string_is_hashed_in_one_go():
    a, b = "x" * 10**6, "x" * (10**6 - 1) + "y"
    assert len(set(hashing.hash_column(pa.array([a, "short", b]), 1).tolist())) == 3


def test_empty_columns_have_no_hashes():
    for kind in (pa.string(), pa.int64(), pa.date32()):
        assert hashing.hash_column(pa.array([], kind), 1).tolist() == []


def test_a_float_column_is_refused():
    message = "a column of type double can't be hashed; units and keys are string, int64, bool, date, timestamp"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        hashing.hash_column(pa.array([1.0]), 1)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_no_length_cancels_a_word(seed):
    values = [chr(byte) * count for byte in range(9) for count in range(9) if count or not byte]
    assert len(set(hashing.hash_column(pa.array(values), seed).tolist())) == len(values)
