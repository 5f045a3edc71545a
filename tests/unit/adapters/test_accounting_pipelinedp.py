"""One budget for jobs written for PipelineDP and our stages: what is composed; PipelineDP's engine gets none of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pipeline_dp
import pyarrow as pa
import pytest
from pipeline_dp import combiners
from pipeline_dp.aggregate_params import MechanismType, NormKind
from pydp.algorithms.numerical_mechanisms import GaussianMechanism
from pydp.algorithms.partition_selection import create_partition_strategy
from scipy import stats

from dpbeam.accounting import plan as planning
from dpbeam.accounting.certify import certify_events
from dpbeam.accounting.epsilon_delta import epsilon_delta
from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant
from dpbeam.errors import Refused, UsageError
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.counts import Count
from dpbeam.queries.query import Public, Stage
from dpbeam.queries.selections import GaussianThresholding, LaplaceThresholding

COUNT = Count(name="count")
OURS = Stage(
    name="ours",
    keys=("place",),
    key_types=("string",),
    partitions=GaussianThresholding(),
    bounds=Bounds(l0=4, linf=2),
    metrics=(COUNT,),
    noise="laplace",
)
PUBLIC = replace(OURS, name="public", partitions=Public(table=pa.table({"place": ["inn"]})))
EXTRACTORS = pipeline_dp.DataExtractors(
    privacy_id_extractor=lambda row: row[0],
    partition_extractor=lambda row: row[1],
    value_extractor=lambda row: row[2],
)
M, S = pipeline_dp.Metrics, pipeline_dp.PartitionSelectionStrategy


class Custom(combiners.CustomCombiner):
    def request_budget(self, budget_accountant):
        budget_accountant.request_budget(MechanismType.LAPLACE)

    def create_accumulator(self, values):
        return 0

    def merge_accumulators(self, one, other):
        return 0

    def compute_metrics(self, accumulator):
        return 0

    def explain_computation(self):
        return ""


JOBS = {
    "COUNT": {"metrics": [M.COUNT]},
    "PRIVACY_ID_COUNT": {"metrics": [M.PRIVACY_ID_COUNT]},
    "SUM": {"metrics": [M.SUM], "min_value": -5.0, "max_value": 5.0},
    "SUM of totals": {"metrics": [M.SUM], "min_sum_per_partition": -5.0, "max_sum_per_partition": 5.0},
    "MEAN": {"metrics": [M.MEAN], "min_value": -5.0, "max_value": 5.0},
    "VARIANCE": {"metrics": [M.VARIANCE], "min_value": -5.0, "max_value": 5.0},
    "PERCENTILE": {"metrics": [M.PERCENTILE(50)], "min_value": -5.0, "max_value": 5.0},
    "VECTOR_SUM": {
        "metrics": [M.VECTOR_SUM], "vector_size": 2, "vector_max_norm": 1.0, "vector_norm_kind": NormKind.Linf,
    },
    "custom_combiners": {"metrics": None, "custom_combiners": [Custom()]},
}  # fmt: skip


@pytest.mark.parametrize("public", [None, ["inn"]], ids=["private", "public"])
@pytest.mark.parametrize("noise", list(pipeline_dp.NoiseKind))
@pytest.mark.parametrize("job", JOBS)
def test_pipelinedps_own_engine_gets_no_budget_for_any_metric(job, noise, public):
    accountant = SharedBudgetAccountant(3.0, 1e-6)
    params = pipeline_dp.AggregateParams(
        noise_kind=noise, max_partitions_contributed=1, max_contributions_per_partition=1, **JOBS[job]
    )
    engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
    with pytest.raises(UsageError, match=r"^PipelineDP's own engine asked for .*, which can't be promised"):
        engine.aggregate([("a", "inn", 1.0)], params, EXTRACTORS, public)


@pytest.mark.parametrize("strategy", list(S))
def test_pipelinedps_own_engine_gets_no_budget_for_any_selection(strategy):
    engine = pipeline_dp.DPEngine(SharedBudgetAccountant(3.0, 1e-6), pipeline_dp.LocalBackend())
    params = pipeline_dp.SelectPartitionsParams(max_partitions_contributed=1, partition_selection_strategy=strategy)
    with pytest.raises(UsageError, match=r"^PipelineDP's own engine asked for .*, which can't be promised"):
        list(engine.select_partitions([("a", "inn", 1.0)], params, EXTRACTORS))


def test_noise_on_figures_that_are_aggregated_already_gets_no_budget():
    if not hasattr(pipeline_dp.DPEngine, "add_dp_noise"):
        pytest.skip("this PipelineDP has no add_dp_noise")
    from pipeline_dp.aggregate_params import AddDPNoiseParams

    params = AddDPNoiseParams(noise_kind=pipeline_dp.NoiseKind.LAPLACE, l1_sensitivity=1.0)
    engine = pipeline_dp.DPEngine(SharedBudgetAccountant(3.0, 1e-6), pipeline_dp.LocalBackend())
    with pytest.raises(UsageError, match=r"^PipelineDP's own engine asked for .*, which can't be promised"):
        engine.add_dp_noise([("inn", 1.0)], params)


def test_the_refusal_names_what_was_asked_for_and_says_what_to_do():
    with pytest.raises(UsageError) as refused:
        SharedBudgetAccountant(1.0, 1e-6).request_budget(MechanismType.GAUSSIAN, name="Variance")
    assert str(refused.value) == (
        "PipelineDP's own engine asked for Variance GAUSSIAN, which can't be promised: an accountant isn't told what "
        "one privacy id moves, nor what PipelineDP bounds. Give the same parameters to "
        "dpbeam.adapters.pipelinedp.DPEngine(accountant); what only PipelineDP can run needs an accountant, a budget "
        "and a guarantee of PipelineDP's own"
    )


def test_all_stages_share_one_budget():
    accountant = SharedBudgetAccountant(10.0, 1e-6)
    stages = [accountant.add_stage(OURS), accountant.add_stage(PUBLIC)]
    accountant.compute_budgets()
    assert [[m.metric for m in stage.mechanisms] for stage in stages] == [["partitions", "count"], ["count"]]
    assert accountant.mechanisms == (*stages[0].mechanisms, *stages[1].mechanisms)
    certificate = certify_events(accountant.mechanisms, epsilon=10.0, delta=1e-6)
    assert certificate == accountant.certificate
    assert 9.5 <= certificate.epsilon <= 10.0


def planned(stage, *more):
    accountant = SharedBudgetAccountant(*more)
    budget = accountant.add_stage(stage)
    accountant.compute_budgets()
    return budget.mechanisms[0]


LAPLACE = replace(OURS, keys=(), key_types=(), partitions=None, bounds=Bounds(l0=1, linf=1))
NOISE = replace(LAPLACE, noise="gaussian")


def selecting(selection):
    return replace(OURS, partitions=selection, bounds=Bounds(l0=1), metrics=(), noise=None)


EPSILONS = [0.01, 1.0, 10.0, 650.0, 705.0, 720.0, 1000.0, 5000.0]


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_pydp_builds_at_least_the_planned_gaussian_noise_from_its_epsilon_and_delta(epsilon):
    mechanism = planned(NOISE, epsilon, 1e-3)
    epsilon, delta = epsilon_delta(mechanism)
    assert GaussianMechanism(epsilon=epsilon, delta=delta, sensitivity=1.0).std >= mechanism.sigma * (1 - 1e-9)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_pydp_keeps_who_is_alone_at_most_as_often_as_planned(epsilon):
    mechanism = planned(selecting(GaussianThresholding()), epsilon, 1e-3)
    built = create_partition_strategy("gaussian", *epsilon_delta(mechanism), 1)
    assert built.probability_of_keep(1) <= mechanism.delta * (1 + 1e-9)


@pytest.mark.parametrize(("kind", "law"), [("gaussian", stats.norm), ("laplace", stats.laplace)])
def test_pydp_splits_a_thresholdings_epsilon_and_delta_as_it_is_planned(kind, law):
    selection = GaussianThresholding() if kind == "gaussian" else LaplaceThresholding()
    mechanism = planned(selecting(selection), 0.5, 1e-6)
    built = create_partition_strategy(kind, *epsilon_delta(mechanism), 1)
    scale = mechanism.sigma if kind == "gaussian" else mechanism.scale
    for units in (3, 20, 40, 60):
        ours = law.cdf(units - mechanism.threshold, scale=scale)
        assert built.probability_of_keep(units) == pytest.approx(ours, rel=0.05, abs=1e-4)


def test_laplace_noise_is_built_from_the_epsilon_it_was_planned_with():
    mechanism = planned(LAPLACE, 1.0, 1e-6)
    assert epsilon_delta(mechanism) == (1 / mechanism.scale, 0.0)


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
        _ = SharedBudgetAccountant(1.0, 1e-6).add_stage(OURS).mechanisms
    assert str(refused.value) == "the stage's mechanisms are not known yet: call compute_budgets() first"


def test_a_request_after_the_budgets_are_computed_is_refused():
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    accountant.add_stage(OURS)
    accountant.compute_budgets()
    with pytest.raises(UsageError) as refused:
        accountant.add_stage(OURS)
    assert str(refused.value) == ("the budgets are computed already: ask for everything before compute_budgets()")


def test_a_stage_inside_a_scope_is_refused():
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    with accountant.scope(weight=0.5), pytest.raises(UsageError) as refused:
        accountant.add_stage(OURS)
    assert str(refused.value) == (
        "an aggregation of dpbeam's must stand outside of the accountant's scopes: give its weight as "
        "budget_weight, or in the requests"
    )


def test_a_stage_of_a_name_that_is_registered_is_refused():
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    accountant.add_stage(OURS)
    with pytest.raises(UsageError) as refused:
        accountant.add_stage(OURS)
    assert str(refused.value) == "stage ours is registered already: give each stage a name of its own"


def test_what_a_job_is_planned_with_is_derived_a_second_time(monkeypatch):
    """A slip in what the plan asks for, by which a job's noise would be too small, is refused as a policy's is."""
    real = planning.stage_requests

    def smaller(*of):
        return tuple(r if r.is_selection else replace(r, l1=r.l1 / 2, l2=r.l2 / 2) for r in real(*of))

    monkeypatch.setattr(planning, "stage_requests", smaller)
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    accountant.add_stage(OURS)
    with pytest.raises(Refused, match=r"^stage ours, count: l1 must be 8 by the stage's bounds, got 4$"):
        accountant.compute_budgets()
