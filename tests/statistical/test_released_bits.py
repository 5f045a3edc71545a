"""The bits of what is released say nothing about who is there: an audit of every noisy number, on neighbouring tables.

Each number is a whole step of a power of two that follows from the plan, and how often each of its low bits comes is
the same whatever it was added to. A chi-square test over 800 numbers or more each fails by chance with probability
1e-12; there are some 500 of them. Seeded bugs, paths of floats and of too many steps as there were, are caught by the
same checks.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.engine import stage as specs
from dpbeam.engine.metrics import quantiles
from dpbeam.engine.release import releaser, results
from dpbeam.engine.rounds import weighing, weights
from dpbeam.engine.stage import Hierarchical, Round, StageSpec
from dpbeam.mechanisms import noise, noise_step
from dpbeam.mechanisms.events import Gaussian, Laplace, WeightedThresholding, in_others
from dpbeam.mechanisms.fixedpoint import Grid
from dpbeam.queries import custom
from dpbeam.queries.bounds import Bounds
from tests.helpers import audit, audited_stages, kernel_reference

LOW = 8
"""Classes of low bits that are looked at: 3 bits."""
ALPHA = 1e-12
COPIES = 600
SCENARIOS = {
    "nobody or one": audit.Scenario(name="nobody or one", others=(), one=(("me", "a", 10.0),)),
    "all bounds": audit.SCENARIOS[1],
}
NAMED = {"total": ("sum", "total"), "top_k of candidates": ("top_k", "listed")}
"""Metrics that need a name of their own beside others: their kind, and this name."""
CHEAP = [
    {NAMED[name][0]: metric[NAMED[name][0]] | {"name": NAMED[name][1]}} if name in NAMED else metric
    for name, metric in audited_stages.METRICS.items()
    if name != "median"
]
SELECTIONS = audited_stages.SELECTIONS | {
    "hierarchical": audited_stages.HIERARCHICAL["partitions"],
}


@pytest.fixture(autouse=True)
def _custom_metric(monkeypatch):
    monkeypatch.setitem(custom._registered, "geometric_mean", kernel_reference.GeometricMean)


def noisy_numbers(monkeypatch, policy, planned, table, copies):
    """{(quantity, step, column): every noisy number of it} of one release of the table, from before post-processing.

    Columns are the places in a quantity that are looked at apart: of vectors each number, of counts by partition each
    place of the scenario.
    """
    found = {}

    def keep(mechanism, column, numbers):
        key = mechanism.metric, noise_step.step_of(mechanism), column
        found.setdefault(key, []).append(np.asarray(numbers, dtype=np.float64))

    metrics, trees = results.metrics, quantiles.noisy_quantiles

    def watched(noisy, spec):
        for quantity in spec.quantities:
            column = noisy.column(f"__noisy_{quantity.name}")
            if quantity.kind == "values":
                keep(spec.thresholds[quantity.name], 0, column.flatten().flatten()[1].to_numpy())
            elif quantity.kind != "tree":
                shared = quantity.kind == "privacy_id_count" and spec.shares_count
                mechanism = spec.selection if shared else spec.noise[quantity.name]
                flat = column if column.type == pa.float64() else column.flatten()
                for at, numbers in enumerate(flat.to_numpy().reshape(-1, quantity.size).T):
                    keep(mechanism, at, numbers)
        return metrics(noisy, spec)

    def watched_trees(column, ranks, low, high, add_noise, std):
        def added(counts):
            noisy = add_noise(counts)
            keep(add_noise.__self__.mechanism, 0, noisy)
            return noisy

        return trees(column, ranks, low, high, added, std)

    with monkeypatch.context() as patched:
        patched.setattr(results, "metrics", watched)
        patched.setattr(quantiles, "noisy_quantiles", watched_trees)
        audit.releases(policy, planned, table, copies)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def faults(numbers, step):
    """What the bits of numbers that should be whole steps of `step` give away, in words; nothing is well.

    Low bits are those of numbers below 2**53 steps: a float64 holds no others of larger ones.
    """
    whole = numbers / step
    if not (np.isfinite(whole) & (whole == np.rint(whole))).all():
        return ["not whole steps of what the plan says"]
    small = whole[np.abs(whole) < 2.0**53].astype(np.int64)
    if len(small) < 100 * LOW:
        return []
    counts = np.bincount(small % LOW, minlength=LOW)
    return [] if stats.chisquare(counts).pvalue > ALPHA else [f"low bits of uneven frequency {counts.tolist()}"]


def audited(monkeypatch, folder, stage, scenario, copies=COPIES):
    """{(table, quantity, column): what is wrong} of a stage on two neighbouring tables."""
    policy, planned = audit.planned(folder, stage, copies)
    without, with_one = (
        noisy_numbers(monkeypatch, policy, planned, table, copies)
        for table in (scenario.others, scenario.others + scenario.one)
    )
    found = {
        (place, *key): faults(numbers, key[1])
        for place, table in (("without", without), ("with", with_one))
        for key, numbers in table.items()
    }
    return {key: wrong for key, wrong in found.items() if wrong}


@pytest.mark.parametrize(
    ("noise_kind", "partitions", "scenario"), list(itertools.product(["laplace", "gaussian"], SELECTIONS, SCENARIOS))
)
def test_every_noisy_number_is_in_steps_of_the_plan_with_low_bits_of_noise_alone(
    tmp_path, monkeypatch, noise_kind, partitions, scenario
):
    stage = {"metrics": CHEAP, "noise": noise_kind, "partitions": SELECTIONS[partitions]}
    if partitions == "hierarchical":
        stage |= {"group_by": ["group", "place"]}
    assert audited(monkeypatch, tmp_path, stage, SCENARIOS[scenario]) == {}


@pytest.mark.parametrize("noise_kind", ["laplace", "gaussian"])
def test_every_count_of_a_tree_is_in_steps_of_the_plan_too(tmp_path, monkeypatch, noise_kind):
    stage = {"metrics": [audited_stages.METRICS["median"]], "noise": noise_kind, "partitions": SELECTIONS["public"]}
    assert audited(monkeypatch, tmp_path, stage, SCENARIOS["all bounds"], copies=60) == {}


def old_counts(self, counts):
    """As counts got noise in version 0.1.0: by PyDP's floats."""
    from pydp.algorithms.numerical_mechanisms import GaussianMechanism

    add = GaussianMechanism.create_from_standard_deviation(self.mechanism.sigma).add_noise
    return np.array([add(float(count)) for count in counts.tolist()])


def test_a_path_of_floats_for_counts_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(noise.AdditiveNoise, "to_counts", old_counts)
    stage = {"metrics": ["count"], "noise": "gaussian", "partitions": SELECTIONS["public"]}
    found = audited(monkeypatch, tmp_path, stage, SCENARIOS["nobody or one"])
    assert list(found.values()) == [["not whole steps of what the plan says"]] * 2


def test_a_path_of_floats_for_the_counts_of_a_threshold_is_caught(tmp_path, monkeypatch):
    from dpbeam.mechanisms import selection

    monkeypatch.setattr(selection.Thresholding, "noisy", lambda self, users: old_counts(self.noise, users))
    stage = {"metrics": ["privacy_id_count"], "noise": "gaussian"}
    stage |= {"partitions": SELECTIONS["gaussian_thresholding"] | {}}
    people = audit.Scenario(name="many", others=audit.others(60), one=(("me", "a", 1.0),))
    found = audited(monkeypatch, tmp_path, stage, people)
    assert list(found.values()) == [["not whole steps of what the plan says"]] * 2


DRAWS = 20_000
LARGE = [2.0**power for power in (19, 22, 25)]
"""Noise against what one row adds: more than 2**48 steps of the grid that the bounds alone ask for."""


def large(kind, scale):
    own = Gaussian(stage="s", metric="v.sum", sigma=scale, l2=1.0)
    return own if kind == "gaussian" else Laplace(stage="s", metric="v.sum", scale=scale, l1=1.0)


def parity(sums):
    counts = np.bincount(sums.astype(np.int64) % 2, minlength=2)
    return stats.binomtest(int(counts[1]), int(counts.sum()), 0.5).pvalue > ALPHA


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("scale", LARGE)
@pytest.mark.parametrize("exact", [0, 1])
def test_large_noise_hides_the_parity_of_the_exact_sum(kind, scale, exact):
    added = noise.AdditiveNoise(mechanism=large(kind, scale))
    grid = Grid.for_bounds(0.0, 1.0, least_step=added.step)
    found = added.to_sums(np.full(DRAWS, exact), grid)
    assert faults(found, added.step) == []
    assert parity(found / added.step)


@pytest.mark.parametrize("scale", LARGE[-1:])
def test_noise_of_more_steps_than_the_sampler_tells_apart_is_caught(scale):
    """As sums got noise in version 0.1.0: the exact sum's parity shows."""
    sampler = noise._gaussian(scale * 2.0**30)
    for exact in (0, 1):
        found = np.array([sampler.add_noise(2**33 + exact) - 2**33 for _ in range(DRAWS)])
        assert not parity(found)


# Rounds of a selection by weights: noisy weights stay in the trust zone, but the next round looks at them.


def round_of(sigma):
    event = WeightedThresholding(
        stage="s", metric="partitions.round1", strategy="mad", sigma=sigma, l2=1.0, threshold=9.0, delta=1e-6, l0=1,
        saturation=12.0,
    )  # fmt: skip
    return StageSpec(
        name="s", unit="u", keys=("p",), key_types=("int64",), bounds=Bounds(l0=1), metrics=(), noise={},
        selection=None, rounds=(event,), mode=Round(number=1, stage="s"),
    )  # fmt: skip


@pytest.mark.parametrize("sigma", [0.3, 255.9, 257.0, 65535.0])
@pytest.mark.parametrize("exact", [0, 1, (1 << weights.WEIGHT_BITS) - 1, weights.NORM << 20])
def test_noisy_weights_are_in_steps_of_the_plan_whatever_they_weigh(sigma, exact):
    spec = round_of(sigma)
    added = weighing.noise_of(spec)
    assert faults(weighing._noisy(np.full(DRAWS, exact), spec, added), added.step) == []


@pytest.mark.parametrize("sigma", [300.0, 65535.0])
def test_weights_that_are_cut_for_large_noise_fall_by_less_than_its_step(monkeypatch, sigma):
    class Silent:
        def add_noise(self, value):
            return value

    monkeypatch.setattr(noise, "_gaussian", lambda _: Silent())
    spec = round_of(sigma)
    added = weighing.noise_of(spec)
    exact = np.arange(2**40, 2**40 + 3000)
    lost = exact * 2.0**-weights.WEIGHT_BITS - weighing._noisy(exact, spec, added)
    assert (lost >= 0).all()
    assert (lost < added.step).all()
    assert added.step <= 2.0**-32


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
@pytest.mark.parametrize("scale", [1.0, *LARGE])
def test_leaves_and_others_are_summed_on_one_grid(kind, scale):
    from dpbeam.mechanisms.events import Other
    from dpbeam.queries.metrics.sums import Sum

    other = Other(leaves=9, rows=9, most=9.0, noise=3.0 if kind == "gaussian" else 1.0)
    made = replace(round_of(1.0), rounds=(), mode=Hierarchical(), bounds=Bounds(l0=9, linf=1))
    sum_of = Sum(name="v.sum", column="v", low=0.0, high=1.0)
    made = replace(made, metrics=(sum_of,), noise={"v.sum": replace(large(kind, scale), other=other)})
    assert made.quantities == releaser.of_others(made).quantities
    assert made.quantities[0].least_step == specs.step_of(in_others(made.noise["v.sum"]))
