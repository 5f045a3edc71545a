"""Metrics and intervals are functions of noisy quantities and public scales."""

from __future__ import annotations

import math
import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from scipy import integrate, stats

from dpbeam.mechanisms import moments, results, widths
from dpbeam.mechanisms.events import Gaussian, Laplace, TruncatedGeometric

reference = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit" / "kernel_reference.py")))
KINDS = ["gaussian", "laplace"]


def noisy_batch(spec, **columns):
    rows = len(columns["count"])
    arrays = {
        "p": list(range(rows)),
        **{f"__noisy_{q.name}": columns.get(q.name, [0.0] * rows) for q in spec.quantities},
    }
    return pa.RecordBatch.from_pydict(arrays, schema=results.noisy_schema(spec))


def means(spec, total, count):
    batch = results.metrics(noisy_batch(spec, **{"v_mean.sum": total, "count": count}), spec)
    return [batch.column(name).to_numpy() for name in ("v_mean", "v_mean_low", "v_mean_high")]


def test_the_schema_lists_keys_then_each_metric_with_its_interval():
    assert results.result_schema(reference.stage()).names == [
        "p", "count", "count_low", "count_high", "privacy_id_count", "privacy_id_count_low", "privacy_id_count_high",
        "v_sum", "v_sum_low", "v_sum_high", "v_mean", "v_mean_low", "v_mean_high",
    ]  # fmt: skip


def test_half_widths_leave_five_percent_outside():
    assert stats.norm(scale=3).sf(
        widths.half_width(Gaussian(stage="s", metric="m", sigma=3.0, l2=1.0))
    ) == pytest.approx(0.025)
    assert stats.laplace(scale=3).sf(
        widths.half_width(Laplace(stage="s", metric="m", scale=3.0, l1=1.0))
    ) == pytest.approx(0.025)


def test_a_selection_that_shows_no_count_has_no_width():
    with pytest.raises(ValueError, match=r"^TruncatedGeometric adds no noise to values$"):
        widths.std(TruncatedGeometric(stage="s", epsilon=1.0, delta=1e-9, l0=1))


def test_stds_are_those_of_the_distributions():
    assert widths.std(Gaussian(stage="s", metric="m", sigma=3.0, l2=1.0)) == stats.norm(scale=3).std()
    assert widths.std(Laplace(stage="s", metric="m", scale=3.0, l1=1.0)) == pytest.approx(stats.laplace(scale=3).std())


@pytest.mark.parametrize("kind", KINDS)
def test_additive_metrics_get_their_value_and_its_margin(kind):
    spec = reference.stage(kind=kind, scale=2.0)
    (row,) = results.metrics(noisy_batch(spec, count=[-3.5], v_sum=[10.0]), spec).to_pylist()
    margin = widths.half_width(spec.noise["v_sum"])
    assert (row["count"], row["v_sum"]) == (-3.5, 10.0)
    assert (row["v_sum_low"], row["v_sum_high"]) == (10.0 - margin, 10.0 + margin)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_takes_a_noisy_count_below_one_as_one_and_stays_in_its_bounds(kind):
    value, low, high = means(reference.stage(kind=kind), [1.0, 1.0, 500.0, -500.0], [0.2, -9.0, 100.0, 100.0])
    assert value.tolist() == [1.5, 1.5, 4.0, -3.0]
    assert (low <= value).all()
    assert (value <= high).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_over_a_count_that_may_be_zero_can_be_anything_in_its_bounds(kind):
    _, low, high = means(reference.stage(kind=kind, scale=10.0), [3.0, 3.0], [-50.0, 9.0])
    assert low.tolist() == [-3.0, -3.0]
    assert high.tolist() == [4.0, 4.0]


def two_laplaces(distance, a, b):
    """P(|X + Y| > distance) by numerical integration."""

    def density(x):
        return stats.laplace.pdf(x, scale=b) * stats.laplace.sf(distance - x, scale=a)

    return 2 * integrate.quad(density, -40 * b, 40 * b, points=[0, distance], limit=200)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_a_mean_interval_are_where_the_test_turns(kind):
    spec = reference.stage(kind=kind)
    total, count = 40.0, 60.0
    of_sum, of_count = (widths.std(spec.noise[name]) for name in ("v_mean.sum", "count"))
    for (end,) in means(spec, [total], [count])[1:]:
        t = end - 0.5
        distance = abs(total - t * count)
        if kind == "gaussian":
            tail = 2 * stats.norm.sf(distance, scale=math.hypot(of_sum, t * of_count))
        else:
            tail = two_laplaces(distance, of_sum / math.sqrt(2), abs(t) * of_count / math.sqrt(2))
        assert tail == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 1.0 + 1e-7, 1.00001, 0.5, 1e-6])
def test_the_tail_of_two_laplaces_is_smooth_where_their_scales_meet(ratio):
    found = moments._laplace_tail(np.array([0.0, 5.0]), [np.full(2, 2.0), np.full(2, 2.0 * ratio)])
    near = moments._laplace_tail(np.array([0.0, 5.0]), [np.full(2, 2.0), np.full(2, 2.0 * ratio * (1 + 1e-5))])
    assert found[0] == pytest.approx(1.0, rel=1e-9)
    assert found[1] == pytest.approx(near[1], rel=1e-4)


def test_no_partitions_give_an_empty_table():
    spec = reference.stage(kind="laplace")
    assert results.metrics(noisy_batch(spec, count=[]), spec).num_rows == 0


def test_a_mean_of_two_kinds_of_noise_is_refused():
    spec = reference.stage()
    spec = replace(spec, noise={**spec.noise, "count": Laplace(stage="s", metric="count", scale=1.0, l1=1.0)})
    with pytest.raises(
        ValueError,
        match=f"^{re.escape('v_mean.sum and the count must have one kind of noise, got ')}",
    ):
        means(spec, [1.0], [1.0])
