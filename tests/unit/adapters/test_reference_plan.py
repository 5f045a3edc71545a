"""The plan for PipelineDP's engine: what is drawn is what is stated, for the sensitivities that its sums have."""

from __future__ import annotations

import math
from dataclasses import replace

import pipeline_dp
import pytest
import yaml
from pipeline_dp.aggregate_params import MechanismType

from dpbeam.accounting.plan import plan
from dpbeam.adapters.reference.check import check_reference
from dpbeam.adapters.reference.plan import PlannedBudgets, reference_plan
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms.events import Gaussian
from dpbeam.policy.load import load_policy

VALUES = {"column": "amount", "low": 0.0, "high": 10.0}
AROUND_0 = {"column": "amount", "low": -5.0, "high": 5.0}
PUBLIC = {"public": {"values": ["inn", "zoo"]}}
GAUSSIAN_THRESHOLDING = {"private": {"strategy": "gaussian_thresholding"}}


@pytest.fixture
def policy(workspace, reference_engine):
    def make(**stage):
        workspace.policy["columns"]["day"] = {"type": "date"}
        workspace.policy["stages"][0] |= stage
        path = workspace.folder / "policy.yaml"
        path.write_text(yaml.safe_dump(workspace.policy), encoding="utf-8")
        return load_policy(path)

    return make


def test_a_pipelinedp_that_does_not_say_what_it_draws_is_refused(workspace, monkeypatch) -> None:
    monkeypatch.delattr(pipeline_dp.budget_accounting.BudgetAccountant, "mechanism_specs", raising=False)
    with pytest.raises(UsageError, match=r"^--engine=pipelinedp needs PipelineDP 0\.3 or later, got 0\.[23]\.\d+; use"):
        reference_plan(load_policy(workspace.policy_path))


def test_where_pipelinedp_draws_what_our_engine_draws_the_noise_is_the_same(policy) -> None:
    made = policy(metrics=["count", "privacy_id_count", {"mean": VALUES}])
    ours, theirs = plan(made).mechanisms, reference_plan(made).plan.mechanisms
    assert [m.metric for m in ours] == [m.metric for m in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other) if one.kind == "truncated_geometric" else True
        if isinstance(one, Gaussian):
            assert (one.sigma, one.l2) == (pytest.approx(other.sigma, rel=1e-12), other.l2)


def test_the_metrics_weights_are_followed(policy) -> None:
    made = policy(metrics=[{"count": {"weight": 4.0}}, "privacy_id_count"], noise="laplace", partitions=PUBLIC)
    count, units = reference_plan(made).plan.mechanisms
    assert count.l1 / count.scale == pytest.approx(4 * units.l1 / units.scale)


def test_squares_around_zero_move_their_sum_by_more_than_pipelinedp_takes_into_account(policy) -> None:
    """PipelineDP takes [-5, 5]'s squares for [0, 25] with their middle taken off, but adds them up as they are."""
    made = reference_plan(policy(metrics=[{"variance": AROUND_0}], partitions=PUBLIC, noise="laplace"))
    total, squares, count = made.plan.mechanisms
    rows = 4 * 2
    assert (total.l1, squares.l1, count.l1) == (rows * 5.0, rows * 25.0, rows)
    # Its noise is for half of that, so it costs twice: the plan pays for it.
    assert squares.l1 / squares.scale == pytest.approx(2 * count.l1 / count.scale)
    assert made.plan.certificate.epsilon <= 1.0


def test_a_variance_as_pipelinedp_budgets_it_breaks_its_promise(policy) -> None:
    """The defect, shown by itself: of a spec of ε, the mechanisms drawn cost 4/3 ε."""
    spec = reference_plan(policy(metrics=[{"variance": AROUND_0}], partitions=PUBLIC, noise="laplace"))
    (budget,) = spec.stages[0].budgets
    drawn = sum(m.l1 / m.scale for m in spec.plan.mechanisms)
    assert drawn == pytest.approx(budget.epsilon * 4 / 3)


def test_a_gaussian_is_stated_as_wide_as_pydp_makes_it(policy) -> None:
    made = reference_plan(policy(metrics=[{"median": VALUES}], partitions=PUBLIC))
    (tree,), (budget,) = made.plan.mechanisms, made.stages[0].budgets
    from pydp.algorithms.numerical_mechanisms import GaussianMechanism

    l2 = 2 * 2.0 * 2  # 4 levels, 4 partitions, 2 rows in each
    assert (tree.l2, tree.sigma) == (l2, GaussianMechanism(budget.epsilon, budget.delta, l2).std)
    assert tree.sigma >= plan(policy()).mechanisms[0].sigma


def test_a_threshold_is_the_one_that_pydp_uses(policy) -> None:
    made = reference_plan(policy(metrics=["privacy_id_count"], partitions=GAUSSIAN_THRESHOLDING))
    (selection,), (budget,) = made.plan.mechanisms, made.stages[0].budgets
    from pydp.algorithms.partition_selection import create_partition_strategy

    built = create_partition_strategy("gaussian", budget.epsilon, budget.delta, 4)
    assert budget.name == "PostAggregationThresholding"
    assert (selection.threshold, selection.delta) == (built.threshold, budget.delta / 2)
    for units in (20, 40, 60):
        stated = 0.5 * math.erfc((selection.threshold - units) / selection.sigma / math.sqrt(2))
        assert built.probability_of_keep(units) == pytest.approx(stated, rel=1e-6)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            {"metrics": ["count"], "partitions": {"private": {"strategy": "dp_sips"}}},
            "PipelineDP has no dp_sips; use one of truncated_geometric, laplace_thresholding, gaussian_thresholding",
        ),
        (
            {
                "metrics": ["count"],
                "group_by": ["place", "day"],
                "partitions": {"private": {"strategy": "truncated_geometric", "hierarchical": True}},
            },
            "PipelineDP has no hierarchical keys; run without --engine=pipelinedp",
        ),
        (
            {"metrics": ["count"], "bounds": {"l0": {"auto": {"max": 9}}, "linf": 1}},
            "PipelineDP finds no bounds; state them, or run without --engine=pipelinedp",
        ),
        (
            {"metrics": [{"histogram": {"column": "amount", "edges": [0, 5, 10]}}]},
            "PipelineDP has no histogram; leave amount_histogram out, or run without --engine=pipelinedp",
        ),
        (
            {"metrics": [{"sum": VALUES}, {"median": AROUND_0}]},
            "PipelineDP reads one column with one pair of bounds in a stage; give each column, and each pair of "
            "bounds, a stage of its own",
        ),
        (
            {"metrics": ["count"], "bounds": {"l1": 3}},
            "PipelineDP fails on bounds.l1 with private partitions; use l0 and linf",
        ),
        (
            {"metrics": [{"variance": VALUES}], "bounds": {"l1": 3}, "partitions": PUBLIC},
            "PipelineDP has no variance of amount_variance under bounds.l1; use l0",
        ),
        (
            {"metrics": [{"sum": {"column": "amount", "low_total": 0.0, "high_total": 9.0}}]},
            "PipelineDP doesn't apply bounds.linf before it adds up a unit's total; leave linf out",
        ),
        (
            {"metrics": [{"vector_sum": {"columns": ["amount"], "norm": "l2", "max_norm": 1.0}}], "partitions": PUBLIC},
            "PipelineDP fails on a vector_sum with public partitions; use private ones, or our engine",
        ),
        (
            {"metrics": [{"vector_sum": {"columns": ["amount"], "norm": "l2", "max_norm": 1.0}}]},
            "PipelineDP shortens the sum of a unit's vectors, not each vector; set bounds.linf to 1",
        ),
        (
            {
                "metrics": [{"vector_sum": {"columns": ["amount"], "norm": "l1", "max_norm": 1.0}}],
                "bounds": {"l0": 4, "linf": 1},
            },
            "PipelineDP has no gaussian noise for a vector's l1 norm; use laplace with l1, gaussian with l2, or linf",
        ),
        (
            {
                "metrics": ["privacy_id_count"],
                "partitions": {"private": {"strategy": "gaussian_thresholding", "pre_threshold": 5}},
            },
            "PipelineDP can't release the unit count of a selection with a pre_threshold; leave privacy_id_count or "
            "pre_threshold out",
        ),
        (
            {"metrics": ["privacy_id_count"], "partitions": {"private": {"strategy": "laplace_thresholding"}}},
            "PipelineDP releases the unit count of gaussian_thresholding only, got laplace_thresholding; change the "
            "strategy or the noise",
        ),
        (
            {"metrics": [{"sum": {"column": "amount", "low": 1e9, "high": 1e9 + 1e-4}}]},
            "bounds must not lie so close together for their size, got low 1000000000.0 and high 1000000000.0001",
        ),
    ],
)
def test_what_pipelinedp_cant_do_or_does_wrong_is_refused(policy, stage, message) -> None:
    with pytest.raises(UsageError) as refused:
        reference_plan(policy(**stage))
    assert str(refused.value) == f"stage by_place: {message}"


def test_rows_that_are_aggregated_already_are_refused(workspace, policy) -> None:
    workspace.policy["columns"]["visits"] = {"type": "int64"}
    workspace.policy["source"]["pre_aggregated"] = {"count": "visits"}
    with pytest.raises(UsageError) as refused:
        reference_plan(policy(metrics=["count"]))
    assert str(refused.value) == (
        "source.pre_aggregated: PipelineDP's engine counts every row as one; run without --engine=pipelinedp"
    )


def test_a_plan_that_lacks_a_mechanism_or_states_less_is_refused(policy) -> None:
    made = policy(metrics=["count", {"variance": VALUES}])
    drawn = reference_plan(made).plan.mechanisms
    check_reference(made, drawn)
    for index, mechanism in enumerate(drawn):
        with pytest.raises(Refused):
            check_reference(made, drawn[:index] + drawn[index + 1 :])
        with pytest.raises(Refused):
            check_reference(made, (*drawn, mechanism))
        less = {"l2": mechanism.l2 / 2} if isinstance(mechanism, Gaussian) else {"l0": 1}
        with pytest.raises(Refused):
            check_reference(made, (*drawn[:index], replace(mechanism, **less), *drawn[index + 1 :]))


def test_an_engine_that_asks_for_something_else_than_planned_is_refused(policy) -> None:
    budgets = reference_plan(policy(metrics=["count"], partitions=PUBLIC)).stages[0].budgets
    accountant = PlannedBudgets(budgets)
    with pytest.raises(Refused, match=r"^PipelineDP asked for Sum \(GAUSSIAN\), which isn't the next in the plan$"):
        accountant.request_budget(MechanismType.GAUSSIAN, name="Sum")
    with pytest.raises(Refused, match=r"^PipelineDP didn't ask for Count, which is in the plan$"):
        accountant.compute_budgets()
    accountant.request_budget(MechanismType.GAUSSIAN, name="Count")
    with pytest.raises(Refused):
        accountant.request_budget(MechanismType.GAUSSIAN, name="Count")


def test_post_aggregation_thresholding_is_what_pipelinedp_does_with_a_shared_count(policy) -> None:
    params = (
        reference_plan(policy(metrics=["privacy_id_count"], partitions=GAUSSIAN_THRESHOLDING)).stages[0].call.params
    )
    assert params.post_aggregation_thresholding
    assert params.partition_selection_strategy == pipeline_dp.PartitionSelectionStrategy.GAUSSIAN_THRESHOLDING
