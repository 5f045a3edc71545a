"""What PipelineDP's engine returned, in; released rows out: its own values, with intervals of the noise behind them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pipeline_dp.combiners import QuantileCombiner

from dpbeam.adapters.reference import result_table
from dpbeam.engine.release import results
from dpbeam.mechanisms import moments, threshold_bias
from dpbeam.mechanisms.events import GaussianThresholding
from dpbeam.mechanisms.moments import NoisyQuantity
from dpbeam.queries.metrics.distinct import DistinctCount
from dpbeam.queries.metrics.means import Mean, Variance
from dpbeam.queries.metrics.quantiles import Max, Median, Min, Quantiles
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.metrics.vectors import VectorSum
from tests.helpers import kernel_reference as reference

BOUNDS = {"column": "v", "low": -3.0, "high": 7.0}
MIDDLE = 2.0
SUM, MEAN, VARIANCE = (kind(name=f"v_{kind.kind}", **BOUNDS) for kind in (Sum, Mean, Variance))
COUNT, UNITS = reference.COUNTS
WIDTH_95 = {"gaussian": 1.959963984540054, "laplace": math.log(20.0)}
NOISY = [  # counts, sums of x − MIDDLE, sums of (x − MIDDLE)²; the last two partitions are lost in their noise
    (400.5, 300.25, 2900.0),
    (90.0, -130.0, 800.0),
    (0.25, -1.5, -60.0),
    (-3.0, 40.0, 5.0),
]


def stage(*metrics, kind="gaussian", **fields):
    """Each quantity has noise of another scale."""
    spec = reference.stage(metrics=metrics, kind=kind)
    width = {"gaussian": "sigma", "laplace": "scale"}[kind]
    scales = {name: 2.0 + i for i, name in enumerate(spec.noise)}
    noise = {name: replace(mechanism, **{width: scales[name]}) for name, mechanism in spec.noise.items()}
    return replace(spec, noise=noise, **fields)


def released(spec, returned):
    """{column: values by partition}; keys are 0, 1, 2 …"""
    table = result_table.table([pa.array(range(len(returned)))], returned, spec)
    assert table.schema == results.result_schema(spec)
    found = table.to_pydict()
    assert found.pop("p") == list(range(len(returned)))
    return {name: np.array(values) for name, values in found.items()}


def ends(found, name):
    return np.array([found[f"{name}_low"], found[f"{name}_high"]])


def pipelinedps(noisy):
    """What PipelineDP returns for noisy counts, sums and sums of squares, by `dp_computations.compute_dp_var`."""
    rows = []
    for count, total, squares in noisy:
        shown = max(count, 1.0)
        away = total / shown
        mean = MIDDLE + away
        rows.append({"count": count, "mean": mean, "sum": mean * count, "variance": squares / shown - away**2})
    return rows


def parts_of(metric, spec):
    """The noisy quantities themselves, which PipelineDP doesn't return."""
    columns = dict(zip(("count", "sum", "squares"), np.array(NOISY).T, strict=True))
    return [
        NoisyQuantity(quantity=q, noise=spec.noise[q.name], noisy=columns[q.kind].reshape(-1, 1))
        for q in spec.made_from(metric)
    ]


@pytest.mark.parametrize("kind", WIDTH_95)
def test_what_is_one_noisy_number_stands_in_the_middle_of_its_own_noise(kind):
    vector = VectorSum(name="xyz", columns=("x", "y", "z"), norm="linf", max_norm=1.0)
    spec = stage(COUNT, UNITS, SUM, vector, kind=kind)
    returned = [
        {"count": 10 + i, "privacy_id_count": 20.0 + i, "sum": -30.0 * i, "vector_sum": (1.0, 2.5 * i, -4.0)}
        for i in range(3)
    ]
    found = released(spec, returned)
    expected = {
        "count": ([10.0, 11.0, 12.0], 2.0),
        "privacy_id_count": ([20.0, 21.0, 22.0], 3.0),
        "v_sum": ([0.0, -30.0, -60.0], 4.0),
        "xyz_0": ([1.0, 1.0, 1.0], 5.0),
        "xyz_1": ([0.0, 2.5, 5.0], 5.0),
        "xyz_2": ([-4.0, -4.0, -4.0], 5.0),
    }
    assert [name for name in found if not name.endswith(("_low", "_high"))] == list(expected)
    for name, (values, scale) in expected.items():
        half = scale * WIDTH_95[kind]
        assert found[name].tolist() == values
        assert ends(found, name) == pytest.approx(np.array(values) + np.array([[-half], [half]]), rel=1e-14)


def test_a_unit_count_that_selected_its_partition_has_the_interval_of_what_passed_a_threshold():
    threshold = GaussianThresholding(stage="s", sigma=3.0, l2=1.0, threshold=20.0, delta=1e-6, l0=1)
    spec = stage(COUNT, UNITS, selection=threshold)
    values = np.array([20.5, 24.0, 90.0])
    found = released(spec, [{"count": 5.0, "privacy_id_count": value} for value in values])
    low, high, bias = threshold_bias.interval(values, threshold)
    assert found["privacy_id_count"].tolist() == values.tolist()
    assert ends(found, "privacy_id_count").tolist() == [low.tolist(), high.tolist()]
    assert found["privacy_id_count_bias"].tolist() == bias.tolist()
    assert bias[0] > 1 > bias[2]


@pytest.mark.parametrize("kind", WIDTH_95)
def test_a_mean_has_the_interval_of_the_noisy_sum_and_count_that_it_was_made_from(kind):
    spec = stage(MEAN, COUNT, kind=kind)
    found = released(spec, pipelinedps(NOISY))
    _, low, high = moments.mean(*parts_of(MEAN, spec))
    assert found["v_mean"].tolist() == [row["mean"] for row in pipelinedps(NOISY)]
    assert ends(found, "v_mean")[:, :3] == pytest.approx(np.array([low, high])[:, :3], abs=1e-8)
    assert (low[:2] > -3).all()
    assert (high[:2] < 7).all()


@pytest.mark.parametrize("kind", WIDTH_95)
def test_a_variance_has_the_interval_of_the_noisy_moments_that_it_was_made_from(kind):
    spec = stage(VARIANCE, MEAN, kind=kind)
    found = released(spec, pipelinedps(NOISY))
    _, low, high = moments.variance(*parts_of(VARIANCE, spec), shift=0.0)
    assert found["v_variance"].tolist() == [row["variance"] for row in pipelinedps(NOISY)]
    assert ends(found, "v_variance")[:, :2] == pytest.approx(np.array([low, high])[:, :2], abs=1e-7)
    assert (low[:2] > 0).all()
    assert (high[:2] < 25).all()
    assert ends(found, "v_mean")[:, 0] == pytest.approx([at[0] for at in moments.mean(*parts_of(MEAN, spec))[1:]])


def test_values_that_pipelinedp_does_not_clip_lie_in_their_intervals():
    spec = stage(VARIANCE, MEAN)
    found = released(spec, pipelinedps(NOISY))
    assert found["v_mean"][3] == 42.0  # of a count below 1, which tells nothing
    assert ends(found, "v_mean")[:, 3].tolist() == [-3.0, 42.0]
    assert found["v_variance"][2:].tolist() == [-62.25, -1595.0]
    assert ends(found, "v_variance")[:, 2:].tolist() == [[-62.25, -1595.0], [25.0, 25.0]]
    below = released(stage(MEAN), [{"count": 0.5, "mean": -8.0}])
    assert ends(below, "v_mean").tolist() == [[-8.0], [7.0]]


@pytest.mark.parametrize("moment", [MEAN, VARIANCE], ids=["mean", "variance"])
@pytest.mark.parametrize("kind", WIDTH_95)
@pytest.mark.parametrize("first", ["sum", "moment"])
def test_a_sum_beside_a_mean_has_the_noise_of_both_that_it_was_made_from(moment, kind, first):
    spec = stage(*((SUM, moment) if first == "sum" else (moment, SUM)), kind=kind)
    found = released(spec, pipelinedps(NOISY))
    total, *_, count = parts_of(moment, spec)
    about = MIDDLE * count.noisy[:, 0] + total.noisy[:, 0]
    margin = moments.half_width_of_sum((total, count), (1.0, MIDDLE))
    if kind == "gaussian":
        assert margin == pytest.approx(WIDTH_95[kind] * math.hypot(total.scale, MIDDLE * count.scale))
    assert found["v_sum"][:2] == pytest.approx(about[:2])
    assert ends(found, "v_sum")[:, :2] == pytest.approx(np.array([about - margin, about + margin])[:, :2])
    # Where the count was below 1, the mean times that is shown: the interval is about the sum that it estimates.
    assert found["v_sum"][3] == 42.0 * -3.0
    assert ends(found, "v_sum")[:, 3] == pytest.approx([-126.0, 34.0 + margin])
    assert ends(found, "v_sum")[:, 2] == pytest.approx([about[2] - margin, about[2] + margin])


def test_quantiles_have_all_that_the_bounds_allow():
    asked = {Quantiles: (0.25, 0.999), Median: (0.5,), Min: (0.005,), Max: (0.995,)}
    metrics = [kind(name=kind.kind, ranks=ranks, **BOUNDS) for kind, ranks in asked.items()]
    spec = stage(*metrics)
    fields = ("percentile_25", "percentile_99_9", "percentile_50", "percentile_0_5", "percentile_99_5")
    found = released(spec, [{name: i + at for i, name in enumerate(fields)} for at in (0.0, 0.5)])
    for i, name in enumerate(["quantiles_p25", "quantiles_p99_9", "median", "min", "max"]):
        assert found[name].tolist() == [i, i + 0.5]
        assert ends(found, name).tolist() == [[-3.0, -3.0], [7.0, 7.0]]


@pytest.mark.parametrize("rank", [0.0, 0.005, 0.01, 0.29, 0.5, 0.57, 0.999, 0.99999, 0.1234567891, 1.0])
def test_a_quantile_is_called_what_pipelinedp_calls_it(rank):
    (theirs,) = QuantileCombiner(None, [float(f"{rank * 100:.10g}")]).metrics_names()
    assert result_table.percentile_name(rank) == theirs


def test_a_rank_that_a_float_holds_badly_is_called_as_it_is_written():
    assert 0.29 * 100 != 29
    assert result_table.percentile_name(0.29) == "percentile_29"
    assert result_table.percentile_name(0.123456789012) == "percentile_12_3456789"


def test_no_partitions_give_no_rows_of_the_same_columns():
    spec = stage(COUNT, SUM, MEAN)
    table = result_table.table([pa.array([], pa.int64())], [], spec)
    assert table.num_rows == 0
    assert table.schema == results.result_schema(spec)


def test_a_metric_that_pipelinedp_lacks_is_refused():
    metric = DistinctCount(name="kinds", column="t")
    with pytest.raises(ValueError, match=r"^PipelineDP has no distinct_count$"):
        released(stage(metric), [{"kinds": 3.0}])
