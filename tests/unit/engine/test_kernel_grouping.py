"""Rows have one code exactly where all their values are equal, and keys say which values a code stands for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dpbeam.engine.arrays import grouping

RNG = np.random.default_rng(2)
FAR = 1_000
TEXT = [f"t{i}" for i in RNG.integers(0, 7, 400)]
COLUMNS = {
    "text": pa.array(TEXT),
    "numbers": pa.array(RNG.integers(-3, 3, 400)),
    "flags": pa.array(RNG.random(400) < 0.5),
    "constant": pa.array([5] * 400),
    "chunks": pa.chunked_array([TEXT[:100], [], TEXT[100:]], pa.string()),
    "dictionary": pa.array(TEXT).dictionary_encode(),
    "many": pa.array(np.arange(400) * 3 + 1_000_000_007),
    "far apart": pa.array(RNG.integers(-(2**62), 2**62, 400)),
    "all of int64": pa.array([-(2**63), 2**63 - 1] * 200),
    "many texts": pa.array([f"number {i // 2}" for i in range(400)] + []),
}


@pytest.mark.parametrize(
    "names",
    [
        ["text"],
        ["many"],
        ["far apart"],
        ["all of int64"],
        ["many texts"],
        ["constant"],
        ["text", "numbers"],
        ["constant", "flags", "text"],
        ["chunks", "many"],
        ["many texts", "dictionary", "constant"],
        ["numbers", "many texts", "flags"],
    ],
)
def test_codes_are_dense_and_stand_for_the_values_of_their_rows(names):
    found = grouping.group([COLUMNS[name] for name in names], 400)
    rows = list(zip(*(COLUMNS[name].to_pylist() for name in names), strict=True))
    keys = list(zip(*(key.to_pylist() for key in found.keys), strict=True))
    assert [keys[code] for code in found.codes.tolist()] == rows
    assert len(set(keys)) == len(keys) == found.size == len(set(rows))
    assert found.codes.dtype == np.int64
    order, starts = found.order()
    assert order.tolist() == np.argsort(found.codes, kind="stable").tolist()
    assert starts.tolist() == np.searchsorted(found.codes[order], np.arange(found.size)).tolist()


@pytest.mark.parametrize(
    ("values", "by_sorting"),
    [
        (RNG.integers(0, 10, 150_000) * FAR, False),
        (RNG.integers(0, 30_000, 150_000) * FAR, False),
        (RNG.integers(0, 10**6, 150_000) * FAR, True),
        (np.sort(RNG.integers(0, 30_000, 150_000)) * FAR, False),
        (np.arange(150_000) * FAR, True),
        (np.arange(100) * FAR, True),
        (np.arange(150_000), False),
    ],
    ids=["few", "many", "nearly all", "neighbours", "all", "a short column", "close together"],
)
def test_values_are_sorted_where_nearly_all_differ_and_hashed_else(values, by_sorting):
    assert (grouping.group([pa.array(values)], len(values)).sorting is not None) == by_sorting


@pytest.mark.parametrize("lowest", [-(2**63), -1, 2**63 - 8 * 400])
def test_numbers_that_lie_close_together_get_their_codes_in_order(lowest):
    numbers = RNG.integers(0, 8 * 400, 400) + lowest
    found = grouping.group([pa.array(numbers)], 400)
    values, codes = np.unique(numbers, return_inverse=True)
    assert found.keys[0].to_pylist() == values.tolist()
    assert found.codes.tolist() == codes.tolist()


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("others", [0, 1])
def test_no_rows_are_no_groups_of_the_columns_types(kind, others):
    columns = [pa.chunked_array([], kind), *[pa.array([], pa.bool_())] * others]
    found = grouping.group(columns, 0)
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    assert [key.type for key in found.keys] == [plain, *[pa.bool_()] * others]
    assert (found.size, found.codes.tolist(), found.codes.dtype) == (0, [], np.int64)
    assert [part.tolist() for part in found.order()] == [[], []]


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_without_columns_all_rows_are_one_group(rows):
    found = grouping.group([], rows)
    assert (found.codes.tolist(), found.keys, found.size) == ([0] * rows, (), min(rows, 1))


@pytest.mark.parametrize("bits", [1, 15, 16, 17, 33, 64])
def test_an_ordering_of_many_is_stable(bits):
    keys = RNG.integers(0, 2**64, 3000, dtype=np.uint64) >> np.uint64(64 - bits)
    keys[::3] = keys[1]
    assert grouping.ordering(keys, bits).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("shared_bits", [4, 32])
def test_many_texts_are_told_apart_by_value_whatever_they_share(monkeypatch, shared_bits):
    monkeypatch.setattr(grouping, "_HASH_BITS", shared_bits)
    monkeypatch.setattr(grouping, "_nearly_all_differ", lambda column: True)
    texts = pa.array([f"text {i % 600}" for i in range(1000)])
    found = grouping.group([texts], 1000)
    assert found.size == 600
    assert found.keys[0].take(pa.array(found.codes)).equals(texts)
    assert (found.sorting is None) == (shared_bits == 4)


def test_one_or_two_shared_hashes_among_many_texts_are_noticed(monkeypatch):
    monkeypatch.setattr(grouping, "_HASH_BITS", 16)  # 600 texts share 2.7 hashes on average
    by_sorting = 0
    for seed in range(40):
        found = grouping.group([pa.array([f"{seed}:{i}" for i in range(600)])], 600)
        assert found.size == 600
        by_sorting += found.sorting is not None
    assert by_sorting < 40
