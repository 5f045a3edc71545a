"""Bounding keeps exactly what the bounds allow, of each unit on its own."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpbeam.engine.arrays import grouping
from dpbeam.engine.bounding import contributions, sampling
from dpbeam.engine.bounding.contributions import PRIORITY
from tests.helpers import kernel_reference as reference

SALT = reference.SALT
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=80)


def spec_for(l0, linf, **more):
    return reference.stage(l0=l0, linf=linf, metrics=reference.ID_METRIC, **more)


def check_sizes(table, kept, l0, linf):
    """Exactly min(l0, n) partitions a unit, and in each exactly min(linf, n) rows."""
    rows = table.to_pylist()
    sizes = Counter((row["u"], row["p"]) for row in rows)
    left = Counter((row["u"], row["p"]) for row in rows if row["id"] in kept)
    partitions, remaining = defaultdict(set), defaultdict(set)
    for unit, partition in sizes:
        partitions[unit].add(partition)
    for unit, partition in left:
        remaining[unit].add(partition)
    assert {u: len(p) for u, p in remaining.items()} == {u: min(l0, len(p)) for u, p in partitions.items()}
    assert left == {pair: min(linf, sizes[pair]) for pair in left}


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 80), max_size=4), st.integers(0, 2**32))
def test_kept_sets_have_exactly_the_size_that_the_bounds_allow(rows, l0, linf, cuts, seed):
    table = reference.numbered([u for u, _ in rows], [p for _, p in rows])
    table = table.cast(pa.schema([("u", pa.int64()), ("p", pa.int64()), ("id", pa.int64())]))
    spec = spec_for(l0, linf)
    batches = reference.batches_of(table, cuts)
    bounded = contributions.bound(batches, spec, SALT, (seed,))
    check_sizes(table, reference.kept_ids(bounded), l0, linf)


@pytest.mark.parametrize("strings", [False, True])
def test_kept_sets_have_exactly_that_size_after_pre_bounding_of_some_batches(strings):
    rng = np.random.default_rng(0)
    units = np.where(rng.random(6000) < 0.5, 7, rng.integers(0, 2000, 6000))
    partitions = rng.integers(0, 12, 6000)
    if strings:
        units, partitions = units.astype(str), partitions.astype(str)
    table, spec = reference.numbered(units, partitions), spec_for(3, 2)
    batches = reference.batches_of(table, [2000, 4000])
    mixed = [
        contributions.prebound(batches[0], spec, SALT, (0, 0)),
        batches[1],
        contributions.prebound(batches[2], spec, SALT, (0, 2)),
    ]
    assert [PRIORITY in batch.schema.names for batch in mixed] == [True, False, True]
    check_sizes(table, reference.kept_ids(contributions.bound(mixed, spec, SALT, (1,))), 3, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.integers(1, 3), st.integers(1, 3))
def test_the_path_without_packed_keys_keeps_the_same_rows(monkeypatch, rows, l0, linf):
    table = reference.numbered([u for u, _ in rows], [f"p{p}" for _, p in rows])
    batches, spec = reference.batches_of(table, [30]), spec_for(l0, linf)
    packed = contributions.bound(batches, spec, SALT, (1,))
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "_PACKED_BITS", 0)
        plain = contributions.bound(batches, spec, SALT, (1,))
    assert reference.kept_ids(packed) == reference.kept_ids(plain)
    assert Counter(packed.pairs.tolist()) == Counter(plain.pairs.tolist())


@pytest.mark.parametrize("distinct", [20, 3000])
@pytest.mark.parametrize("by_sorting", [False, True])
def test_pairs_are_in_order_whether_or_not_partitions_were_grouped_by_sorting(distinct, by_sorting, monkeypatch):
    rng = np.random.default_rng(0)
    units = grouping.group([pa.array(rng.integers(0, 500, 4000))], 4000)
    monkeypatch.setattr(grouping, "_nearly_all_differ", lambda column: by_sorting)
    partitions = grouping.group([pa.array(rng.integers(0, distinct, 4000) * 1_000_000)], 4000)
    assert (partitions.sorting is not None) == by_sorting
    order, starts, unit, partition = sampling._pairs(units, partitions)
    assert order.tolist() == np.lexsort((partitions.codes, units.codes)).tolist()
    assert unit.tolist() == units.codes[order[starts]].tolist()
    assert partition.tolist() == partitions.codes[order[starts]].tolist()
    assert len(starts) == len(set(zip(units.codes.tolist(), partitions.codes.tolist(), strict=True)))


def test_ties_in_the_packed_bits_of_priorities_are_decided_by_the_full_priority():
    tied, apart = [2, 0, 1], [2 << 60, 0, 1 << 60]
    for of_groups in ([tied], [tied] * 4, [apart, tied], [tied, apart]):
        groups = np.repeat(np.arange(len(of_groups)), 3)
        priorities = np.array(of_groups, dtype=np.uint64).ravel()
        assert sampling._lowest(groups, priorities, 2).tolist() == [False, True, True] * len(of_groups)


def test_ties_between_those_that_stay_change_nothing():
    groups = np.repeat(np.arange(3), 4)
    priorities = np.array([1, 0, 1 << 62, 1 << 63] * 3, dtype=np.uint64)
    assert sampling._lowest(groups, priorities, 2).tolist() == [True, True, False, False] * 3
    assert sampling._lowest(groups, priorities, 1).tolist() == [False, True, False, False] * 3
    assert sampling._lowest(groups, priorities, 4).all()


@pytest.mark.parametrize("limit", [1, 3, 10, 30])
def test_the_lowest_of_many_groups_are_those_that_a_full_sort_gives(limit):
    rng = np.random.default_rng(limit)
    groups = np.sort(rng.integers(0, 5000, 60_000))
    priorities = rng.integers(0, 2**64, 60_000, dtype=np.uint64) >> rng.integers(0, 40, 60_000, dtype=np.uint64)
    order = np.lexsort((priorities, groups))
    starts = grouping.runs(groups)
    places = np.arange(60_000) - np.repeat(starts, np.diff(starts, append=60_000))
    assert sampling._lowest(groups, priorities, limit)[order].tolist() == (places < limit).tolist()


def test_the_lowest_are_found_in_more_groups_than_two_bytes_number():
    groups = np.repeat(np.arange(2**16 + 1), 2)
    priorities = np.tile(np.array([1 << 63, 0], dtype=np.uint64), 2**16 + 1)
    assert np.array_equal(sampling._lowest(groups, priorities, 1), priorities == 0)


def test_priorities_are_spread_over_all_64_bits_and_those_of_rows_that_carry_a_draw_follow_it():
    plain = pa.record_batch({"u": np.zeros(20_000, dtype=np.int64)})
    carrying = pa.record_batch({PRIORITY: np.arange(3, dtype=np.uint64)})
    spec = spec_for(1, 1)
    found = contributions._priorities([carrying, plain], spec, SALT, (1,))
    assert found[:3].tolist() == contributions._ranks(np.arange(3, dtype=np.uint64), spec, SALT).tolist()
    drawn = found[3:]
    assert len(np.unique(drawn)) == 20_000  # two alike: with probability 1e-11
    # Each bit is set in half of them, give or take 6.5 standard deviations (64 bits, 5e-9 in all).
    assert all(abs(((drawn >> np.uint64(bit)) & np.uint64(1)).mean() - 0.5) < 0.023 for bit in range(64))


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.integers(1, 4))
def test_which_partitions_of_a_unit_stay_is_blind_to_other_units_and_to_the_order(rows, others, l0):
    mine = [(9, p) for _, p in rows]
    spec = spec_for(l0, 10**6)

    def partitions_of_nine(pairs):
        table = reference.numbered([u for u, _ in pairs], [p for _, p in pairs])
        table = table.cast(pa.schema([("u", pa.int64()), ("p", pa.int64()), ("id", pa.int64())]))
        kept = reference.kept_ids(contributions.bound(reference.batches_of(table, [7]), spec, SALT, (1,)))
        return {row["p"] for row in table.to_pylist() if row["u"] == 9 and row["id"] in kept}

    assert partitions_of_nine(mine) == partitions_of_nine(others + mine[::-1])


def test_another_salt_keeps_other_partitions():
    table, spec = reference.numbered(np.repeat(np.arange(50), 20), np.tile(np.arange(20), 50)), spec_for(5, 1)
    batches = reference.batches_of(table, [])
    kept = [reference.kept_ids(contributions.bound(batches, spec, salt, (1,))) for salt in (SALT, SALT[::-1])]
    assert kept[0] != kept[1]


def test_the_same_work_done_again_keeps_the_same_rows():
    table, spec = reference.numbered([1] * 3000 + [2] * 100, [0] * 3100), spec_for(1, 5)
    (batch, *_) = reference.batches_of(table, [])

    def once():
        return reference.kept_ids(
            contributions.bound([contributions.prebound(batch, spec, SALT, (0, 0))], spec, SALT, (1,))
        )

    assert once() == once()


def test_rows_of_one_unit_meet_in_one_shard_whatever_the_batch():
    table, spec = reference.numbered([f"u{i % 90}" for i in range(900)], [0] * 900), spec_for(1, 1)
    home = defaultdict(set)
    rows = 0
    for batch in reference.batches_of(table, [10, 500, 501]):
        for shard, part in contributions.split_by_unit(batch, spec, 16, SALT):
            rows += part.num_rows
            for unit in part.column("u").to_pylist():
                home[unit].add(shard)
    assert rows == 900
    assert all(len(shards) == 1 for shards in home.values())
    assert len(set().union(*home.values())) == 16


def test_rows_of_a_shard_stay_in_order():
    table, spec = reference.numbered(np.arange(5000) % 100, [0] * 5000), spec_for(1, 1)
    (batch, *_) = reference.batches_of(table, [])
    for _, part in contributions.split_by_unit(batch, spec, 3, SALT):
        ids = part.column("id").to_numpy()
        assert (ids[1:] > ids[:-1]).all()


def test_pre_bounding_cuts_a_unit_also_where_the_whole_table_is_one_partition():
    table = reference.numbered([1] * 3000 + list(range(10, 110)), [0] * 3100)
    (batch, *_) = reference.batches_of(table, [])
    cut = contributions.prebound(batch, spec_for(1, 7, keys=(), key_types=()), SALT, (0, 0))
    assert sum(unit == 1 for unit in cut.column("u").to_pylist()) == 7
    assert cut.num_rows == 107


def test_a_stage_reads_its_unit_its_keys_and_its_values_once_each():
    assert contributions.input_columns(spec_for(1, 1)) == ("u", "p", "id")
    assert contributions.input_columns(spec_for(1, 1, unit=None)) == ("p", "id")
    assert contributions.input_columns(spec_for(1, 1, keys=("p", "id"), key_types=("int64",) * 2)) == ("u", "p", "id")


@pytest.mark.parametrize(("l1", "most"), [(1, 1), (3, 3), (5, 5), (100, 5)])
def test_units_keep_just_so_many_rows_in_all(l1, most):
    sizes = {1: 5, 2: 3, 3: 1, 4: 5}
    units = [unit for unit, size in sizes.items() for _ in range(size)]
    table = reference.numbered(units, [i % 3 for i in range(len(units))])
    spec = reference.stage(l1=l1, metrics=reference.ID_METRIC)
    bounded = contributions.bound(reference.batches_of(table, [4]), spec, SALT, (1,))
    rows = [row for row in table.to_pylist() if row["id"] in reference.kept_ids(bounded)]
    assert Counter(row["u"] for row in rows) == {unit: min(size, most) for unit, size in sizes.items()}
    pairs = {(row["u"], row["p"]) for row in rows}
    kept = [bounded.keys[0][partition].as_py() for partition in bounded.pairs.tolist()]
    assert sorted(kept) == sorted(p for _, p in pairs)
    nothing = contributions.bound(reference.batches_of(table.slice(0, 0), []), spec, SALT, (1,))
    assert (nothing.partitions, len(nothing.pairs)) == (0, 0)


def test_pre_bounding_by_rows_in_all_hands_on_their_priorities():
    table = reference.numbered([1] * 3000 + list(range(10, 110)), list(range(3100)))
    (batch, *_) = reference.batches_of(table, [])
    cut = contributions.prebound(batch, reference.stage(l1=7, metrics=reference.ID_METRIC), SALT, (0, 0))
    assert sum(unit == 1 for unit in cut.column("u").to_pylist()) == 7
    assert cut.num_rows == 107
    assert cut.schema.names == ["u", "p", "id", PRIORITY]


def test_without_keys_all_rows_of_a_shard_are_one_partition():
    table, spec = reference.numbered([1, 1, 2], [0] * 3), spec_for(1, 1, keys=(), key_types=())
    bounded = contributions.bound(reference.batches_of(table, [1]), spec, SALT, (1,))
    assert (bounded.partitions, bounded.keys, bounded.rows.tolist()) == (1, (), [0, 0])


def test_batches_without_skew_pass_the_gate_as_they_are():
    table, spec = reference.numbered(np.arange(5000) % 2500, [0] * 5000), spec_for(1, 1)
    (batch, *_) = reference.batches_of(table, [])
    assert contributions.prebound(batch, spec, SALT, (0, 0)).equals(batch)


def test_pre_bounding_cuts_a_unit_with_half_the_rows_to_its_bounds():
    table = reference.numbered([1] * 5000 + list(range(10, 5010)), [0, 1, 2, 3] * 2500)
    (batch, *_) = reference.batches_of(table, [])
    cut = contributions.prebound(batch, spec_for(2, 3), SALT, (0, 0))
    assert sum(unit == 1 for unit in cut.column("u").to_pylist()) == 6
    assert cut.num_rows >= 5000


def test_pre_bounding_cuts_a_unit_with_a_hundredth_of_the_rows():
    table = reference.numbered([1] * 500 + list(range(10, 50_010)), [0, 1, 2, 3, 4] * 10_100)
    (batch, *_) = reference.batches_of(table, [])
    cut = contributions.prebound(batch, spec_for(2, 3), SALT, (0, 0))
    assert sum(unit == 1 for unit in cut.column("u").to_pylist()) == 6


def test_pre_bounding_by_partitions_alone_adds_no_priorities():
    table = reference.numbered([1] * 3000, list(range(3000)))
    (batch, *_) = reference.batches_of(table, [])
    cut = contributions.prebound(batch, spec_for(10, 1), SALT, (0, 0))
    assert cut.num_rows == 10
    assert cut.schema.names == ["u", "p", "id"]


def test_only_the_columns_of_the_stage_travel():
    batch = pa.record_batch({"x": [1], "u": ["a"], "p": [1], "id": [3]})
    ((_, sent),) = contributions.split_by_unit(batch, spec_for(1, 1), 4, SALT)
    assert sent.schema.names == ["u", "p", "id"]


def test_an_empty_shard_is_bounded_to_nothing():
    bounded = contributions.bound([], spec_for(1, 1), SALT, (0,))
    assert (bounded.partitions, len(bounded.rows), len(bounded.values["id"])) == (0, 0, 0)


def test_a_stage_of_rows_that_are_units_is_not_bounded():
    with pytest.raises(
        ValueError, match=r"^stage s: rows that are units of their own need no bounding; use accumulate_rows$"
    ):
        contributions.bound([], spec_for(1, 1, unit=None), SALT, (0,))
