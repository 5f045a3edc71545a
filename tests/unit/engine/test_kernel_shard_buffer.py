"""The buffer gives each shard exactly the rows put for it, in any room; the merged result shards are the exact sums."""

from __future__ import annotations

import threading
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import accumulate, merge_buffer, partition_shards
from dpbeam.engine.arrays import grouping, hashing
from dpbeam.engine.bounding import contributions
from dpbeam.engine.bounding.shard_buffer import ShardBuffer, Total
from tests.helpers import kernel_reference as reference

SALT = reference.SALT
SHARDS = 8
BLOCKS = st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=6)


def blocks_of(blocks):
    """For each block its place, its rows (unit, row number) and their shards."""
    number = 0
    for i, units in enumerate(blocks):
        rows = pa.record_batch({"u": pa.array(units, pa.int64()), "id": np.arange(number, number + len(units))})
        number += len(units)
        yield (i // 2, i % 2), rows, hashing.route_here(rows.column("u"), SALT, SHARDS)


def passes(blocks, room_bytes):
    """What each shard got, over as many passes as it takes; the totals put in the first pass and taken in all."""
    first, put, taken, found = 0, None, Total(), {}
    while first < SHARDS:
        buffer = ShardBuffer(shards=SHARDS, first=first, last=SHARDS, room_bytes=room_bytes)
        totals = [buffer.put(*block) for block in blocks_of(blocks)]
        assert put in (None, totals)
        put, sizes = totals, buffer.settle()
        for shard in range(first, buffer.last):
            batches, total = buffer.take(shard)
            assert shard not in found
            assert sum(batch.num_rows for batch in batches) == sizes[shard - first]
            assert sizes.dtype == np.int64
            found[shard] = [row for batch in batches for row in batch.to_pylist()]
            taken += total
        assert buffer.last > first
        first = buffer.last
    return found, sum(put or [], Total()), taken


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.integers(1, 3000))
def test_each_shard_gets_its_rows_in_the_order_of_the_blocks_in_any_room(blocks, room_bytes):
    wanted = defaultdict(list)
    for _, rows, shard in blocks_of(blocks):
        for row, to in zip(rows.to_pylist(), shard.tolist(), strict=True):
            wanted[to].append(row)
    found, put, taken = passes(blocks, room_bytes)
    assert {shard: rows for shard, rows in found.items() if rows} == wanted
    assert put == taken


@pytest.mark.parametrize(("room_bytes", "stay"), [(40_000, 1), (200_000, 2), (400_000, 4)])
def test_a_small_room_takes_several_passes_and_never_holds_more(room_bytes, stay):
    rows = pa.record_batch({"u": np.arange(4000), "id": np.arange(4000)})
    shard = hashing.route_here(rows.column("u"), SALT, SHARDS)
    buffer = ShardBuffer(shards=SHARDS, first=0, last=SHARDS, room_bytes=room_bytes)
    for block in range(10):
        buffer.put((0, block), rows, shard)
        assert sum(held.rows.get_total_buffer_size() for held in buffer._blocks) <= room_bytes or buffer.last == 1
        assert all(held.rows.num_rows == held.starts[-1] for held in buffer._blocks)
    assert buffer.last == stay


def test_blocks_of_other_columns_stand_beside_each_other():
    buffer = ShardBuffer(shards=1, first=0, last=1, room_bytes=1 << 20)
    plain = pa.record_batch({"u": [1, 2]})
    wide = pa.record_batch({"u": [3], "priority": [7]})
    for number, rows in enumerate((plain, wide, plain)):
        buffer.put((0, number), rows, np.zeros(rows.num_rows, dtype=np.uint16))
    batches, total = buffer.take(0)
    assert [batch.to_pydict() for batch in batches] == [{"u": [1, 2, 1, 2]}, {"u": [3], "priority": [7]}]
    assert total.rows == 5


def test_totals_add_up_rows_and_tags():
    assert Total(rows=1, tags=2) + Total(rows=3, tags=2**64 - 1) == Total(rows=4, tags=1)


@pytest.mark.parametrize("change", ["lost", "doubled", "swapped", "in another shard"])
def test_a_total_tells_what_went_astray(change):
    rows = pa.record_batch({"u": np.arange(64), "id": np.arange(64)})
    buffer = ShardBuffer(shards=2, first=0, last=2, room_bytes=1 << 20)
    shard = np.repeat(np.array([0, 1], dtype=np.uint16), 32)
    put = buffer.put((0, 0), rows, shard) + buffer.put((0, 1), rows, shard)
    buffer.settle()
    match change:
        case "lost":
            buffer._blocks.pop()
        case "doubled":
            buffer._blocks.append(buffer._blocks[0])
        case "swapped":
            buffer._blocks[1] = buffer._blocks[0]
    take = (0, 0) if change == "in another shard" else (0, 1)
    assert sum((buffer.take(shard)[1] for shard in take), Total()) != put


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_a_value_has_one_shard_whatever_it_is_beside(kind):
    values = pa.array([f"unit number {i % 977}" if kind == "string" else i % 977 for i in range(5000)])
    whole = hashing.route_here(values, SALT, 64)
    pieces = [hashing.route_here(values.slice(i, 1 + i % 7), SALT, 64) for i in range(0, 2000, 3)]
    for i, piece in zip(range(0, 2000, 3), pieces, strict=True):
        assert piece.tolist() == whole[i : i + len(piece)].tolist()
    assert (whole[:977] == whole[977 * 2 : 977 * 3]).all()
    assert len(set(whole.tolist())) == 64
    assert hashing.route_here(values, b"another salt....", 64).tolist() != whole.tolist()


@pytest.mark.parametrize("count", [1, 3, 8, 20])
@pytest.mark.parametrize("pending_bytes", [0, 80_000, 1 << 30])
def test_a_tally_is_the_exact_merge_from_any_threads(pending_bytes, count):
    spec, rng = reference.stage(metrics=reference.VALUE_METRICS), np.random.default_rng(3)
    batches = [
        pa.record_batch(
            {"u": np.arange(300), "p": rng.integers(0, 90, 300), "v": rng.normal(0, 9, 300), "w": rng.normal(0, 9, 300)}
        )
        for _ in range(12)
    ]
    found = [
        accumulate.accumulate(contributions.bound([batch], spec, SALT, (i,)), spec) for i, batch in enumerate(batches)
    ]
    counted = partition_shards.PartitionShards(spec=spec, result_shards=count, pending_bytes=pending_bytes)
    threads = [threading.Thread(target=counted.add, args=(batch,)) for batch in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts = {number: counted.merged(number) for number in reversed(range(count))}
    wanted = {part: accumulate.merge([rows], spec) for part, rows in accumulate.split_by_partition(
        accumulate.merge(found, spec), spec, count)}  # fmt: skip
    assert {part: batch.to_pylist() for part, batch in parts.items() if batch.num_rows} == {
        part: batch.to_pylist() for part, batch in wanted.items()
    }


@pytest.mark.parametrize("pending_bytes", [0, 1 << 30])
def test_accumulators_merged_as_they_come_are_merged_exactly(monkeypatch, pending_bytes):
    monkeypatch.setattr(merge_buffer, "PENDING_BYTES", pending_bytes)
    spec = reference.stage(unit=None, l0=1, linf=1, metrics=reference.COUNTS)
    found = [accumulate.accumulate_rows(pa.record_batch({"p": [i % 3, 7]}), spec) for i in range(9)]
    assert partition_shards.merged(iter(found), spec).equals(accumulate.merge(found, spec))
    assert partition_shards.merged([], spec).equals(accumulate.empty(spec))


def test_a_tally_holds_a_partition_about_once():
    spec = reference.stage(metrics=reference.COUNTS)
    one = accumulate.zeros(pa.table({"p": np.arange(1000)}), spec)
    counted = partition_shards.PartitionShards(spec=spec, result_shards=1, pending_bytes=one.nbytes)
    for _ in range(40):
        counted.add(one)
        held = sum(rows.nbytes for bucket in counted._buckets for rows in bucket.batches)
        assert held < 5 * one.nbytes
    assert counted.merged(0).num_rows == 1000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 64))
def test_an_ordering_is_stable_and_right(keys, bits):
    cut = np.array([key & ((1 << bits) - 1) for key in keys], dtype=np.uint64)
    assert grouping.ordering(cut, bits).tolist() == np.argsort(cut, kind="stable").tolist()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(3000) * 7919 % 2777,
        np.arange(3000, dtype=np.int64) * (2**62 // 1500) - 2**62,
        np.concatenate([np.full(700, -(2**63)), np.arange(2000), [2**63 - 1]]),
        np.arange(-1500, 1500) << 30,
        [f"text {i % 1999}" for i in range(4000)],
        [str(i) * (i % 5) for i in range(4000)],
    ],
    ids=["small", "wide", "ends", "48 bits", "text", "empty text"],
)
@pytest.mark.parametrize("by_sorting", [False, True])
def test_many_values_are_grouped_by_value(values, by_sorting, monkeypatch):
    monkeypatch.setattr(grouping, "_nearly_all_differ", lambda column: by_sorting)
    column = pa.array(values)
    found = grouping.group([column], len(column))
    assert found.keys[0].take(pa.array(found.codes)).equals(column)
    assert found.size == len(set(column.to_pylist())) == len(found.keys[0])


def test_texts_that_share_a_hash_are_grouped_by_value(monkeypatch):
    monkeypatch.setattr(grouping, "_HASH_BITS", 4)
    monkeypatch.setattr(grouping, "_nearly_all_differ", lambda column: True)
    column = pa.array([f"text {i % 1999}" for i in range(4000)])
    assert grouping._encode_by_sorting(column) is None
    assert grouping.group([column], len(column)).size == 1999
