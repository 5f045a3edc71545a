"""Weights move by l2 ≤ 1 for one unit more, exactly; what a unit makes eligible weighs what thresholds allow for."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.accounting.rounds import novel_weight
from dpbeam.errors import UsageError
from dpbeam.mechanisms import prospects, rounds, weights

helpers = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "weighing.py")))
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
    made = weights.tally(np.array([0, 0, 0, 1, 1]), np.array([5, 9, 5, 7, 7]))
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
    told = rounds.draw(rounds.weigh_whole(table({i: {0} for i in range(4)}), made, SALT), made, rounds.noise_of(made))
    assert told.num_rows == 0
    told = rounds.draw(rounds.weigh_whole(table({i: {0} for i in range(5)}), made, SALT), made, rounds.noise_of(made))
    assert told.to_pydict() == {"p": [0], rounds.KEPT: [True], rounds.BIAS: [prospects.UNLISTED]}


def test_no_rows_have_no_weights():
    assert weigh({}, spec(saturation=2.0)) == {}


def test_a_saturation_that_a_lone_unit_could_reach_is_refused():
    with pytest.raises(ValueError, match="a saturation must be at least 1"):
        weights.saturation_steps(0.99)


@pytest.mark.parametrize("change", [{"sigma": 65536.0}, {"threshold": 524288.0}, {"saturation": 600000.0}])
def test_noise_that_leaves_no_room_for_weights_is_refused(change):
    event = spec(saturation=20.0).weighing
    rounds.check(replace(event, sigma=65535.0, threshold=524287.0))
    with pytest.raises(UsageError, match=r"stage s: the noise of partitions\.round1 must be below 65536, and what is"):
        rounds.check(replace(event, **change))
