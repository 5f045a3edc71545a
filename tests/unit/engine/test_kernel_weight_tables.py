"""Weight tables may be folded in any parts and any order: the weights stay, and few rows are left."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.engine.aggregation import merge_buffer
from dpbeam.engine.rounds import weighing, weight_tables, weights
from dpbeam.engine.rounds.earlier_rounds import EarlierRounds
from tests.helpers import weighing as helpers

LARGEST = weights.NORM


def spec(pre_threshold, saturation=2.0):
    event = helpers.event(
        l0=4, pre_threshold=pre_threshold, least_bias=0.5, saturation=saturation, sigma=1.0, threshold=5.0
    )
    return helpers.spec(event)


def batch(rows, made):
    """Weights of one unit a row: (partition, share, high, low). A share of 0 is that of no unit."""
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)] or [np.empty(0, np.int64)] * 4
    partitions, share, high, low = columns
    some = (share > 0).astype(np.int64)
    return weight_tables.rows(
        [pa.array(partitions)], [share, some, share, high, low], weight_tables.weight_schema(made)
    )


def weighed(batches, made):
    return weighing.weigh(batches, made).to_pylist()


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0, 1, 2, 3, LARGEST - 1, LARGEST]) | st.integers(1, LARGEST),
        st.integers(0, 1 << 27),
        st.integers(0, (1 << 28) - 1),
    ),
    max_size=25,
)


@st.composite
def parts_of(draw, rows):
    """The rows in any order, in any parts, some of which are to be folded first."""
    shuffled = draw(st.permutations(rows))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
    ends = zip([0, *cuts], [*cuts, len(shuffled)], strict=True)
    return [(shuffled[start:end], draw(st.booleans())) for start, end in ends]


@settings(max_examples=400, deadline=None)
@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), parts_of(rows), parts_of(rows))), st.integers(1, 5))
def test_tallies_folded_in_any_parts_and_any_order_weigh_the_same(found, pre_threshold):
    rows, *ways = found
    made = spec(pre_threshold)
    whole = weight_tables.folded([batch(rows, made)], made)
    for way in ways:
        parts = [batch(part, made) for part, _ in way]
        first = [
            weight_tables.folded([part], made) if fold else part for part, (_, fold) in zip(parts, way, strict=True)
        ]
        again = weight_tables.folded(first, made)
        order = [("p", "ascending"), (weight_tables.SHARE, "descending")]
        assert again.sort_by(order).equals(whole.sort_by(order))
        assert weighed(first, made) == weighed([again], made) == weighed([batch(rows, made)], made)
        summed = weight_tables.summed([weight_tables.summed([part], made) for part in first], made)
        assert weighing.returned([summed], made).sort_by("p").equals(weighing.returned(parts, made).sort_by("p"))
    each = Counter(whole.column("p").to_pylist())
    assert set(each) == {row[0] for row in rows}
    assert max(each.values(), default=0) <= pre_threshold


def test_many_different_shares_fold_to_as_many_rows_as_the_pre_threshold():
    rng = np.random.default_rng(3)
    shares = rng.permutation(np.arange(1, 5001))
    for pre_threshold, told in ((1, []), (2, [5000]), (4, [5000, 4999, 4998])):
        made = spec(pre_threshold)
        rows = [(7, share, 0, 1) for share in shares.tolist()]
        found = weight_tables.folded([batch(rows, made)], made)
        rest = 5000 - len(told)
        assert found.column(weight_tables.SHARE).to_pylist() == [*told, weights.LOOSE]
        assert found.column(weight_tables.UNITS).to_pylist() == [*([1] * len(told)), rest]
        assert found.column(weight_tables.SUM).to_pylist() == [*told, rest * (rest + 1) // 2]
        assert sum(found.column(weight_tables.LOW).to_pylist()) == 5000


def test_equal_shares_are_told_apart_no_further_than_needed():
    made = spec(3)
    found = weight_tables.folded([batch([(1, 9, 0, 0)] * 5 + [(1, 4, 0, 0)], made)], made)
    assert [tuple(row.values())[1:4] for row in found.to_pylist()] == [(9, 2, 18), (weights.LOOSE, 4, 31)]


def test_a_partition_without_units_keeps_its_row_and_one_of_few_units_has_no_row_for_others():
    made = spec(3)
    found = weight_tables.folded([batch([(3, 7, 0, 0), (2, 4, 0, 0), (1, 0, 0, 0), (2, 9, 0, 0)], made)], made)
    rows = sorted(tuple(row.values())[:4] for row in found.to_pylist())
    assert rows == [(1, weights.LOOSE, 0, 0), (2, 4, 1, 4), (2, 9, 1, 9), (3, 7, 1, 7)]


def test_what_is_sent_on_is_added_up_exactly_where_no_float64_holds_it():
    made, limb = spec(2), (1 << 58) + 1
    found = weight_tables.folded([batch([(1, 5, limb, limb), (1, 0, limb, 0)], made)], made)
    assert sum(found.column(weight_tables.HIGH).to_pylist()) == 2 * limb
    assert sum(found.column(weight_tables.LOW).to_pylist()) == limb


def test_sums_of_no_tallies_are_none():
    assert weight_tables.summed([], spec(1)).schema == weight_tables.sums_schema(spec(1))


def test_telling_one_share_less_apart_would_change_weights(monkeypatch):
    """The seeded bug: of two shards with two units each, the two largest of all four may be in one shard."""
    made = spec(3, saturation=0.0)
    shards = [batch([(1, 900, 0, 0), (1, 800, 0, 0)], made), batch([(1, 10, 0, 0), (1, 20, 0, 0)], made)]
    right = weighed(shards, made)
    assert right == [{"p": 1, weighing.UNITS: 4, weighing.WEIGHT: 30 << 20}]
    assert weighed([weight_tables.folded([shard], made) for shard in shards], made) == right
    original = weights.folded
    monkeypatch.setattr(weights, "folded", lambda found, size, drop: original(found, size, drop - 1))
    assert weighed([weight_tables.folded([shard], made) for shard in shards], made) != right


def test_every_partition_must_have_a_row():
    for drop in (0, 2):
        lone = weights.count_units(np.array([1]), np.array([5]))
        with pytest.raises(ValueError, match=r"^every partition must have a row in the table of weights$"):
            weights.folded(lone, 2, drop)
        nothing = weights.folded(weights.count_units(np.empty(0, np.int64), np.empty(0, np.int64)), 0, drop)
        assert [len(column) for column in vars(nothing).values()] == [0, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60).flatmap(
        lambda rows: st.tuples(st.just(rows), parts_of(rows))
    ),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_pairs_sampled_as_they_come_are_those_sampled_at_once(found, number, known):
    """Units are cut to their bound, and partitions that nobody's sample has stay known, whatever met whatever first."""
    rows, way = found
    first, second = (helpers.event("mad2r", l0=3, least_bias=bias) for bias in (1.0, 0.5))
    made = helpers.spec(first, second, number=number)
    told = EarlierRounds(table=helpers.told({1: 600, 4: 1024})) if known else None

    def sampled(batches):
        return weighing.sample(batches, made, helpers.SALT, told).batch(made)

    def table(part):
        return pa.record_batch({name: pa.array(column, pa.int64()) for name, column in zip(
            "up", zip(*part, strict=True) if part else ((), ()), strict=True)})  # fmt: skip

    def rows_of(batches):
        pairs = weighing.chosen(batches, made, helpers.SALT, told).batch(made)
        return sorted(((u is None, u or 0, p) for u, p in zip(*pairs.to_pydict().values(), strict=True)))

    one_by_one = merge_buffer.MergeBuffer(merge=sampled, most_pending_bytes=0)
    for part, fold in way:
        one_by_one.add(sampled([table(part)]) if fold else table(part))
    whole = rows_of([table(rows)])
    assert rows_of(one_by_one.batches) == whole
    if number == 1:
        assert {p for _, _, p in whole} == {p for _, p in rows}
