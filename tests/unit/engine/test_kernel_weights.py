"""Weights move by l2 ≤ 1 for one unit more, exactly; what a unit makes eligible weighs what thresholds allow for."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.accounting.rounds import novel_weight
from dpbeam.engine.rounds import biases, weighing, weights
from dpbeam.engine.rounds.earlier_rounds import EarlierRounds
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Gaussian
from tests.helpers import weighing as helpers

SALT, table, told, weigh = helpers.SALT, helpers.table, helpers.told, helpers.weigh
STEP = Fraction(1, 1 << weights.WEIGHT_BITS)
PARTITIONS = 6


def spec(l0=4, saturation=0.0, pre_threshold=1, least_bias=1.0):
    return helpers.spec(
        helpers.event(
            l0=l0, pre_threshold=pre_threshold, least_bias=least_bias, saturation=saturation, sigma=1.0, threshold=5.0
        )
    )


SETS = st.lists(st.sets(st.integers(0, PARTITIONS - 1), min_size=1, max_size=PARTITIONS), max_size=12)
SPECS = st.builds(
    spec,
    l0=st.integers(1, PARTITIONS),
    saturation=st.sampled_from([0.0, 1.0, 1.3, 2.0]),
    pre_threshold=st.integers(1, 4),
    least_bias=st.sampled_from([1.0, 0.5]),
)
KNOWN = st.none() | st.dictionaries(
    st.integers(0, PARTITIONS - 1), st.integers(512, weights.BIAS_ONE), max_size=PARTITIONS
).map(told)
"""Partitions that a round before listed with a bias; what isn't listed a unit leaves out if any of its own is."""


@settings(max_examples=400, deadline=None)
@given(SETS, st.sets(st.integers(0, PARTITIONS - 1), min_size=1), SPECS, KNOWN)
def test_one_unit_more_moves_the_weights_by_l2_of_at_most_one(sets, newcomer, made, known):
    before = weigh(dict(enumerate(sets)), made, known)
    after = weigh(dict(enumerate([*sets, newcomer])), made, known)
    moved = [after[p][1] - before.get(p, (0, 0))[1] for p in after]
    assert sum(step**2 for step in moved) <= 1 << (2 * weights.WEIGHT_BITS)


@settings(max_examples=400, deadline=None)
@given(SETS, st.sets(st.integers(0, PARTITIONS - 1), min_size=1), SPECS, KNOWN)
def test_what_one_unit_makes_eligible_weighs_at_most_what_thresholds_allow_for(sets, newcomer, made, known):
    event = made.weighing
    before = weigh(dict(enumerate(sets)), made, known)
    after = weigh(dict(enumerate([*sets, newcomer])), made, known)
    eligible = [
        p for p, (units, _) in after.items()
        if units >= event.pre_threshold and before.get(p, (0, 0))[0] < event.pre_threshold
    ]  # fmt: skip
    assert len(eligible) <= event.l0
    for p in eligible:
        most = novel_weight(len(eligible), event.l0, event.least_bias, adaptive=event.saturation > 0)
        assert after[p][1] * STEP <= Fraction(most)


@settings(max_examples=100, deadline=None)
@given(SETS, SPECS, KNOWN, st.integers(2, 5))
def test_weights_do_not_depend_on_the_sharding(sets, made, known, shards):
    sets = dict(enumerate(sets))
    assert weigh(sets, made, known, shards) == weigh(sets, made, known)


def by_definition(sets, event, biases):
    """{partition: (units, weight in steps)}, unit by unit in whole numbers; no unit is in more than `l0` partitions."""
    given, counts, sums = {}, {}, {}
    for unit, partitions in sets.items():
        least = math.ceil(1024 * event.least_bias)
        listed = {p: max(biases[p], least) for p in partitions if p in biases} if event.least_bias < 1 else {}
        own = listed or dict.fromkeys(partitions, 1024)
        norm = sum(bias**2 for bias in own.values())
        for p, bias in own.items():
            given[unit, p] = math.isqrt(bias**2 * weights.NORM**2 // norm)
            counts[p], sums[p] = counts.get(p, 0) + 1, sums.get(p, 0) + given[unit, p]
    saturation = math.ceil(event.saturation * 2**20)
    limit = saturation + (event.pre_threshold - 1) * 2**20
    parts = {p: max(total - limit, 0) / max(total, 1) for p, total in sums.items()}
    send_one_in = math.ceil(2 * event.l0 / event.least_bias)
    sent = dict.fromkeys(sums, 0)
    for unit, partitions in sets.items():
        own = [p for p in partitions if (unit, p) in given]
        back = sum(math.floor(given[unit, p] * 2.0**36 * parts[p]) for p in own)
        for p in own:
            sent[p] += back // send_one_in
    others = -(-(event.pre_threshold - 1) * (math.isqrt(event.l0 << 80) + 1) // send_one_in)
    found = {}
    for p in sums:
        ranked = sorted((share for (_, at), share in given.items() if at == p), reverse=True)
        kept = sum(ranked[event.pre_threshold - 1 :])
        weight = kept << 20
        if event.saturation:
            weight = (min(kept, saturation) << 20) + max((sent[p] >> 16) - others, 0)
        found[p] = (counts[p], weight)
    return found


@pytest.mark.parametrize("saturation", [0.0, 1.0, 2.3])
@pytest.mark.parametrize("pre_threshold", [1, 3])
@pytest.mark.parametrize("least_bias", [1.0, 0.5])
def test_weights_are_those_of_the_definition_to_the_last_bit(saturation, pre_threshold, least_bias):
    rng = np.random.default_rng(5)
    sets = {unit: set(rng.choice(PARTITIONS, rng.integers(1, 5), replace=False).tolist()) for unit in range(40)}
    biases = {0: 600, 2: 1023, 5: 300}
    made = spec(saturation=saturation, pre_threshold=pre_threshold, least_bias=least_bias)
    assert weigh(sets, made, told(biases), shards=3) == by_definition(sets, made.weighing, biases)


def test_a_unit_is_sampled_to_its_bound_wherever_its_rows_are_read():
    rng, made = np.random.default_rng(1), spec(l0=3)
    rows = pa.record_batch({"u": rng.integers(0, 50, 900), "p": rng.integers(0, 8, 900)})

    def sampled(batches, salt=SALT):
        return sorted(tuple(row.values()) for row in weighing.sample(batches, made, salt, None).batch(made).to_pylist())

    found = sampled([rows])
    pieces = [weighing.sample([rows.slice(at, 90)], made, SALT, None).batch(made) for at in range(0, 900, 90)]
    assert sampled(pieces) == found
    pairs = {tuple(row.values()) for row in rows.to_pylist()}
    assert len(set(found)) == len(found)
    assert set(found) <= pairs
    for unit in range(50):
        assert sum(u == unit for u, _ in found) == min(3, sum(u == unit for u, _ in pairs))
    assert {p for _, p in found} == set(range(8))
    assert len(sampled([rows], SALT[::-1])) == len(found)
    assert sampled([rows], SALT[::-1]) != found


def test_rows_of_partitions_that_a_round_has_kept_are_left_out():
    made, rows = spec(), table({1: {0, 1, 2}, 2: {1}})
    told = pa.table({"p": [1, 2], weighing.KEPT: [True, False], weighing.BIAS: [1024, 600]})
    known = EarlierRounds(table=told)
    assert weighing.without_kept(rows, made, known).to_pydict() == {"u": [1, 1], "p": [0, 2]}
    assert weighing.without_kept(rows, made, None) is rows
    assert weighing.without_kept(rows, made, EarlierRounds(table=told.slice(1))).equals(rows)
    assert weighing.without_kept(rows.slice(0, 0), made, known).num_rows == 0


class Exact:
    """Adds no noise."""

    def to_sums(self, values, grid):
        return values * grid.step


def test_a_round_keeps_what_reaches_its_threshold_and_tells_the_next_what_is_heavy():
    first = replace(spec(pre_threshold=2).weighing, threshold=5.0, sigma=1.0)
    second = replace(spec(saturation=2.0, least_bias=0.5).weighing, metric="partitions.round2")
    made = replace(spec(), rounds=(first, second))
    weights_of = [13.0, 25.0, 10.0, 0.5, 5.0, 3.0]
    weighed = pa.record_batch(
        {
            "p": pa.array(range(6), pa.int64()),
            weighing.UNITS: [3, 1, 9, 9, 2, 2],
            weighing.WEIGHT: [int(weight * 2**40) for weight in weights_of],
        }
    )
    found = weighing.draw(weighed, made, Exact()).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (0, True, 512), (1, False, 512), (2, True, 682), (4, True, 1024), (5, False, 1024),
    ]  # fmt: skip
    last = replace(made, rounds=(first,))
    found = weighing.draw(weighed, last, Exact()).to_pylist()
    assert [tuple(row.values()) for row in found] == [(p, True, biases.UNLISTED) for p in (0, 2, 4)]


def test_weights_too_large_for_any_threshold_are_capped_and_not_wrapped():
    most = weights.final(np.array([2**41, 2**19 << 20]), 0.0, None, 0)
    assert most.tolist() == [2**60, 2**59]
    limbs = (np.array([2**50, 1, 5]), np.array([0, 3 << 28, 1 << 27]))
    found = weights.final(np.array([2**21, 2**19, 2**20]), 1.5, limbs, 2)
    steps = [2**60 - 2, (4 << 12) - 2, (5 << 12) + (1 << 11) - 2]
    assert found.tolist() == [(3 << 39) + steps[0], (1 << 39) + steps[1], (1 << 40) + steps[2]]


def worst(made, sets, newcomer):
    """The squared l2 distance that one unit makes, as a number."""
    before, after = weigh(sets, made), weigh({**sets, 999: newcomer}, made)
    return float(sum(((after[p][1] - before.get(p, (0, 0))[1]) * STEP) ** 2 for p in after))


def crowd(l0, people=40):
    """Everybody has the same full set: all that is returned comes back to the newcomer's own partitions."""
    return {i: set(range(l0)) for i in range(people)}


@pytest.mark.parametrize("l0", [2, 4, 6])
def test_sending_on_four_times_as_much_would_break_the_sensitivity(l0, monkeypatch):
    sets = {i: {0} for i in range(3)} | {100 + i: set(range(l0)) for i in range(2)}
    made = spec(l0=l0, saturation=3.0)
    assert worst(made, sets, set(range(l0))) <= 1
    monkeypatch.setattr(weights, "denominator_of", lambda l0, bias: max(1, l0 // 2))
    assert worst(made, sets | crowd(l0), set(range(l0))) > 1


def test_the_sensitivity_is_reached_but_for_the_rounding():
    assert worst(spec(saturation=0.0), {}, {0, 1, 2}) == pytest.approx(1, abs=1e-4)


def test_only_partitions_over_their_saturation_reply_and_without_replies_nothing_is_sent_on():
    made = spec(l0=2, saturation=2.0)
    pairs = weighing.sample([table({i: {0, 1} if i < 2 else {0} for i in range(9)})], made, SALT, None)
    given = weighing.shares(pairs)
    (reply,) = weighing.returned([weighing.weight_rows(pairs, given, made)], made).to_pylist()
    assert reply["p"] == 0
    assert 0 < reply[weighing.PART] < 1
    assert weighing.sent_on(pairs, given, [], made).num_rows == 0


def test_what_is_sent_on_is_exact_to_the_last_bit():
    one, none = np.array([0]), np.array([], dtype=np.int64)
    high, low = weights.sent_on(one, one, np.array([1]), np.array([5 * 2.0**-36]), 1, 1)
    assert (high.tolist(), low.tolist()) == ([0], [5])
    for limb in weights.sent_on(none, none, none, np.zeros(2), 1, 2):
        assert (limb.tolist(), limb.dtype) == ([0, 0], np.int64)
    assert weights.sent_by_others(3, 1, 1) == 2 * (2**40 + 1)


@pytest.mark.parametrize("saturation", [1.0, 100.0, 2.0**19 - 1])
def test_a_saturation_is_counted_in_steps(saturation):
    assert weights.saturation_steps(saturation) == int(saturation) << 20
    with pytest.raises(ValueError, match=r"^a saturation must be at least 1 and below 2\*\*19, got 524288.0$"):
        weights.saturation_steps(2.0**19)


def test_no_pairs_have_no_shares():
    found = weights.shares(np.array([], dtype=np.int64))
    assert (found.tolist(), found.dtype) == ([], np.int64)


def test_shares_are_even_and_never_rounded_up():
    units = np.array([0, 1, 1, 2, 2, 2])
    found = weights.shares(units)
    assert found.tolist() == [math.isqrt(weights.NORM**2 // d) for d in (1, 2, 2, 3, 3, 3)]


@given(st.lists(st.lists(st.integers(1, 1024), min_size=1, max_size=300), min_size=1, max_size=5))
def test_the_squares_of_a_units_shares_add_up_to_no_more_than_the_norm(biases):
    units = np.repeat(np.arange(len(biases)), [len(row) for row in biases])
    found = weights.shares(units, np.concatenate(biases))
    for unit in range(len(biases)):
        assert sum(share**2 for share in found[units == unit].tolist()) <= weights.NORM**2


def test_a_share_rounded_up_would_break_the_norm(monkeypatch):
    monkeypatch.setattr(weights, "NORM", 1 << weights.SHARE_BITS)
    found = (weights.shares(np.zeros(3, dtype=np.int64)) + 1).tolist()
    assert sum(share**2 for share in found) > weights.NORM**2


def test_trimming_takes_the_largest_shares():
    made = weights.count_units(np.array([0, 0, 0, 1, 1]), np.array([5, 9, 5, 7, 7]))
    assert weights.trimmed(made, 2, 1).tolist() == [10, 7]
    assert weights.trimmed(made, 2, 2).tolist() == [5, 0]
    assert weights.trimmed(made, 2, 9).tolist() == [0, 0]


def test_weight_over_the_saturation_goes_to_the_other_partitions_of_its_units():
    sets = {i: {0} for i in range(10)} | {10: {0, 1}, 11: {2}}
    plain, sent = weigh(sets, spec(l0=2)), weigh(sets, spec(l0=2, saturation=5.0))
    total = float(plain[0][1] * STEP)
    back = (total - 5) / total * math.sqrt(0.5)
    assert float(sent[0][1] * STEP) == pytest.approx(5 + (10 * (total - 5) / total + back) / 4, abs=1e-4)
    assert float((sent[1][1] - plain[1][1]) * STEP) == pytest.approx(back / 4, abs=1e-4)
    assert sent[2] == plain[2]


@pytest.mark.parametrize("pre_threshold", [2**20, 2**31 - 1])
def test_a_pre_threshold_that_takes_off_more_than_any_weight_leaves_none(pre_threshold):
    made = spec(saturation=1.0, pre_threshold=pre_threshold)
    assert weigh({unit: {0, 1} for unit in range(9)}, made) == {0: (9, 0), 1: (9, 0)}


def test_a_pre_threshold_hides_a_partition_however_heavy():
    made = replace(spec(pre_threshold=5), rounds=(replace(spec(pre_threshold=5).weighing, threshold=1e-9, sigma=1e-9),))
    told = weighing.draw(
        helpers.weigh_whole(table({i: {0} for i in range(4)}), made, SALT), made, weighing.noise_of(made)
    )
    assert told.num_rows == 0
    told = weighing.draw(
        helpers.weigh_whole(table({i: {0} for i in range(5)}), made, SALT), made, weighing.noise_of(made)
    )
    assert told.to_pydict() == {"p": [0], weighing.KEPT: [True], weighing.BIAS: [biases.UNLISTED]}


def test_partitions_that_a_round_has_kept_weigh_nothing_in_the_next():
    known = pa.table({"p": [0], weighing.KEPT: [True], weighing.BIAS: [1024]})
    found = helpers.weigh_whole(table({1: {0, 1}, 2: {0}}), spec(), SALT, known)
    assert found.to_pydict() == {"p": [1], weighing.UNITS: [1], weighing.WEIGHT: [weights.NORM << 20]}


def test_a_rounds_noise_is_the_planned_gaussian():
    made = replace(spec().weighing, sigma=3.0, l2=1.0)
    noise = weighing.noise_of(replace(spec(), rounds=(made,)))
    assert noise.mechanism == Gaussian(stage="s", metric="partitions.round1", sigma=3.0, l2=1.0)


def test_no_rows_have_no_weights():
    assert weighing.weigh([], spec()).num_rows == 0
    assert weigh({}, spec(saturation=2.0)) == {}


def test_a_saturation_that_a_lone_unit_could_reach_is_refused():
    with pytest.raises(ValueError, match="a saturation must be at least 1"):
        weights.saturation_steps(0.99)


@pytest.mark.parametrize("change", [{"sigma": 65536.0}, {"threshold": 524288.0}, {"saturation": 600000.0}])
def test_noise_that_leaves_no_room_for_weights_is_refused(change):
    event = spec(saturation=20.0).weighing
    weighing.check(replace(event, sigma=65535.0, threshold=524287.0))
    with pytest.raises(UsageError, match=r"stage s: the noise of partitions\.round1 must be below 65536, and what is"):
        weighing.check(replace(event, **change))


def test_all_pairs_of_a_unit_go_to_one_shard():
    made = helpers.spec(helpers.event("dp_sips", l0=20))
    pairs = weighing.sample([helpers.table({unit: range(20) for unit in range(30)})], made, helpers.SALT, None)
    shards = {}
    for shard, part in weighing.split_by_unit(pairs.batch(made), made, 8, helpers.SALT):
        for unit in part.column("u").to_pylist():
            shards.setdefault(unit, set()).add(shard)
    assert [len(found) for found in shards.values()] == [1] * 30
    assert len(set().union(*shards.values())) > 1


def test_a_unit_is_cut_to_its_bound_where_its_batches_meet():
    made = helpers.spec(helpers.event("dp_sips", l0=4))
    whole = weighing.sample([helpers.table({1: range(16)})], made, helpers.SALT, None)
    halves = [helpers.table({1: range(8)}), helpers.table({1: range(8, 16)})]
    met = weighing.chosen(
        [weighing.sample([half], made, helpers.SALT, None).batch(made) for half in halves], made, helpers.SALT, None
    )
    assert len(met.units) == 4
    assert sorted(met.batch(made).column("p").to_pylist()) == sorted(whole.batch(made).column("p").to_pylist())


def test_a_round_before_one_without_biases_tells_of_what_it_kept_alone():
    made = helpers.spec(helpers.event("dp_sips"), helpers.event("dp_sips"))
    weighed = helpers.weigh_whole(helpers.table({unit: {0, unit} for unit in range(1, 200)}), made, helpers.SALT, None)
    told = weighing.draw(weighed, made, weighing.noise_of(made))
    assert told.column(weighing.KEPT).to_pylist() == [True] * told.num_rows
    assert 0 in told.column("p").to_pylist()
    assert set(told.column(weighing.BIAS).to_pylist()) == {biases.UNLISTED}


def test_partitions_that_no_units_sample_has_are_spread_over_shards():
    made = helpers.spec(helpers.event("mad2r", l0=2), helpers.event("mad2r", l0=2, least_bias=0.5))
    pairs = weighing.sample([helpers.table({1: range(60)})], made, helpers.SALT, None).batch(made)
    loose = [
        (shard, part.column("u").null_count)
        for shard, part in weighing.split_by_unit(pairs, made, 8, helpers.SALT)
        if part.column("u").null_count
    ]
    assert sum(count for _, count in loose) == 58
    assert len(loose) > 4
