"""Hashes depend on values and seeds alone."""

from __future__ import annotations

import re
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.arrays import hashing

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


def test_seeds_and_the_hash_that_routes_keys_are_the_same_on_every_machine_and_in_every_version():
    # By the latter a key has its file: releases of one plan can be laid side by side.
    assert hashing.derive(b"0123456789abcdef", "route", 3, -1) == 292721438770177485479025868784219792014
    batch = pa.record_batch({"a": ["", "ab", "x" * 70], "b": [1, -2, 3], "c": [True, False, True]})
    assert hashing.hash_rows(batch, ["a", "b", "c"], hashing.ROUTE_SEED).tolist() == [
        12053174474615979051, 3327350631890589896, 10698304791376950832,
    ]  # fmt: skip


def mixed(value, key):
    """SplitMix64's finaliser, in whole numbers."""
    value = (value + key) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_a_string_is_hashed_by_its_length_and_its_words():
    texts = ["", "a", "é", *("ab" * (n // 2) + "c" * (n % 2) for n in (7, 8, 9, 16, 63, 64, 65, 72, 200)), "z"]
    seed, wanted = 11, []
    for text in texts:
        data, total = text.encode(), 0
        for j in range(0, len(data), 8):
            word_key = mixed(j // 8 * 0x9E3779B97F4A7C15 % 2**64, seed)
            total += mixed(int.from_bytes(data[j : j + 8], "little") ^ word_key, 0)
        if not data:
            total = mixed(mixed(0, seed), 0)
        wanted.append(mixed(mixed(len(data), seed ^ 0xA5A5A5A5A5A5A5A5) ^ total % 2**64, seed))
    assert hashing.hash_column(pa.array(texts), seed).tolist() == wanted
    chunks = pa.chunked_array([texts[:3], texts[3:], []], pa.string())
    assert hashing.hash_column(chunks, seed).tolist() == wanted
    nothing = hashing.hash_column(pa.chunked_array([], pa.string()), seed)
    assert (nothing.tolist(), nothing.dtype) == ([], np.uint64)


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
        found = hashing.hash_column(pa.array([], kind), 1)
        assert (found.tolist(), found.dtype) == ([], np.uint64)


def test_a_float_column_is_refused():
    message = "a column of type double can't be hashed; units and keys are string, int64, bool, date, timestamp"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        hashing.hash_column(pa.array([1.0]), 1)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_no_length_cancels_a_word(seed):
    values = [chr(byte) * count for byte in range(9) for count in range(9) if count or not byte]
    assert len(set(hashing.hash_column(pa.array(values), seed).tolist())) == len(values)
