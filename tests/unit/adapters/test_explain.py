"""The reports of jobs written for PipelineDP say what our engine does, in the figures that it does it with."""

from __future__ import annotations

import re

import apache_beam as beam
import pipeline_dp
import pytest
from pipeline_dp.aggregate_params import NormKind

from dpbeam.adapters.pipelinedp import DPEngine, ExplainComputationReport, SharedBudgetAccountant
from dpbeam.adapters.pipelinedp.engine import PrivateAggregate
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Gaussian, Laplace

M, NOISE, S = pipeline_dp.Metrics, pipeline_dp.NoiseKind, pipeline_dp.PartitionSelectionStrategy
EXTRACTORS = pipeline_dp.DataExtractors(
    privacy_id_extractor=lambda row: row[0],
    partition_extractor=lambda row: row[1],
    value_extractor=lambda row: row[2],
)
BOUNDS = {"max_partitions_contributed": 4, "max_contributions_per_partition": 2}


def explained(public=None, **params):
    """The steps of one aggregation's report, and its mechanisms."""
    accountant, report = SharedBudgetAccountant(1.0, 1e-6), ExplainComputationReport()
    rows = beam.Pipeline() | beam.Create([(1, "inn", 0.0)])
    asked = pipeline_dp.AggregateParams(**params)
    DPEngine(accountant).aggregate(rows, asked, EXTRACTORS, public, report)
    accountant.compute_budgets()
    head, _, steps = report.text().partition("Computation graph:\n")
    assert head.startswith("DPEngine method: aggregate\nAggregateParams:\n metrics=[")
    assert f"Partition selection: {'private' if public is None else 'public'} partitions" in head
    lines = steps.splitlines()
    assert [line.split(".")[0] for line in lines] == [f" {number}" for number in range(1, len(lines) + 1)]
    return [line.partition(". ")[2] for line in lines], accountant.mechanisms


def test_a_report_reads_like_what_is_done() -> None:
    steps, (selection, count, mean) = explained(
        metrics=[M.COUNT, M.MEAN], noise_kind=NOISE.LAPLACE, min_value=0, max_value=10, **BOUNDS
    )
    epsilon = steps.pop()
    assert steps == [
        "Leave out each row whose privacy id, partition key or value is None, NaN or infinite",
        "Contribution bounding: for each privacy id, randomly select at most 4 partitions, and in each at most 2 rows",
        "Clamp each value to [0, 10]",
        f"Private partition selection: Truncated Geometric with (eps={selection.epsilon:.6g}, delta="
        f"{selection.delta:.6g}) for all partitions of a privacy id together",
        f"Add Laplace noise of scale {count.scale:.6g} (standard deviation {count.scale * 2**0.5:.6g}) to each "
        "partition's number of rows; one privacy id moves all partitions by at most 8 together; by itself this costs "
        f"eps={8 / count.scale:.6g}",
        f"Add Laplace noise of scale {mean.scale:.6g} (standard deviation {mean.scale * 2**0.5:.6g}) to each "
        "partition's sum of distances from 5, the middle of the bounds on values; one privacy id moves all partitions "
        f"by at most 40 together; by itself this costs eps={40 / mean.scale:.6g}",
        "Compute COUNT, MEAN from these noisy numbers alone",
    ]
    found = re.fullmatch(r"This aggregation is \(eps=(\S+), delta=1e-06\)-differentially private", epsilon)
    assert 0.9 < float(found[1]) <= 1


VALUES = {"min_value": -3, "max_value": 5}
JOBS = {
    "every metric": {"metrics": [M.VARIANCE, M.SUM, M.PRIVACY_ID_COUNT, M.PERCENTILE(50)], **VALUES, **BOUNDS},
    "laplace": {"metrics": [M.VARIANCE, M.COUNT], "noise_kind": NOISE.LAPLACE, **VALUES, **BOUNDS},
    "sums about 0": {"metrics": [M.MEAN, M.SUM], "min_value": -2, "max_value": 2, **BOUNDS},
    "totals": {"metrics": [M.SUM], "min_sum_per_partition": -1, "max_sum_per_partition": 2.5, **BOUNDS},
    "all rows": {"metrics": [M.COUNT], "max_contributions": 3},
    "vectors": {"metrics": [M.VECTOR_SUM], "vector_size": 3, "vector_max_norm": 2.0, "vector_norm_kind": NormKind.L2,
                **VALUES, **BOUNDS},
    "thresholds": {"metrics": [M.COUNT, M.PRIVACY_ID_COUNT], "pre_threshold": 5,
                   "partition_selection_strategy": S.GAUSSIAN_THRESHOLDING, **BOUNDS},
    "laplace thresholds": {"metrics": [M.COUNT], "partition_selection_strategy": S.LAPLACE_THRESHOLDING, **BOUNDS},
    "public": {"metrics": [M.COUNT], "public": ["inn", "zoo"], **BOUNDS},
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_every_mechanism_has_its_step_with_its_own_noise_and_sensitivity(job) -> None:
    steps, mechanisms = explained(**{"noise_kind": NOISE.GAUSSIAN} | JOBS[job])
    added = [step for step in steps if step.startswith("Add ")]
    noises = [mechanism for mechanism in mechanisms if isinstance(mechanism, Laplace | Gaussian)]
    for step, noise in zip(added, noises, strict=True):
        gaussian = isinstance(noise, Gaussian)
        assert f"{noise.sigma if gaussian else noise.scale:.6g}" in step
        assert f"at most {noise.l2 if gaussian else noise.l1:.6g} together" in step
    selected = [step for step in steps if step.startswith("Private partition selection: ")]
    for step, mechanism in zip(selected, [m for m in mechanisms if m not in noises], strict=True):
        assert f"delta={mechanism.delta:.6g}" in step
        assert f"{getattr(mechanism, 'threshold', None) or mechanism.epsilon:.6g}" in step


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("totals", ["Clamp the sum of each privacy id in each partition to [-1, 2.5]"]),
        ("all rows", ["Contribution bounding: for each privacy id, randomly select at most 3 rows",
                      "Leave out each row whose privacy id or partition key is None, NaN or infinite"]),
        ("vectors", ["Shorten each vector until its l2 norm is at most 2"]),
        ("thresholds", ["PRIVACY_ID_COUNT is the noisy number of privacy ids by which partitions are selected"]),
        ("public", ["Leave out rows of other partitions than the 2 public ones, all of which are shown"]),
    ],
)  # fmt: skip
def test_what_is_done_to_rows_is_said(job, words) -> None:
    steps, _ = explained(**{"noise_kind": NOISE.GAUSSIAN} | JOBS[job])
    assert set(words) <= set(steps)


def test_a_pre_threshold_is_said() -> None:
    steps, _ = explained(**{"noise_kind": NOISE.GAUSSIAN} | JOBS["thresholds"])
    (step,) = (step for step in steps if step.startswith("Private partition selection: "))
    assert step.startswith("Private partition selection: keep a partition if its number of privacy ids, less 4, plus ")
    assert step.endswith("; a partition of fewer than 5 privacy ids is never kept")


def test_an_engine_tells_of_all_its_calls_in_their_order() -> None:
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    engine = DPEngine(accountant)
    rows = beam.Pipeline() | beam.Create([(1, "inn", 0.0)])
    engine.select_partitions(rows, pipeline_dp.SelectPartitionsParams(max_partitions_contributed=3), EXTRACTORS)
    engine.aggregate(rows, pipeline_dp.AggregateParams(metrics=[M.COUNT], max_contributions=1), EXTRACTORS)
    with pytest.raises(ValueError, match=r"Was BudgetAccountant.compute_budget\(\) called"):
        engine.explain_computations_report()
    accountant.compute_budgets()
    first, second = engine.explain_computations_report()
    assert first.startswith("DPEngine method: select_partitions\nSelectPartitionsParams:\n")
    assert "for each privacy id, randomly select at most 3 partitions\n" in first
    assert "Compute" not in first.partition("Computation graph:")[2]
    assert second.startswith("DPEngine method: aggregate\n")
    assert all("All 2 aggregations of the accountant together are (eps=" in report for report in (first, second))


def test_a_container_of_another_kind_is_refused_before_anything_is_asked_for() -> None:
    accountant = SharedBudgetAccountant(1.0, 1e-6)
    rows = beam.Pipeline() | beam.Create([(1, "inn", 0.0)])
    params = pipeline_dp.AggregateParams(metrics=[M.COUNT], max_contributions=1)
    with pytest.raises(UsageError) as refused:
        DPEngine(accountant).aggregate(rows, params, EXTRACTORS, None, object())
    assert str(refused.value) == (
        "out_explain_computation_report must be a dpbeam.adapters.pipelinedp.ExplainComputationReport() (which is "
        "PipelineDP's own) or None, got object"
    )
    with pytest.raises(UsageError):
        rows | PrivateAggregate(params, EXTRACTORS, accountant, report="")
    assert accountant.stages == 0
