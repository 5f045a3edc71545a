"""MAD2R: what a round lists of its noisy weights, what units make of it, and that others' partitions have no say."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpbeam.engine.rounds import biases, weighing, weights
from dpbeam.engine.rounds.biases import LISTED_SIGMAS, UNLISTED
from tests.helpers import weighing as helpers

PARTITIONS = 8
SETS = st.lists(st.sets(st.integers(0, PARTITIONS - 1), min_size=1), max_size=10)
BIASES = st.dictionaries(st.integers(0, PARTITIONS - 1), st.integers(512, weights.BIAS_ONE))


def two_rounds(l0, number):
    return helpers.spec(helpers.event("mad2r", l0=l0), helpers.event("mad2r", l0=l0, least_bias=0.5), number=number)


def listed(noisy):
    """After noise of σ 2; the next round has σ 1 and the threshold 9."""
    following = helpers.event("mad2r", least_bias=0.5, sigma=1.0, threshold=9.0)
    found = biases.biases(np.array(noisy, dtype=np.float64), 2.0, following)
    assert found.dtype == np.int64
    return found.tolist()


def test_what_noise_alone_could_be_is_not_listed():
    assert listed([-math.inf, 0.0, 1.99, 2.0]) == [UNLISTED, UNLISTED, UNLISTED, weights.BIAS_ONE]
    assert LISTED_SIGMAS == 1.0


def test_what_is_heavy_gets_what_it_needs_and_no_less_than_the_least_bias():
    """Ten is enough: one σ over the threshold. A weight counts for σ of its noise less."""
    assert listed([12.0, 12.5, 18.0, 22.1, 1e9]) == [1024, 1024 * 20 // 21, 640, 512, 512]


def test_a_least_bias_that_is_no_step_is_rounded_up():
    following = helpers.event("mad2r", least_bias=0.3)
    assert biases.least_of(following) == 308 > 0.3 * weights.BIAS_ONE


def test_a_unit_with_a_listed_partition_leaves_out_the_others():
    units = np.array([0, 0, 0, 1, 1, 2])
    found = np.array([UNLISTED, 700, UNLISTED, UNLISTED, UNLISTED, 1024])
    assert biases.worth_sending(units, found).tolist() == [False, True, False, True, True, True]
    assert biases.worth_sending(units[:0], found[:0]).tolist() == []


def given_by(sets, l0, known=None, number=2, shards=1):
    """Each partition's weight as a number."""
    found = helpers.weigh(sets, two_rounds(l0, number), known, shards)
    return {partition: weight * 2.0**-weights.WEIGHT_BITS for partition, (_, weight) in found.items()}


def test_weight_goes_to_listed_partitions():
    sets = {1: {0, 1, 2, 3}, 2: {2, 3}}
    found = given_by(sets, 4, helpers.told({0: 1024, 1: 1024}))
    assert found == pytest.approx({0: 0.5**0.5, 1: 0.5**0.5, 2: 0.5**0.5, 3: 0.5**0.5}, abs=1e-4)


def test_listed_partitions_are_sampled_first():
    sets = {1: set(range(8))}
    found = given_by(sets, 2, helpers.told({6: 1024, 7: 1024}))
    assert found == pytest.approx({6: 0.5**0.5, 7: 0.5**0.5}, abs=1e-4)


def test_what_was_kept_gets_nothing():
    found = given_by({1: {0, 1}}, 4, helpers.told({0: 1024}, kept=[0]))
    assert found == pytest.approx({1: 1.0}, abs=1e-4)


@settings(max_examples=200, deadline=None)
@given(SETS, st.integers(1, PARTITIONS), st.integers(1, 4))
def test_the_first_round_weighs_every_partition_whatever_is_left_out_of_the_sample(sets, l0, shards):
    """Else a partition that only one unit's sample has would be told of, or not, by that unit's presence alone, though
    others have it too and would be told."""
    assert set(helpers.weigh(dict(enumerate(sets)), two_rounds(l0, 1), shards=shards)) == set().union(*sets)


def test_a_partition_that_units_leave_out_has_no_units(monkeypatch):
    """The check above finds the bug it is there for: partitions that only dropped pairs have would be forgotten."""
    sets = {1: set(range(8))}
    made = two_rounds(2, 1)
    found = helpers.weigh(sets, made)
    assert sorted(units for units, _ in found.values()) == [0] * 6 + [1] * 2
    assert sum(weight > 0 for _, weight in found.values()) == 2
    monkeypatch.setattr(weighing, "_biasing", lambda spec: False)
    assert len(helpers.weigh(sets, made)) == 2


@settings(max_examples=400, deadline=None)
@given(SETS, st.sets(st.integers(0, PARTITIONS + 3), min_size=1), st.integers(1, PARTITIONS), BIASES, BIASES)
@example([{0, 1}, {1}], {1, 8, 9}, 2, {0: 1024}, {8: 1024, 9: 512})
def test_one_unit_moves_the_weights_by_l2_of_at_most_one_whatever_is_told_of_its_own(sets, newcomer, l0, known, own):
    """Without the unit nothing is told of partitions that it alone has; with it, anything may be."""
    others = set().union(*sets)
    before = {p: bias for p, bias in known.items() if p in others}
    after = before | {p: bias for p, bias in own.items() if p in newcomer - others}
    made = two_rounds(l0, 2)
    without = helpers.weigh(dict(enumerate(sets)), made, helpers.told(before))
    found = helpers.weigh(dict(enumerate([*sets, newcomer])), made, helpers.told(after))
    moved = [found.get(p, (0, 0))[1] - without.get(p, (0, 0))[1] for p in found.keys() | without.keys()]
    assert sum(step**2 for step in moved) <= 1 << (2 * weights.WEIGHT_BITS)


def test_a_choice_for_all_units_at_once_would_break_that(monkeypatch):
    """Leaving out what isn't listed once *anything* is: what is told of the newcomer's own partition sways forty."""
    sets = {unit: {0, 1} for unit in range(40)}

    def moved():
        made = two_rounds(4, 2)
        without = helpers.weigh(sets, made, helpers.told({}))
        found = helpers.weigh(sets | {99: {9}}, made, helpers.told({9: 1024}))
        steps = [found.get(p, (0, 0))[1] - without.get(p, (0, 0))[1] for p in (0, 1, 9)]
        return sum(step**2 for step in steps) / (1 << (2 * weights.WEIGHT_BITS))

    assert moved() <= 1
    monkeypatch.setattr(biases, "worth_sending", lambda units, found: (found != UNLISTED) | ~(found != UNLISTED).any())
    assert moved() > 1


def test_what_has_a_prospect_is_told_and_kept_only_if_a_unit_gave_it_weight():
    """Weights of a thousand σ, so that real noise decides nothing."""
    columns = {"p": [1, 2], weighing.UNITS: [0, 1], weighing.WEIGHT: [1000 << weights.WEIGHT_BITS] * 2}
    batch = pa.record_batch({name: pa.array(column, pa.int64()) for name, column in columns.items()})
    made = two_rounds(4, 1)
    told = weighing.draw(batch, made, weighing.noise_of(made))
    assert told.to_pydict() == {"p": [1, 2], weighing.KEPT: [False, True], weighing.BIAS: [512, 512]}
