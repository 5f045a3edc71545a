"""PipelineDP's parameters become a stage with every mechanism it needs, or are refused by name."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pipeline_dp
import pyarrow as pa
import pytest
from pipeline_dp.aggregate_params import NormKind

from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.adapters.pipelinedp.parameters import aggregate_stage, select_stage
from dpbeam.errors import UsageError
from dpbeam.queries.bounds import Bounds

M, NOISE, S = pipeline_dp.Metrics, pipeline_dp.NoiseKind, pipeline_dp.PartitionSelectionStrategy
IS_0_2 = not hasattr(S, "WEIGHTED_GAUSSIAN_THRESHOLDING")
BOUNDS = {"max_partitions_contributed": 4, "max_contributions_per_partition": 2}
VALUES = {"min_value": -1.0, "max_value": 5.0}


def params(**fields):
    if IS_0_2 and not fields.keys() <= {field.name for field in dataclasses.fields(pipeline_dp.AggregateParams)}:
        pytest.skip("PipelineDP 0.2 has no such parameter")
    return pipeline_dp.AggregateParams(**{"metrics": [M.COUNT], **BOUNDS, **fields})


PUBLIC = pa.table({"partition_key": ["a"]})


def stage(public=False, **fields):
    return aggregate_stage(params(**fields), name="s", public=PUBLIC if public else None)


def asked(made):
    return {request.metric: request for request in stage_requests(made.stage)}


def test_each_metric_asks_for_its_mechanisms_at_its_sensitivity() -> None:
    made = stage(metrics=[M.COUNT, M.PRIVACY_ID_COUNT, M.SUM, M.PERCENTILE(90)], **VALUES)
    assert {name: (r.kind, r.sensitivity) for name, r in asked(made).items()} == {
        "partitions": ("truncated_geometric", (4.0, 2.0)),
        "count": ("laplace", (8.0, 4.0)),
        "privacy_id_count": ("laplace", (4.0, 2.0)),
        "sum": ("laplace", (40.0, 20.0)),
        "percentiles.tree": ("laplace", (32.0, 8.0)),
    }
    assert made.spec.bounds == Bounds(l0=4, linf=2)


def test_weights_sum_to_the_aggregations() -> None:
    made = stage(metrics=[M.MEAN, M.COUNT], budget_weight=3.0, **VALUES)
    assert math.fsum(request.weight for request in stage_requests(made.stage)) == pytest.approx(3.0)


def test_a_metric_that_is_named_twice_is_asked_for_once() -> None:
    twice = stage(metrics=[M.COUNT, M.PERCENTILE(50), M.COUNT, M.PERCENTILE(50.0)], **VALUES)
    once = stage(metrics=[M.COUNT, M.PERCENTILE(50)], **VALUES)
    assert (twice.stage, twice.fields) == (once.stage, once.fields)


def test_numpys_numbers_are_numbers() -> None:
    found = stage(
        metrics=[M.SUM, M.PERCENTILE(np.int64(90))],
        max_partitions_contributed=np.int64(4),
        max_contributions_per_partition=np.int32(2),
        min_value=np.float32(-1.0),
        max_value=np.int64(5),
        pre_threshold=np.int64(3),
        budget_weight=np.float64(2.0),
    )
    plain = stage(metrics=[M.SUM, M.PERCENTILE(90)], pre_threshold=3, budget_weight=2.0, **VALUES)
    assert (found.stage, found.fields) == (plain.stage, plain.fields)
    assert all(type(bound) is int for bound in (found.spec.bounds.l0, found.spec.bounds.linf))


def test_a_vector_is_one_column_of_its_size() -> None:
    (metric,) = stage(
        metrics=[M.VECTOR_SUM], vector_size=np.int64(300), vector_max_norm=1.0, vector_norm_kind=NormKind.L2
    ).spec.metrics
    assert (metric.columns, metric.numbers, type(metric.length)) == (("value",), 300, int)
    assert len(metric.released) == 300


def test_public_partitions_need_no_selection() -> None:
    assert list(asked(stage(public=True))) == ["count"]


def test_totals_and_l1_are_taken_over() -> None:
    totals = stage(metrics=[M.SUM], min_sum_per_partition=-2.0, max_sum_per_partition=1.0)
    assert asked(totals)["sum"].sensitivity == (8.0, 4.0)
    l1 = aggregate_stage(pipeline_dp.AggregateParams(metrics=[M.COUNT], max_contributions=7), name="s", public=None)
    assert (l1.spec.bounds, asked(l1)["count"].sensitivity, asked(l1)["partitions"].l0) == (Bounds(l1=7), (7.0, 7.0), 7)


@pytest.mark.parametrize("strategy", [S.GAUSSIAN_THRESHOLDING, S.LAPLACE_THRESHOLDING])
def test_a_threshold_serves_the_unit_count(strategy) -> None:
    made = stage(metrics=[M.PRIVACY_ID_COUNT], partition_selection_strategy=strategy, pre_threshold=9)
    assert [(r.metric, r.kind, r.pre_threshold) for r in stage_requests(made.stage)] == [
        ("partitions", strategy.name.lower(), 9)
    ]


def test_post_aggregation_thresholding_is_a_threshold_of_the_noises_kind() -> None:
    made = stage(metrics=[M.PRIVACY_ID_COUNT], post_aggregation_thresholding=True, noise_kind=NOISE.GAUSSIAN)
    assert [request.kind for request in stage_requests(made.stage)] == ["gaussian_thresholding"]


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ([M.COUNT, M.SUM, M.PRIVACY_ID_COUNT], ["count", "sum", "privacy_id_count"]),
        ([M.COUNT, M.SUM, M.MEAN], ["mean", "count", "sum"]),
        ([M.COUNT, M.SUM, M.MEAN, M.VARIANCE], ["variance", "count", "sum", "mean"]),
        ([M.PERCENTILE(99.9), M.PERCENTILE(50)], ["percentile_99_9", "percentile_50"]),
    ],
)
def test_fields_are_pipelinedps_in_its_order(metrics, names) -> None:
    assert [field.name for field in stage(metrics=metrics, **VALUES).fields] == names
    accountant = pipeline_dp.NaiveBudgetAccountant(10.0, 1e-3)
    engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
    extractors = pipeline_dp.DataExtractors(
        privacy_id_extractor=lambda row: row, partition_extractor=lambda row: 0, value_extractor=lambda row: 1.0
    )
    found = engine.aggregate([1, 2], params(metrics=metrics, **VALUES), extractors, [0])
    accountant.compute_budgets()
    ((_, theirs),) = list(found)
    assert list(theirs._fields) == names


def test_noise_is_stated_where_pipelinedp_states_it() -> None:
    fields = stage(metrics=[M.COUNT, M.SUM], output_noise_stddev=True, **VALUES).fields
    assert [(f.name, f.noise_of) for f in fields if f.noise_of] == [
        ("count_noise_stddev", "count"),
        ("sum_noise_stddev", "sum"),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"contribution_bounds_already_enforced": True},
            "contribution_bounds_already_enforced must be False: dpbeam bounds what each privacy id contributes itself",
        ),
        (
            {"perform_cross_partition_contribution_bounding": False},
            "perform_cross_partition_contribution_bounding must be True: dpbeam bounds what each privacy id "
            "contributes",
        ),
        (
            {"public_partitions_already_filtered": True},
            "public_partitions_already_filtered must go with public_partitions: without them PipelineDP would show "
            "every partition, selected by nothing",
        ),
        pytest.param(
            {"partition_selection_strategy": getattr(S, "WEIGHTED_GAUSSIAN_THRESHOLDING", None)},
            "partition_selection_strategy must be one of TRUNCATED_GEOMETRIC, LAPLACE_THRESHOLDING, "
            "GAUSSIAN_THRESHOLDING, got WEIGHTED_GAUSSIAN_THRESHOLDING; GAUSSIAN_THRESHOLDING comes nearest",
            marks=pytest.mark.skipif(IS_0_2, reason="PipelineDP 0.2 has no such strategy"),
        ),
        (
            {"metrics": [M.MEAN], "min_value": 1.0, "max_value": 1.0},
            "min_value must be below max_value, both within ±1e15, got 1.0 and 1.0",
        ),
        (
            {"metrics": [M.VARIANCE], "min_value": -1e300, "max_value": 1.0},
            "min_value must be below max_value, both within ±1e15, got -1e+300 and 1.0",
        ),
        (
            {"metrics": [M.SUM], "min_value": "0", "max_value": 1.0},
            "min_value must be below max_value, both within ±1e15, got '0' and 1.0",
        ),
        (
            {"metrics": [M.VECTOR_SUM], "vector_size": 2**31, "vector_max_norm": 1.0},
            "vector_size must be a whole number from 1 to 65536, got 2147483648",
        ),
        (
            {"metrics": [M.VECTOR_SUM], "vector_size": 2, "vector_max_norm": 1e16},
            "vector_max_norm must be at most 1e15, got 1e+16",
        ),
        ({"metrics": [M.PERCENTILE(101)], **VALUES}, "PERCENTILE must be between 0 and 100, got 101"),
        ({"budget_weight": math.nan}, "budget_weight must be a positive finite number, got nan"),
        (
            {"metrics": [M.VECTOR_SUM], "vector_size": 2, "vector_max_norm": 1.0, "vector_norm_kind": NormKind.L0},
            "vector_norm_kind must be NormKind.L1, L2 or Linf, got <NormKind.L0: 'l0'>",
        ),
        (
            {"metrics": [M.VECTOR_SUM], "vector_size": 2, "vector_max_norm": math.inf, "vector_norm_kind": NormKind.L1},
            "vector_max_norm must be a positive finite number, got inf",
        ),
        (
            {"metrics": [], "custom_combiners": [object()]},
            "custom_combiners can't be run: they are PipelineDP's; use its engine for them",
        ),
    ],
)
def test_what_isnt_safe_or_isnt_done_is_refused_by_name(fields, message) -> None:
    made = params()
    for name, value in fields.items():  # past PipelineDP's own checks
        setattr(made, name, value)
    with pytest.raises(UsageError) as refused:
        aggregate_stage(made, name="s", public=None)
    assert str(refused.value) == message


def test_other_parameters_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^params must be pipeline_dp\.AggregateParams, got dict$"):
        aggregate_stage({}, name="s", public=None)
    with pytest.raises(UsageError, match=r"^params must be pipeline_dp\.SelectPartitionsParams, got AggregateParams$"):
        select_stage(params(), name="s")


def test_a_selection_alone_has_one_mechanism() -> None:
    made = select_stage(pipeline_dp.SelectPartitionsParams(max_partitions_contributed=3, budget_weight=2.0), name="s")
    (request,) = stage_requests(made.stage)
    assert (request.kind, request.l0, request.weight, made.spec.bounds) == ("truncated_geometric", 3, 2.0, Bounds(l0=3))
