"""Leaves get the planned noise, others as many times that as the plan states, and intervals hold the truth 95 % of the
time in both.

Kolmogorov–Smirnov and binomial tests over 20,000 fresh draws, each failing by chance with probability 1e-9.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from dpbeam.engine.aggregation.accumulate import accumulators_schema
from dpbeam.engine.aggregation.kernels import grid_of
from dpbeam.engine.release import releaser
from dpbeam.engine.stage import LEVEL, Hierarchical
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.means import Mean
from dpbeam.queries.residual import effect_on_residual
from tests.helpers import kernel_reference as reference

DRAWS = 20_000
ALPHA = 1e-9
COUNT, UNITS, MEAN = 5000, 400, 2.0
METRICS = (*reference.COUNTS, Mean(name="v_mean", column="v", low=-3.0, high=4.0))


def stage(kind):
    spec = reference.stage(
        keys=("a", "b", LEVEL), key_types=("int64",) * 3, metrics=METRICS, kind=kind, scale=8.0, l0=9, linf=2
    )
    bounds = Bounds(l0=9, linf=2)
    noise = {q.name: replace(spec.noise[q.name], other=effect_on_residual(q, bounds, 9, kind)) for q in spec.quantities}
    return replace(spec, mode=Hierarchical(), noise=noise)


def released(spec):
    """DRAWS leaves and DRAWS others, by turns, all with the same rows."""
    columns = {
        "a": np.arange(2 * DRAWS),
        "b": 0,
        LEVEL: 2 - np.arange(2 * DRAWS) % 2,
        "__count": COUNT,
        "__users": UNITS,
    }
    for i, quantity in enumerate(spec.quantities):
        if quantity.kind == "sum":
            columns[f"__q_{i}"] = round(COUNT * (MEAN - quantity.centre) / grid_of(quantity).step)
    arrays = [pa.array(np.broadcast_to(value, 2 * DRAWS)) for value in columns.values()]
    rows = pa.RecordBatch.from_arrays(arrays, schema=accumulators_schema(spec))
    made = releaser.Releaser(spec=spec).released(rows)
    assert made.column("a").to_pylist() == list(range(2 * DRAWS))  # in the order of the accumulators
    return [made.take(pa.array(np.arange(at, 2 * DRAWS, 2))) for at in (0, 1)]


def fits(kind, draws, scale):
    law = stats.norm if kind == "gaussian" else stats.laplace
    return stats.kstest(draws, law(scale=scale).cdf).pvalue > ALPHA


@pytest.mark.parametrize(("kind", "factor"), [("gaussian", 3.0), ("laplace", 1.0)])
def test_others_have_the_stated_times_the_noise_of_leaves(kind, factor):
    spec = stage(kind)
    leaves, others = released(spec)
    for table, times in ((leaves, 1.0), (others, factor)):
        draws = table.column("count").to_numpy() - COUNT
        assert [fits(kind, draws, 8.0 * times * wrong) for wrong in (1.0, 1.3, 0.7)] == [True, False, False]
        assert fits(kind, table.column("privacy_id_count").to_numpy() - UNITS, 8.0)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
@pytest.mark.parametrize(("metric", "truth"), [("count", COUNT), ("privacy_id_count", UNITS), ("v_mean", MEAN)])
def test_intervals_of_leaves_and_of_others_hold_the_truth_95_times_of_100(kind, metric, truth):
    for table in released(stage(kind)):
        low, high = (table.column(f"{metric}_{end}").to_numpy() for end in ("low", "high"))
        inside = int(((low <= truth) & (truth <= high)).sum())
        assert stats.binomtest(inside, DRAWS, 0.95).pvalue > ALPHA


def test_intervals_of_others_as_narrow_as_of_leaves_are_noticed(monkeypatch):
    spec = stage("gaussian")
    _, others = released(spec)
    monkeypatch.setattr(releaser, "in_others", lambda mechanism: mechanism)
    narrow, _ = released(spec)
    half = (narrow.column("count_high").to_numpy() - narrow.column("count_low").to_numpy()) / 2
    inside = int((np.abs(others.column("count").to_numpy() - COUNT) <= half).sum())
    assert stats.binomtest(inside, DRAWS, 0.95).pvalue < ALPHA
