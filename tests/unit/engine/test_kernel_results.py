"""Metrics and intervals are functions of noisy quantities and public scales."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import integrate, stats

from dpbeam.engine.aggregation import accumulate
from dpbeam.engine.release import results
from dpbeam.engine.stage import Flat, Hierarchical
from dpbeam.mechanisms import moments, noise_width, threshold_bias
from dpbeam.mechanisms.events import Gaussian, GaussianThresholding, Laplace, TruncatedGeometric
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.queries import custom
from dpbeam.queries.metrics.counts import Count
from dpbeam.queries.metrics.custom import Custom
from dpbeam.queries.metrics.quantiles import Max, Min
from tests.helpers import kernel_reference as reference

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


def test_only_what_a_top_k_shows_may_be_missing():
    spec = reference.stage(metrics=(*reference.ALL_METRICS, *reference.WORD_METRICS[2:]))
    assert not any(field.nullable for field in results.noisy_schema(spec))
    missing = {field.name for field in results.result_schema(spec) if field.nullable}
    assert missing == {
        name for name in results.result_schema(spec).names if name.startswith(("top", "first", "listed"))
    }


def test_half_widths_leave_five_percent_outside():
    assert stats.norm(scale=3).sf(
        noise_width.half_width(Gaussian(stage="s", metric="m", sigma=3.0, l2=1.0))
    ) == pytest.approx(0.025)
    assert stats.laplace(scale=3).sf(
        noise_width.half_width(Laplace(stage="s", metric="m", scale=3.0, l1=1.0))
    ) == pytest.approx(0.025)


def test_a_selection_that_shows_no_count_has_no_width():
    with pytest.raises(ValueError, match=r"^TruncatedGeometric adds no noise to values$"):
        noise_width.std(TruncatedGeometric(stage="s", epsilon=1.0, delta=1e-9, l0=1))


def test_stds_are_those_of_the_distributions():
    assert noise_width.std(Gaussian(stage="s", metric="m", sigma=3.0, l2=1.0)) == stats.norm(scale=3).std()
    assert noise_width.std(Laplace(stage="s", metric="m", scale=3.0, l1=1.0)) == pytest.approx(
        stats.laplace(scale=3).std()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_additive_metrics_get_their_value_and_its_margin(kind):
    spec = reference.stage(kind=kind, scale=2.0)
    (row,) = results.metrics(noisy_batch(spec, count=[-3.5], v_sum=[10.0]), spec).to_pylist()
    margin = noise_width.half_width(spec.noise["v_sum"])
    assert (row["count"], row["v_sum"]) == (-3.5, 10.0)
    assert (row["v_sum_low"], row["v_sum_high"]) == (10.0 - margin, 10.0 + margin)


@pytest.mark.parametrize("kind", KINDS)
def test_each_number_of_a_metric_has_the_margin_of_its_own_noise(kind):
    spec = reference.stage(kind=kind, scale=2.0, metrics=reference.VALUE_METRICS)
    tree = [[float(i) for i in range(9)]]  # three numbers of each rank; v_median shares it
    numbers = {"count": [90.0], "bins": [[7.0, -1.0, 2.5]], "l1": [[4.0, 5.0]], "v.tree": tree}
    squares = {"v_mean.sum": [9.0], "v_variance.squares": [100.0], "l2": [[0.0, 0.0]], "linf": [[0.0, 0.0]]}
    (row,) = results.metrics(noisy_batch(spec, **numbers, **squares), spec).to_pylist()
    for name, value, quantity in [
        ("bins_0", 7.0, "bins"),
        ("bins_1", -1.0, "bins"),
        ("bins_2", 2.5, "bins"),
        ("l1_0", 4.0, "l1"),
        ("l1_1", 5.0, "l1"),
        ("v_total", 0.0, "v_total"),
    ]:
        margin = noise_width.half_width(spec.noise[quantity])
        assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == [value, value - margin, value + margin]
    for name, at in (("v_p10", 0), ("v_p50", 3), ("v_p90", 6), ("v_median", 3)):
        assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == [at, at + 1, at + 2]
    for end in ("", "_low", "_high"):
        assert row[f"v_stddev{end}"] == math.sqrt(row[f"v_variance{end}"])
    assert row["v_variance_low"] < row["v_variance"] < row["v_variance_high"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_frequent_values_stand_with_the_intervals_of_their_own_noise(kind):
    spec = reference.stage(kind=kind, scale=2.0, threshold=30.0, metrics=reference.WORD_METRICS)
    shown = [[{"value": "b", "units": 90.0}, {"value": "a", "units": 41.0}], []]
    numbers = {"count": [1.0, 2.0], "top": shown, "first": shown, "top_n": [[], []], "listed": [[3.0, 9.0, 4.0]] * 2}
    rows = results.metrics(noisy_batch(spec, **numbers), spec).to_pylist()
    _, _, bias = threshold_bias.interval(np.array([90.0, 41.0]), spec.thresholds["top"])
    for i, text in enumerate("ba"):
        value = shown[0][i]["units"]
        assert [rows[0][f"top_{i + 1}{end}"] for end in ("", "_count", "_count_bias")] == [text, value, bias[i]]
        assert rows[0][f"top_{i + 1}_count_low"] < value < rows[0][f"top_{i + 1}_count_high"]
    assert bias[1] > 0
    for name in ("top_3", "top_3_count", "top_3_count_low", "top_3_count_high", "top_3_count_bias"):
        assert rows[0][name] is None
    assert [rows[1][name] for name in ("top_1", "top_1_count", "top_1_count_low", "first_1")] == [None] * 4
    for i, (text, value) in enumerate([("b", 9.0), ("never", 4.0)], 1):
        assert [rows[1][f"listed_{i}{end}"] for end in ("", "_count")] == [text, value]
        assert rows[1][f"listed_{i}_count_low"] < value < rows[1][f"listed_{i}_count_high"]
    names = results.result_schema(spec).names
    assert names[names.index("top_1") :][:5] == [
        f"top_1{end}" for end in ("", "_count", "_count_low", "_count_high", "_count_bias")
    ]
    assert "listed_1_count_bias" not in names


@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_unit_count_that_selected_its_partition_stands_with_its_bias(hierarchical):
    threshold = GaussianThresholding(stage="s", sigma=3.0, l2=1.0, threshold=20.0, delta=1e-6, l0=1, pre_threshold=2)
    spec = replace(
        reference.stage(metrics=reference.COUNTS), selection=threshold, mode=Hierarchical() if hierarchical else Flat()
    )
    batch = noisy_batch(spec, count=[1.0], privacy_id_count=[24.0]) if not hierarchical else None
    assert spec.shares_count == (not hierarchical)
    names = results.result_schema(spec).names
    assert ("privacy_id_count_bias" in names) == (not hierarchical)
    if batch is not None:
        (row,) = results.metrics(batch, spec).to_pylist()
        low, high, bias = threshold_bias.interval(np.array([24.0]), threshold)
        found = [row[f"privacy_id_count{end}"] for end in ("", "_low", "_high", "_bias")]
        assert found == [24.0, low[0], high[0], bias[0]]
        noise = {"count": AdditiveNoise(mechanism=spec.noise["count"])}
        schema = accumulate.accumulators_schema(spec).append(pa.field(results.NOISY_USERS, pa.float64()))
        kept = pa.RecordBatch.from_pylist(
            [{"p": 3, "__count": 8, "__users": 5, results.NOISY_USERS: 24.5}], schema=schema
        )
        (noisy,) = results.noisy_quantities(kept, spec, noise).to_pylist()
        assert (noisy["p"], noisy["__noisy_privacy_id_count"]) == (3, 24.5)
        assert noisy["__noisy_count"] != 8
    else:
        with pytest.raises(ValueError, match=r"^stage s doesn't select by thresholding$"):
            _ = replace(spec, selection=None).thresholding


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
    of_sum, of_count = (noise_width.std(spec.noise[name]) for name in ("v_mean.sum", "count"))
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
    found = moments.laplace_tail(np.array([0.0, 5.0]), [np.full(2, 2.0), np.full(2, 2.0 * ratio)])
    near = moments.laplace_tail(np.array([0.0, 5.0]), [np.full(2, 2.0), np.full(2, 2.0 * ratio * (1 + 1e-5))])
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


def test_the_least_and_the_largest_value_are_read_off_their_ranks():
    bounds = {"column": "v", "low": -1.0, "high": 1.0}
    ends = (
        Min(name="v_min", ranks=(0.005,), **bounds),
        Max(name="v_max", ranks=(0.995,), **bounds),
    )
    spec = reference.stage(metrics=(Count(name="count"), *ends))
    tree = [[float(i) for i in range(6)]]
    (row,) = results.metrics(noisy_batch(spec, **{"count": [9.0], "v_min.tree": tree}), spec).to_pylist()
    assert [row[name] for name in ("v_min", "v_min_low", "v_min_high")] == [0.0, 1.0, 2.0]
    assert [row[name] for name in ("v_max", "v_max_low", "v_max_high")] == [3.0, 4.0, 5.0]


@dataclass(frozen=True, kw_only=True)
class Twice(custom.CustomMetric):
    """Two sums of one column; no count is asked for."""

    version = 1

    @property
    def row_bound(self):
        return custom.RowBound(norm="linf", most=1.0, size=2)

    def rows(self, columns):
        return np.column_stack([columns[0], columns[0]])

    def release(self, noisy):
        assert noisy.count is None
        return [noisy.sum(1)]


def test_a_custom_metric_gets_its_noisy_sums_and_no_count_that_it_does_not_ask_for():
    metric = Custom(name="twice", columns=("v",), custom=Twice())
    spec = reference.stage(metrics=(Count(name="count"), metric))
    (row,) = results.metrics(noisy_batch(spec, count=[9.0], twice=[[4.0, 5.0]]), spec).to_pylist()
    margin = noise_width.half_width(spec.noise["twice"])
    assert [row[name] for name in ("twice", "twice_low", "twice_high")] == pytest.approx(
        [5.0, 5.0 - margin, 5.0 + margin]
    )
