"""Released noise has the planned distribution, and intervals hold the truth 95 % of the time.

Kolmogorov–Smirnov and binomial tests over 20,000 fresh draws, each failing by chance with probability 1e-9; noise
1.3 times or 0.7 times the planned scale is rejected by the same test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.engine.aggregation.accumulate import accumulators_schema
from dpbeam.engine.aggregation.kernels import grid_of
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.mechanisms import noise
from dpbeam.mechanisms.events import Gaussian, Laplace
from dpbeam.mechanisms.fixedpoint import Grid
from tests.helpers import kernel_reference as reference

DRAWS = 20_000
ALPHA = 1e-9
KINDS = ["gaussian", "laplace"]


def event(kind, scale):
    if kind == "gaussian":
        return Gaussian(stage="s", metric="m", sigma=scale, l2=scale / 5)
    return Laplace(stage="s", metric="m", scale=scale, l1=scale / 5)


def fits(kind, draws, scale):
    law = stats.norm if kind == "gaussian" else stats.laplace
    return stats.kstest(draws, law(scale=scale).cdf).pvalue > ALPHA


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.5, 300.0])
def test_noise_on_counts_has_the_planned_scale_and_no_other(kind, scale):
    draws = noise.AdditiveNoise(mechanism=event(kind, scale)).to_counts(np.full(DRAWS, 1000)) - 1000
    assert [fits(kind, draws, scale * factor) for factor in (1.0, 1.3, 0.7)] == [True, False, False]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.5, 300.0, 2e7])
def test_noise_on_sums_has_the_planned_scale_and_no_other(kind, scale):
    # The last scale is 2**54 of the steps that the bounds ask for: the noise makes the grid coarser.
    added = noise.AdditiveNoise(mechanism=event(kind, scale))
    grid = Grid.for_bounds(0.0, 1.0, least_step=added.step)
    assert (grid.step > 2.0**-30) == (scale == 2e7)
    draws = added.to_sums(np.full(DRAWS, 2**40), grid) - 2**40 * grid.step
    assert [fits(kind, draws, scale * factor) for factor in (1.0, 1.3, 0.7)] == [True, False, False]


def test_a_laplace_sampler_that_is_told_a_small_sensitivity_is_noticed():
    # PyDP inflates Laplace noise by its granularity over the sensitivity it is told: see noise._laplace.
    from pydp.algorithms.numerical_mechanisms import LaplaceMechanism

    steps, zero = 2.0**40, 2**50
    wrong, right = LaplaceMechanism(1 / steps, 1.0), noise._laplace(steps)
    assert not fits("laplace", [(wrong.add_noise(zero) - zero) / steps for _ in range(DRAWS)], 1.0)
    assert fits("laplace", [(right.add_noise(zero) - zero) / steps for _ in range(DRAWS)], 1.0)


def released(kind, count, mean, *, planned=1.0, drawn=1.0):
    """DRAWS releases of one partition of `count` rows with the given mean; intervals assume the `planned` scale."""
    spec = reference.stage(kind=kind, scale=planned)
    actual = reference.stage(kind=kind, scale=drawn)
    columns = {"p": np.arange(DRAWS), "__count": count, "__users": count}
    for i, quantity in enumerate(spec.quantities):
        if quantity.kind == "sum":
            columns[f"__q_{i}"] = round(count * (mean - quantity.centre) / grid_of(quantity).step)
    arrays = [pa.array(np.broadcast_to(value, DRAWS)) for value in columns.values()]
    rows = pa.RecordBatch.from_arrays(arrays, schema=accumulators_schema(spec))
    return results.metrics(results.noisy_quantities(rows, spec, noises(replace(actual))), spec)


def covered(batch, metric, truth):
    low, high = (batch.column(f"{metric}_{end}").to_numpy() for end in ("low", "high"))
    return int(((low <= truth) & (truth <= high)).sum())


def is_95_percent(hits, alternative="two-sided"):
    return stats.binomtest(hits, DRAWS, 0.95, alternative=alternative).pvalue > ALPHA


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("metric", "truth"), [("count", 40), ("privacy_id_count", 40), ("v_sum", 40 * 1.25), ("v_mean", 1.25)]
)
def test_intervals_hold_the_truth_95_percent_of_the_time(kind, metric, truth):
    assert is_95_percent(covered(released(kind, 40, 1.25), metric, truth))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("metric", "truth"), [("count", 40), ("v_sum", 50), ("v_mean", 1.25)])
def test_intervals_of_a_wrong_scale_are_noticed(kind, metric, truth):
    for drawn in (1.3, 0.7):
        assert not is_95_percent(covered(released(kind, 40, 1.25, drawn=drawn), metric, truth))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [-2.9, 0.5, 3.9])
def test_the_interval_of_a_mean_over_few_rows_holds_it_at_least_95_percent_of_the_time(kind, mean):
    assert is_95_percent(covered(released(kind, 3, mean), "v_mean", mean), alternative="less")
