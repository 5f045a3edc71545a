"""What an aggregation did, step by step, in the form of PipelineDP's explain-computation reports.

report = ExplainComputationReport()
engine.aggregate(rows, params, extractors, out_explain_computation_report=report)
accountant.compute_budgets()
print(report.text())
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_dp import report_generator
from pipeline_dp.aggregate_params import parameters_to_readable_string

from dpbeam.adapters.pipelinedp.accountant import SharedBudgetAccountant, StageBudget
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import (
    Additive,
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
)
from dpbeam.mechanisms.noise_width import std
from dpbeam.queries.bounds import Bounds

ExplainComputationReport = report_generator.ExplainComputationReport
"""PipelineDP's container of one report, which an aggregation fills. (PipelineDP 0.3.1 forgot to export it.)"""

_NOISED = {
    "count": "number of rows",
    "privacy_id_count": "number of privacy ids",
    "sum": "sum",
    "mean.sum": "sum of distances from {middle:g}, the middle of the bounds on values",
    "variance.sum": "sum of distances from {middle:g}, the middle of the bounds on values",
    "variance.squares": "sum of squared distances from {middle:g}, each less {shift:g}",
    "vector_sum": "sum of vectors, number by number",
    "percentiles.tree": "quantile tree (row counts at 4 levels of 16 branches between the bounds on values)",
}
"""What a mechanism's noise is added to, by the mechanism's `metric`."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One call of our engine. `public` is the number of public partitions, None where they are selected privately.

    Guarantee: the text depends on the parameters and the mechanisms alone, so it tells nothing of the rows.
    """

    method: str
    params: Any
    budget: StageBudget
    accountant: SharedBudgetAccountant
    public: int | None

    def report(self) -> str:
        """The report's text, with the mechanisms as they are drawn.

        Raises:
            UsageError: `compute_budgets` hasn't run yet.
        """
        steps = [*self._bounding(), *map(self._step, self.budget.mechanisms), *self._ending()]
        return "\n".join(
            [
                f"DPEngine method: {self.method}",
                parameters_to_readable_string(self.params, self.public is not None),
                "Computation graph:",
                *(f" {number}. {step}" for number, step in enumerate(steps, 1)),
            ]
        )

    def _bounding(self) -> Iterator[str]:
        read = (
            ", partition key or value"
            if self.budget.stage.metrics and _reads_values(self.params)
            else " or partition key"
        )
        yield f"Leave out each row whose privacy id{read} is None, NaN or infinite"
        if self.public is not None:
            yield f"Leave out rows of other partitions than the {self.public} public ones, all of which are shown"
        yield f"Contribution bounding: for each privacy id, randomly select at most {_bound(self.budget.stage.bounds)}"
        yield from _clamping(self.params)

    def _step(self, mechanism: Mechanism) -> str:
        if isinstance(mechanism, Laplace | Gaussian):
            return f"Add {_noise(mechanism)} to each partition's {self._noised(mechanism)}{_moved(mechanism)}"
        return f"Private partition selection: {_selection(mechanism)}"

    def _noised(self, mechanism: Additive) -> str:
        low, high = (getattr(self.params, name, None) for name in ("min_value", "max_value"))
        if low is None or high is None:
            return _NOISED[mechanism.metric]
        middle, half = low + (high - low) / 2, (high - low) / 2
        return _NOISED[mechanism.metric].format(middle=middle, shift=half**2 / 2)

    def _ending(self) -> Iterator[str]:
        asked = [str(metric) for metric in getattr(self.params, "metrics", ())]
        if self.budget.stage.shares_count and "PRIVACY_ID_COUNT" in asked:
            yield "PRIVACY_ID_COUNT is the noisy number of privacy ids by which partitions are selected"
        if asked:
            yield f"Compute {', '.join(asked)} from these noisy numbers alone"
        epsilon, delta, stages = (
            self.accountant.certificate.epsilon,
            self.accountant.total_delta,
            self.accountant.stages,
        )
        together = "This aggregation is" if stages == 1 else f"All {stages} aggregations of the accountant together are"
        yield f"{together} (eps={epsilon:.6g}, delta={delta:.6g})-differentially private"


def fill(container: Any, explanation: Explanation) -> None:
    """Makes `container` give the explanation's text, once the budgets are computed."""
    container._set_report_generator(explanation)


def check_container(container: Any) -> None:
    """Checks that a report can be put into `container`.

    Raises:
        UsageError: it is no ExplainComputationReport.
    """
    if not isinstance(container, ExplainComputationReport):
        raise UsageError(
            "out_explain_computation_report must be a dpbeam.adapters.pipelinedp.ExplainComputationReport() (which is "
            f"PipelineDP's own) or None, got {type(container).__name__}"
        )


def _reads_values(params: Any) -> bool:
    return any(str(metric) not in ("COUNT", "PRIVACY_ID_COUNT") for metric in getattr(params, "metrics", ()))


def _bound(bounds: Bounds) -> str:
    if bounds.l1 is not None:
        return _many(bounds.l1, "row")
    rows = "" if bounds.linf is None else f", and in each at most {_many(bounds.linf, 'row')}"
    return f"{_many(bounds.partitions, 'partition')}{rows}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _clamping(params: Any) -> Iterator[str]:
    asked: Sequence[str] = [str(metric) for metric in getattr(params, "metrics", ())]
    if getattr(params, "min_sum_per_partition", None) is not None and "SUM" in asked:
        low, high = params.min_sum_per_partition, params.max_sum_per_partition
        yield f"Clamp the sum of each privacy id in each partition to [{low:g}, {high:g}]"
    elif "VECTOR_SUM" in asked:
        norm, most = params.vector_norm_kind.value, params.vector_max_norm
        yield f"Shorten each vector until its {norm} norm is at most {most:g}"
    elif set(asked) - {"COUNT", "PRIVACY_ID_COUNT"}:
        yield f"Clamp each value to [{params.min_value:g}, {params.max_value:g}]"


def _noise(noise: Additive) -> str:
    if isinstance(noise, Laplace):
        return f"Laplace noise of scale {noise.scale:.6g} (standard deviation {std(noise):.6g})"
    return f"Gaussian noise of standard deviation {noise.sigma:.6g}"


def _moved(noise: Additive) -> str:
    if isinstance(noise, Laplace):
        by_itself = f"; by itself this costs eps={noise.l1 / noise.scale:.6g}"
        return f"; one privacy id moves all partitions by at most {noise.l1:.6g} together{by_itself}"
    return f"; one privacy id moves all partitions by at most {noise.l2:.6g} together, in l2"


def _selection(mechanism: Mechanism) -> str:
    least = getattr(mechanism, "pre_threshold", 1)
    never = "" if least == 1 else f"; a partition of fewer than {least} privacy ids is never kept"
    less = "" if least == 1 else f", less {least - 1}"
    match mechanism:
        case TruncatedGeometric():
            kept = f"Truncated Geometric with (eps={mechanism.epsilon:.6g}, delta={mechanism.delta:.6g})"
            return f"{kept} for all partitions of a privacy id together{never}"
        case LaplaceThresholding():
            noise = f"Laplace noise of scale {mechanism.scale:.6g}"
        case GaussianThresholding():
            noise = f"Gaussian noise of standard deviation {mechanism.sigma:.6g}"
        case _:
            raise UsageError(f"no words for a selection of kind {mechanism.kind}")
    return (
        f"keep a partition if its number of privacy ids{less}, plus {noise}, is at least {mechanism.threshold:.6g} "
        f"(delta={mechanism.delta:.6g}){never}"
    )
