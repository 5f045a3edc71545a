"""The second derivation of what PipelineDP's parameters need agrees with the first, and refuses what is changed."""

from __future__ import annotations

import dataclasses
import random

import pipeline_dp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_dp.aggregate_params import NormKind

from dpbeam.adapters.pipelinedp.parameters import aggregate_stage, select_stage
from dpbeam.adapters.pipelinedp.parameters_check import check_aggregate, check_select
from dpbeam.errors import Refused

M, S = pipeline_dp.Metrics, pipeline_dp.PartitionSelectionStrategy
FIELDS = {field.name for field in dataclasses.fields(pipeline_dp.AggregateParams)}
STRATEGIES = [S.TRUNCATED_GEOMETRIC, S.LAPLACE_THRESHOLDING, S.GAUSSIAN_THRESHOLDING]
ROWS = [M.COUNT, M.PRIVACY_ID_COUNT]
VALUES = [M.SUM, M.MEAN, M.VARIANCE, M.PERCENTILE(10), M.PERCENTILE(90)]
edges = st.sampled_from([-5.0, -1.0, 0.0, 0.5, 3, 5.0, 1e6])
bounds = st.one_of(
    st.integers(1, 9).map(lambda most: {"max_contributions": most}),
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(
        lambda pair: {"max_partitions_contributed": pair[0], "max_contributions_per_partition": pair[1]}
    ),
)


@st.composite
def jobs(draw):
    """(params, public) of any metrics, bounds and selections that fit together."""
    kind = draw(st.sampled_from(["rows", "values", "totals", "vectors"]))
    some = draw(st.lists(st.sampled_from(ROWS), unique=True))
    fields = draw(bounds) | {"noise_kind": draw(st.sampled_from(list(pipeline_dp.NoiseKind)))}
    low, high = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    if kind == "values":
        some += draw(st.lists(st.sampled_from(VALUES), min_size=1, unique=True))
        fields |= {"min_value": low, "max_value": high}
    elif kind == "totals":
        some += [M.SUM]
        fields |= {"min_sum_per_partition": low, "max_sum_per_partition": high}
    elif kind == "vectors":
        some += [M.VECTOR_SUM]
        norm = draw(st.sampled_from([NormKind.L1, NormKind.L2, NormKind.Linf]))
        fields |= {"vector_size": draw(st.integers(1, 5)), "vector_max_norm": 2.5, "vector_norm_kind": norm}
    if "pre_threshold" in FIELDS and draw(st.booleans()):
        fields["pre_threshold"] = draw(st.integers(1, 5))
    if "post_aggregation_thresholding" in FIELDS and M.PRIVACY_ID_COUNT in some:
        fields["post_aggregation_thresholding"] = draw(st.booleans())
    fields["partition_selection_strategy"] = draw(st.sampled_from(STRATEGIES))
    return pipeline_dp.AggregateParams(metrics=some or [M.COUNT], **fields), draw(st.booleans())


@given(jobs(), st.integers(0, 2**32))
def test_both_derivations_agree_and_no_change_of_one_mechanism_passes(job, seed) -> None:
    params, public = job
    requests = aggregate_stage(params, name="s", public=public).requests
    check_aggregate(params, requests, public=public)
    at = random.Random(seed).randrange(len(requests))
    one, rest = requests[at], [*requests[:at], *requests[at + 1 :]]
    changes = [[], [one, one]]
    if one.is_selection:
        changes += [[dataclasses.replace(one, l0=one.l0 + 1)], [dataclasses.replace(one, pre_threshold=7)]]
    else:
        other = "laplace" if one.kind == "gaussian" else "gaussian"
        changes += [[dataclasses.replace(one, kind=other)]]
        changes += [[dataclasses.replace(one, l1=one.l1 * by)] for by in (0.5, 0.999, 1.001)]
        changes += [[dataclasses.replace(one, l2=one.l2 * by)] for by in (0.5, 0.999, 1.001)]
    for changed in changes:
        with pytest.raises(Refused):
            check_aggregate(params, rest + changed, public=public)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_selection_alone_is_derived_twice_too(strategy) -> None:
    params = pipeline_dp.SelectPartitionsParams(max_partitions_contributed=3, partition_selection_strategy=strategy)
    requests = select_stage(params, name="s").requests
    check_select(params, requests)
    for changed in ([], [*requests, *requests], [dataclasses.replace(requests[0], l0=2)]):
        with pytest.raises(Refused):
            check_select(params, changed)
