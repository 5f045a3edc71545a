"""Rounds keep what their law says, and show a lone unit with probability δ at most; seeded bugs in them are noticed.

Each binomial test fails by chance with probability 1e-9 on one side, 20,000 fresh draws each.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.engine.rounds import biases, weighing, weights
from tests.helpers import weighing as helpers

UNITS = 20_000
ALPHA = 1e-9
DELTA = 0.05
SIGMA = 1.5


def made(strategy, l0, pre_threshold=1, least_bias=1.0):
    """A round at a δ large enough to be seen."""
    return helpers.spec(helpers.event(strategy, SIGMA, DELTA, l0, pre_threshold, least_bias))


def shown(spec, each, others=0, known=None):
    """Of `UNITS` units with `each` partitions of their own, which `others` with a partition apiece share: how many have
    one that is kept."""
    partitions = np.arange(UNITS * each)
    units = partitions // each
    more = np.repeat(partitions, others)
    rows = pa.record_batch(
        {
            "u": pa.array(np.concatenate([units, UNITS + np.arange(len(more))])),
            "p": pa.array(np.concatenate([partitions, more])),
        }
    )
    told = weighing.draw(helpers.weigh_whole(rows, spec, helpers.SALT, known), spec, weighing.noise_of(spec))
    return len(np.unique(told.column("p").to_numpy() // each))


def too_often(count, chance=DELTA):
    return stats.binomtest(count, UNITS, chance, alternative="greater").pvalue < ALPHA


@pytest.mark.parametrize("strategy", ["dp_sips", "mad"])
@pytest.mark.parametrize("each", [1, 2, 5])
def test_a_lone_unit_is_shown_with_probability_delta_at_most(strategy, each):
    assert not too_often(shown(made(strategy, l0=5), each))


def test_the_bound_is_met_where_it_is_tight():
    """With one partition a unit the worst case is this very one: δ is reached, and six tenths would be noticed."""
    count = shown(made("dp_sips", l0=1), 1)
    assert stats.binomtest(count, UNITS, DELTA).pvalue > ALPHA
    assert too_often(count, DELTA * 0.6)


@pytest.mark.parametrize(
    "biases", [[1024] * 5, [1024, 512, 512, 512, 512], [1024], [512, 700]], ids=["even", "one heavy", "one", "two"]
)
def test_a_lone_unit_is_shown_with_probability_delta_at_most_whatever_was_told_of_its_partitions(biases):
    """The second round of MAD2R: the unit gives all its weight to what is listed of its five partitions."""
    told = {unit * 5 + place: bias for unit in range(UNITS) for place, bias in enumerate(biases)}
    assert not too_often(shown(made("mad2r", l0=5, least_bias=0.5), 5, known=helpers.told(told)))


@pytest.mark.parametrize("strategy", ["dp_sips", "mad"])
def test_a_unit_that_makes_partitions_eligible_shows_them_with_probability_delta_at_most(strategy):
    """The three others of each partition have a share of 1 there, far more than the unit's own 1/√2."""
    assert not too_often(shown(made(strategy, l0=2, pre_threshold=4), 2, others=3))


def test_shares_that_are_not_spread_are_noticed(monkeypatch):
    monkeypatch.setattr(weights, "shares", lambda units, biases=None: np.full(len(units), weights.NORM))
    assert too_often(shown(made("dp_sips", l0=5), 5))


def test_a_pre_threshold_that_trims_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr(weights, "trimmed", lambda found, size, drop: weights.totals(found, size)[1])
    assert too_often(shown(made("dp_sips", l0=2, pre_threshold=4), 2, others=3))


def test_a_threshold_for_one_partition_only_is_noticed():
    spec = made("dp_sips", l0=5)
    alone = made("dp_sips", l0=1).weighing.threshold
    even = 1 / math.sqrt(5)
    lower = alone - 1 + even  # as if only one of the five could show the unit
    (event,) = spec.rounds
    object.__setattr__(event, "threshold", lower)
    assert too_often(shown(spec, 5))


@pytest.mark.parametrize("people", [1, 3, 6])
def test_a_partition_is_kept_as_often_as_its_weight_says(people):
    """Partitions of `people` units that are nowhere else: the weight is their number, but for the margin of 2**-15."""
    spec = made("dp_sips", l0=1)
    count = shown(spec, 1, others=people - 1)
    chance = stats.norm.sf(spec.weighing.threshold - people * (1 - 2**-15), scale=SIGMA)
    assert stats.binomtest(count, UNITS, chance).pvalue > ALPHA
    other = stats.norm.sf(spec.weighing.threshold - people + 0.3, scale=SIGMA)
    assert stats.binomtest(count, UNITS, other).pvalue < ALPHA


def test_a_partition_over_the_saturation_gives_to_the_others_of_its_units():
    """The law of a whole MAD round on a small example: 30 people in A, five of whom are in B too."""
    spec = made("mad", l0=2)
    tau = spec.weighing.saturation
    half = math.sqrt(0.5)
    total = 25 + 5 * half
    back = (total - tau) / total
    weight = 5 * half + 5 * half * back / 4
    chance = stats.norm.sf(spec.weighing.threshold - weight, scale=SIGMA)
    rows = {"u": [*range(30), *range(5)], "p": [0] * 30 + [1] * 5}
    weighed = helpers.weigh_whole(
        pa.record_batch({k: pa.array(v, pa.int64()) for k, v in rows.items()}), spec, helpers.SALT
    )
    assert weighed.column(weighing.WEIGHT)[1].as_py() * 2.0**-40 == pytest.approx(weight, abs=2e-3)
    many = pa.concat_batches([weighed.slice(1, 1)] * UNITS)
    count = weighing.draw(many, spec, weighing.noise_of(spec)).num_rows
    assert stats.binomtest(count, UNITS, chance).pvalue > ALPHA


def listed(weight):
    """How many of `UNITS` partitions of this weight the first of two rounds lists for the second."""
    first, second = (helpers.event("mad2r", SIGMA, DELTA, least_bias=bias) for bias in (1.0, 0.5))
    spec = helpers.spec(first, second)
    columns = {"p": range(UNITS), weighing.UNITS: [0] * UNITS, weighing.WEIGHT: [int(weight * 2.0**40)] * UNITS}
    batch = pa.record_batch({name: pa.array(column, pa.int64()) for name, column in columns.items()})
    told = weighing.draw(batch, spec, weighing.noise_of(spec))
    assert not any(told.column(weighing.KEPT).to_pylist())  # no unit is in them
    return told.num_rows


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_partition_is_listed_as_often_as_its_noisy_weight_is_a_sigma(weight):
    count = listed(weight)
    chance = stats.norm.sf(biases.LISTED_SIGMAS - weight / SIGMA)
    assert stats.binomtest(count, UNITS, chance).pvalue > ALPHA
    assert stats.binomtest(count, UNITS, chance + 0.05).pvalue < ALPHA
