"""One budget for PipelineDP's engine and our stages: what each spec gets, what is composed, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pipeline_dp
import pytest
from pipeline_dp.aggregate_params import MechanismType
from pydp.algorithms.numerical_mechanisms import GaussianMechanism
from pydp.algorithms.partition_selection import create_partition_strategy
from scipy import stats

from dpbeam.accounting.certify import certify
from dpbeam.accounting.pipelinedp import SharedBudgetAccountant, _gaussian_mu
from dpbeam.accounting.requests import Request
from dpbeam.errors import UsageError

OURS = [
    Request(stage="ours", metric="partitions", kind="gaussian_thresholding", weight=1.0, l0=4),
    Request(stage="ours", metric="count", kind="laplace", weight=1.0, l1=8.0, l2=4.0),
]
EXTRACTORS = pipeline_dp.DataExtractors(
    privacy_id_extractor=lambda row: row[0],
    partition_extractor=lambda row: row[1],
    value_extractor=lambda row: row[2],
)
ROWS = [(unit, partition, 1.0) for unit in range(1000) for partition in range(2)]


def aggregated(accountant, noise_kind, metrics):
    engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
    parameters = pipeline_dp.AggregateParams(
        noise_kind=noise_kind,
        metrics=metrics,
        max_partitions_contributed=2,
        max_contributions_per_partition=1,
        min_value=0.0,
        max_value=2.0,
    )
    return engine.aggregate(ROWS, parameters, EXTRACTORS)


@pytest.mark.parametrize("noise_kind", list(pipeline_dp.NoiseKind))
def test_an_engine_of_pipelinedp_and_a_stage_of_ours_share_one_budget(noise_kind):
    metrics = pipeline_dp.Metrics
    accountant = SharedBudgetAccountant(10.0, 1e-6)
    result = aggregated(
        accountant, noise_kind, [metrics.MEAN, metrics.COUNT, metrics.PRIVACY_ID_COUNT, metrics.PERCENTILE(50)]
    )
    stage = accountant.add_stage_requests(OURS)
    accountant.compute_budgets()
    assert {partition for partition, _ in result} == {0, 1}
    assert [m.metric for m in stage.mechanisms] == ["partitions", "count"]
    assert len(accountant.mechanisms) == 7
    certificate = certify(accountant.mechanisms, epsilon=10.0, delta=1e-6)
    assert certificate == accountant.certificate
    assert 9.5 <= certificate.epsilon <= 10.0


def test_a_variance_and_a_private_selection_run_on_the_shared_accountant():
    accountant = SharedBudgetAccountant(10.0, 1e-6)
    result = aggregated(accountant, pipeline_dp.NoiseKind.GAUSSIAN, [pipeline_dp.Metrics.VARIANCE])
    accountant.compute_budgets()
    assert {partition for partition, _ in result} == {0, 1}


def spec_of(kind, *more, **arguments):
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    spec = accountant.request_budget(MechanismType[kind], **arguments)
    for other in more:
        accountant.request_budget(MechanismType[other])
    accountant.compute_budgets()
    return accountant, spec


def test_no_spec_has_a_standard_deviation():
    _, spec = spec_of("GAUSSIAN")
    assert not spec.standard_deviation_is_set


def test_a_laplace_spec_spends_what_is_composed_for_it():
    accountant, spec = spec_of("LAPLACE", "GAUSSIAN")
    assert spec.eps == pytest.approx(1 / accountant.mechanisms[0].scale)
    assert spec.delta == 0


@pytest.mark.parametrize("more", [(), ("GAUSSIAN",) * 9, ("LAPLACE",) * 99])
def test_pydp_builds_at_least_the_composed_noise_from_a_gaussian_spec(more):
    accountant, spec = spec_of("GAUSSIAN", *more)
    built = GaussianMechanism(epsilon=spec.eps, delta=spec.delta, sensitivity=1.0)
    assert accountant.mechanisms[0].sigma * (1 - 1e-9) <= built.std <= accountant.mechanisms[0].sigma * 1.01


@pytest.mark.parametrize("epsilon", [650.0, 705.0, 720.0, 1000.0, 5000.0])
@pytest.mark.parametrize("kind", ["GAUSSIAN", "GAUSSIAN_THRESHOLDING"])
def test_pydp_builds_at_least_the_composed_noise_where_floats_dont_hold_e_to_the_epsilon(kind, epsilon):
    if kind not in MechanismType.__members__:
        pytest.skip("this PipelineDP asks for GENERIC")
    accountant = SharedBudgetAccountant(epsilon, 1e-3)
    spec = accountant.request_budget(MechanismType[kind])
    accountant.compute_budgets()
    (composed,) = accountant.mechanisms
    if kind == "GAUSSIAN":
        built = GaussianMechanism(epsilon=spec.eps, delta=spec.delta, sensitivity=1.0)
        assert built.std >= composed.sigma * (1 - 1e-9)
    else:
        built = create_partition_strategy("gaussian", spec.eps, spec.delta, 1)
        assert built.probability_of_keep(1) <= composed.delta * (1 + 1e-9)


@pytest.mark.parametrize("parts", [2, 3, 4])
@pytest.mark.parametrize(("epsilon", "delta"), [(1e-3, 1e-9), (0.1, 1e-6), (1.0, 1e-6), (10.0, 1e-3), (50.0, 1e-6)])
def test_a_gaussian_budget_in_parts_never_costs_more_than_whole(parts, epsilon, delta):
    whole, part = _gaussian_mu(epsilon, delta), _gaussian_mu(epsilon / parts, delta / parts)
    assert math.sqrt(parts) * part <= whole * (1 + 1e-9)


@pytest.mark.skipif("GAUSSIAN_THRESHOLDING" not in MechanismType.__members__, reason="this PipelineDP asks for GENERIC")
def test_pydp_splits_a_gaussian_thresholding_spec_as_it_is_composed():
    accountant, spec = spec_of("GAUSSIAN_THRESHOLDING", "LAPLACE")
    composed = accountant.mechanisms[0]
    built = create_partition_strategy("gaussian", spec.eps, spec.delta, 1)
    for units in (3, 20, 40, 60):
        ours = stats.norm.cdf(units - composed.threshold, scale=composed.sigma)
        assert built.probability_of_keep(units) == pytest.approx(ours, rel=0.05, abs=1e-4)
    assert composed.delta == spec.delta / 2


@pytest.mark.skipif("LAPLACE_THRESHOLDING" not in MechanismType.__members__, reason="this PipelineDP asks for GENERIC")
def test_pydp_splits_a_laplace_thresholding_spec_as_it_is_composed():
    accountant, spec = spec_of("LAPLACE_THRESHOLDING", "LAPLACE")
    composed = accountant.mechanisms[0]
    built = create_partition_strategy("laplace", spec.eps, spec.delta, 1)
    for units in (3, 20, 40, 60):
        ours = stats.laplace.cdf(units - composed.threshold, scale=composed.scale)
        assert built.probability_of_keep(units) == pytest.approx(ours, rel=1e-6)


def test_a_generic_spec_is_composed_as_its_epsilon_and_delta():
    accountant, spec = spec_of("GENERIC", "GAUSSIAN")
    composed = accountant.mechanisms[0]
    assert (spec.eps, spec.delta) == (composed.epsilon, composed.delta)


def test_a_count_is_composed_that_many_times():
    accountant, spec = spec_of("LAPLACE", count=5)
    assert [m.scale for m in accountant.mechanisms] == [1 / spec.eps] * 5
    assert spec.eps == pytest.approx(0.2, rel=0.01)


def test_weights_and_scopes_of_pipelinedp_are_followed():
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    with accountant.scope(weight=0.25):
        light = accountant.request_budget(MechanismType.LAPLACE, weight=7.0)
    heavy = accountant.request_budget(MechanismType.LAPLACE)
    accountant.compute_budgets()
    assert heavy.eps == pytest.approx(4 * light.eps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"noise_standard_deviation": 1.0},
            "noise_standard_deviation can't be asked for: the noise follows from the budget; omit it",
        ),
        ({"sensitivity": 2.0}, "sensitivity must be 1, got 2.0: scale the noise made from eps and delta"),
        ({"weight": math.nan}, "weight must be a positive finite number, got nan"),
        ({"weight": 0}, "weight must be a positive finite number, got 0"),
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
    ],
)
def test_what_the_accountant_cant_promise_is_refused(arguments, message):
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    with pytest.raises(UsageError) as refused:
        accountant.request_budget(MechanismType.LAPLACE, **arguments)
    assert str(refused.value) == message


@pytest.mark.parametrize("epsilon", [math.nan, math.inf, 0.0])
def test_an_epsilon_that_pipelinedp_would_let_pass_is_refused(epsilon):
    with pytest.raises(UsageError) as refused:
        SharedBudgetAccountant(epsilon, 1e-6)
    assert str(refused.value) == f"epsilon must be a positive finite number, got {epsilon!r}"


def test_a_delta_of_nan_is_refused():
    with pytest.raises(UsageError) as refused:
        SharedBudgetAccountant(1.0, math.nan)
    assert str(refused.value) == "delta must be above 0 and below 1, got nan; a common choice is 1e-8"


def test_mechanisms_asked_for_too_early_are_refused():
    with pytest.raises(UsageError) as refused:
        _ = SharedBudgetAccountant(1.0, 1e-6).add_stage_requests(OURS).mechanisms
    assert str(refused.value) == "the stage's mechanisms are not known yet: call compute_budgets() first"


def test_a_request_after_the_budgets_are_computed_is_refused():
    accountant, _ = spec_of("LAPLACE")
    with pytest.raises(UsageError) as refused:
        accountant.add_stage_requests(OURS)
    assert str(refused.value) == ("the budgets are computed already: ask for everything before compute_budgets()")


def test_a_stage_inside_a_scope_is_refused():
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    with accountant.scope(weight=0.5), pytest.raises(UsageError) as refused:
        accountant.add_stage_requests(OURS)
    assert str(refused.value) == (
        "an aggregation of dpbeam's must stand outside of the accountant's scopes: give its weight as "
        "budget_weight, or in the requests"
    )


def test_specs_hold_plain_numbers():
    for kind in ("LAPLACE", "GAUSSIAN", "GENERIC"):
        _, spec = spec_of(kind, "GAUSSIAN")
        assert type(spec.eps) is float
        assert not isinstance(spec.delta, np.floating)
