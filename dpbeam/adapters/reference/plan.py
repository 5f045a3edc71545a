"""The plan of a policy for PipelineDP's own engine: what that engine is told, and what it then really draws.

The engine is asked first which mechanisms it will want (a dry run that computes nothing). Our calibration finds their
noise, it is turned into what PipelineDP builds its mechanisms from, they are built as PipelineDP builds them, and what
came of it is read from them. That, with sensitivities derived here a second time, is what is certified and published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import pipeline_dp
from pipeline_dp import dp_computations, partition_selection
from pipeline_dp.budget_accounting import MechanismSpec
from pydp.algorithms.numerical_mechanisms import GaussianMechanism, LaplaceMechanism

from dpbeam.accounting import utility
from dpbeam.accounting.certify import Certificate, certify_events
from dpbeam.accounting.epsilon_delta import epsilon_delta
from dpbeam.accounting.plan import Plan, solve
from dpbeam.accounting.requests import Request
from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.adapters.reference.check import check_reference
from dpbeam.adapters.reference.params import ReferenceCall, reference_call
from dpbeam.adapters.reference.steps import steps
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms import truncated_geometric
from dpbeam.mechanisms.events import (
    Additive,
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    Selection,
    TruncatedGeometric,
)
from dpbeam.mechanisms.noise_width import std
from dpbeam.queries.quantities import Quantity, Squares, Sum
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.sharing import quantities

_GAUSSIAN_DELTA = 1e-6
"""The δ beside which a Gaussian's ε is stated to PyDP; any would do, the noise is the same."""
_SELECTIONS = ("PartitionSelection", "PostAggregationThresholding")


@dataclass(frozen=True, kw_only=True)
class SpecBudget:
    """What PipelineDP is given for one of its specs: (ε, δ), or a standard deviation per unit of sensitivity."""

    name: str
    kind: str
    epsilon: float
    delta: float
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceStage:
    """One stage, ready for PipelineDP's engine: the call, its budgets in the order in which it asks for them, and the
    steps of its noise."""

    spec: StageSpec
    call: ReferenceCall
    budgets: tuple[SpecBudget, ...]
    steps: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ReferencePlan:
    """The plan as any other, and each stage as PipelineDP's engine gets it, in the order of the policy."""

    plan: Plan
    stages: tuple[ReferenceStage, ...]


class PlannedBudgets(pipeline_dp.NaiveBudgetAccountant):
    """The accountant of PipelineDP's engine in a planned run: hands out the plan's budgets, in order, and no other.

    Guarantee: what the engine builds its mechanisms from is what was planned, or it doesn't start.
    """

    def __init__(self, budgets: Sequence[SpecBudget]) -> None:
        super().__init__(1.0, 1e-6)  # satisfies the base; nothing here is computed from a total
        self._left = list(budgets)

    def request_budget(self, mechanism_type: Any, *_: Any, name: str = "", **__: Any) -> Any:
        """The next budget, already filled in.

        Raises:
            Refused: the engine wants something else than in the dry run.
        """
        if not self._left or (self._left[0].name, self._left[0].kind) != (name, mechanism_type.name):
            raise Refused(f"PipelineDP asked for {name} ({mechanism_type.name}), which isn't the next in the plan")
        budget = self._left.pop(0)
        spec = MechanismSpec(mechanism_type=mechanism_type, name=name)
        spec.set_eps_delta(budget.epsilon, budget.delta)
        if budget.std is not None:
            spec.set_noise_standard_deviation(budget.std)
        return spec

    def compute_budgets(self) -> None:
        """Nothing is left to compute.

        Raises:
            Refused: the engine didn't ask for all that was planned.
        """
        if self._left:
            raise Refused(f"PipelineDP didn't ask for {self._left[0].name}, which is in the plan")


def reference_plan(query: Query) -> ReferencePlan:
    """Calibrates, by the query's weights, what PipelineDP's engine will draw for it, and has that checked.

    Guarantee: as for `dpbeam.accounting.plan.plan`; the mechanisms are those that PipelineDP builds, with the
    sensitivities that its sums really have (a variance's squares move by more than it takes into account).

    Raises:
        UsageError: PipelineDP can't do a stage, or does it wrong; or it is older than 0.3.
        Refused: no noise scale passes the certifier.
    """
    if not hasattr(pipeline_dp.NaiveBudgetAccountant, "mechanism_specs"):  # what it will draw can't be asked then
        raise UsageError(
            f"--engine=pipelinedp needs PipelineDP 0.3 or later, got {metadata.version('pipeline-dp')}; use Python "
            "3.11 or later, for which there is one, or leave the option out"
        )
    if any(stage.counted_by is not None for stage in query.stages):
        raise UsageError(
            "source.pre_aggregated: PipelineDP's engine counts every row as one; run without --engine=pipelinedp"
        )
    if any(stage.coverage is not None for stage in query.stages):
        raise UsageError(
            "coverage: PipelineDP's engine doesn't count what becomes of rows; leave the key out, or run without "
            "--engine=pipelinedp"
        )
    epsilon, delta = query.epsilon, query.delta
    calls = [reference_call(stage) for stage in query.stages]
    pairs = list(zip(query.stages, calls, strict=True))
    asked = [_asked(call, public=stage.selection is None) for stage, call in pairs]
    requests: list[Request] = []
    for stage, call in pairs:
        requests += _requests(stage, call)
    drawn: tuple[Mechanism, ...] = ()
    budgets: list[tuple[SpecBudget, ...]] = []

    def check(mechanisms: tuple[Mechanism, ...]) -> Certificate:
        nonlocal drawn, budgets
        by_stage = [[m for m in mechanisms if m.stage == stage.name] for stage in query.stages]
        budgets = [
            tuple(_budget(name, kind, call, wanted) for name, kind in names)
            for call, names, wanted in zip(calls, asked, by_stage, strict=True)
        ]
        drawn = tuple(
            mechanism
            for stage, call, given in zip(query.stages, calls, budgets, strict=True)
            for mechanism in _drawn(stage, call, given)
        )
        check_reference(query, drawn)
        return certify_events(drawn, epsilon=epsilon, delta=delta)

    _, certificate = solve(requests, check, epsilon, delta)
    plan = Plan(
        dataset=query.dataset,
        policy_digest=query.digest,
        epsilon=epsilon,
        delta=delta,
        mechanisms=drawn,
        certificate=certificate,
        utility=utility.utility(drawn, {stage.name: call.folded for stage, call in pairs}),
    )
    stages = tuple(
        ReferenceStage(
            spec=_spec(query, stage, call, drawn),
            call=call,
            budgets=given,
            steps=steps(stage.name, call, [m for m in drawn if m.stage == stage.name]),
        )
        for stage, call, given in zip(query.stages, calls, budgets, strict=True)
    )
    return ReferencePlan(plan=plan, stages=stages)


def _asked(call: ReferenceCall, *, public: bool) -> list[tuple[str, str]]:
    """(name, kind) of the specs that PipelineDP's engine asks for, in its order: a lazy local run of no row."""
    accountant = pipeline_dp.NaiveBudgetAccountant(1.0, 1e-6)
    engine = pipeline_dp.DPEngine(accountant, pipeline_dp.LocalBackend())
    extractors = pipeline_dp.DataExtractors(
        privacy_id_extractor=lambda row: row, partition_extractor=lambda row: row, value_extractor=lambda row: row
    )
    try:
        engine.aggregate([None], call.params, extractors, [None] if public else None)
    except (NotImplementedError, ValueError, TypeError) as error:
        raise UsageError(f"PipelineDP refuses the stage: {error}; run without --engine=pipelinedp") from None
    return [(spec.name, spec.mechanism_type.name) for spec in accountant.mechanism_specs]


def _requests(stage: Stage, call: ReferenceCall) -> Iterator[Request]:
    """Each mechanism that PipelineDP draws, with the query's weights, as in `dpbeam.accounting.plan.requests_for`."""
    needed = {q.name: q for q in quantities(call.folded)}
    requests = stage_requests(replace(stage, metrics=call.folded))
    for request in requests:
        quantity = needed.get(request.metric)
        if not isinstance(quantity, Squares):
            yield request
            continue
        # PipelineDP's noise on squares is proportioned to what it takes their sensitivity for.
        l1, l2 = _sensitivity(quantity, call)
        yield replace(request, l1=l1, l2=l2, weight=request.weight * l1 / _taken_for(quantity, call))


def _sensitivity(quantity: Quantity, call: ReferenceCall) -> tuple[float, float]:
    """As our quantity's, but that PipelineDP adds up squares as they are: each moves the sum by up to reach²."""
    if isinstance(quantity, Squares):
        return call.bounds.of_rows(quantity.reach**2, quantity.reach**2)
    return quantity.sensitivity(call.bounds)


def _taken_for(quantity: Squares, call: ReferenceCall) -> float:
    """The l1 sensitivity that PipelineDP takes the sum of centred squares to have: that of the bounds' squares."""
    low, high = dp_computations.compute_squares_interval(quantity.low, quantity.high)
    return call.bounds.of_rows(float(high - low) / 2, 1.0)[0]


def _budget(name: str, kind: str, call: ReferenceCall, wanted: Sequence[Mechanism]) -> SpecBudget:
    """What to give PipelineDP for a spec, for it to draw at least the noise that is wanted."""
    if name in _SELECTIONS:
        selection = next(m for m in wanted if not isinstance(m, Laplace | Gaussian))
        if isinstance(selection, TruncatedGeometric):
            epsilon, delta = truncated_geometric.pydp_parameters(selection)
        else:
            epsilon, delta = epsilon_delta(selection)
        return SpecBudget(name=name, kind=kind, epsilon=epsilon, delta=delta)
    quantity, sensitivity = next(_parts(name, call))
    mechanism = next(m for m in wanted if isinstance(m, Laplace | Gaussian) and m.metric == quantity.name)
    relative = _as_taken(mechanism, sensitivity)
    epsilon, delta = epsilon_delta(relative)
    if name == "Variance":  # PipelineDP gives each of its three parts a third
        return SpecBudget(name=name, kind=kind, epsilon=3 * epsilon, delta=3 * delta)
    if name in ("VectorSum", "Quantile"):
        return SpecBudget(name=name, kind=kind, epsilon=epsilon, delta=delta)
    return SpecBudget(
        name=name,
        kind=kind,
        epsilon=epsilon,
        delta=delta,
        std=std(relative) / (relative.l1 if isinstance(relative, Laplace) else relative.l2),
    )


def _as_taken(mechanism: Additive, sensitivity: Any) -> Additive:
    """The mechanism with the sensitivity that PipelineDP takes it to have."""
    if isinstance(mechanism, Laplace):
        return replace(mechanism, l1=float(sensitivity.l1))
    return replace(mechanism, l2=float(sensitivity.l2))


def _parts(name: str, call: ReferenceCall) -> Iterator[tuple[Quantity, Any]]:
    """The quantities behind one of PipelineDP's specs, with the sensitivities that it takes them to have."""
    params, by_kind = call.params, {q.kind: q for q in quantities(call.folded)}
    values, limits = params, call.bounds
    count = dp_computations.compute_sensitivities_for_count(values)
    match name:
        case "Count" | "MeanCount":
            yield by_kind["count"], count
        case "PrivacyIdCount":
            yield by_kind["privacy_id_count"], dp_computations.compute_sensitivities_for_privacy_id_count(values)
        case "Sum":
            total = by_kind.get("total") or by_kind["sum"]
            yield total, dp_computations.compute_sensitivities_for_sum(values)
        case "MeanSum":
            yield by_kind["sum"], dp_computations.compute_sensitivities_for_normalized_sum(values)
        case "Variance":
            yield by_kind["sum"], dp_computations.compute_sensitivities_for_normalized_sum(values)
            low, high = dp_computations.compute_squares_interval(params.min_value, params.max_value)
            yield by_kind["squares"], _sensitivities(*limits.of_rows((high - low) / 2, (high - low) / 2))
            yield by_kind["count"], count
        case "Quantile":
            yield by_kind["tree"], _sensitivities(*by_kind["tree"].sensitivity(limits))
        case "VectorSum":
            yield by_kind["vector"], _sensitivities(*by_kind["vector"].sensitivity(limits))
        case _:
            raise Refused(f"PipelineDP asked for {name}, which no plan is known for")


def _sensitivities(l1: float, l2: float) -> Any:
    return dp_computations.Sensitivities(l1=l1, l2=l2)


def _drawn(stage: Stage, call: ReferenceCall, budgets: Sequence[SpecBudget]) -> list[Mechanism]:
    """The mechanisms that PipelineDP builds from its budgets, read from what it builds; the selection first."""
    selections: list[Mechanism] = []
    drawn: dict[str, Mechanism] = {}
    for budget in budgets:
        if budget.name in _SELECTIONS:
            selections.append(_selection(stage, call, budget))
            continue
        share = 3 if budget.name == "Variance" else 1
        for quantity, taken in _parts(budget.name, call):
            noise = _noise(replace(budget, epsilon=budget.epsilon / share, delta=budget.delta / share), taken)
            l1, l2 = _sensitivity(quantity, call)
            if isinstance(noise, LaplaceMechanism):
                drawn[quantity.name] = Laplace(
                    stage=stage.name, metric=quantity.name, scale=noise.diversity, l1=float(l1)
                )
            else:
                drawn[quantity.name] = Gaussian(stage=stage.name, metric=quantity.name, sigma=noise.std, l2=float(l2))
    return [*selections, *(drawn[q.name] for q in quantities(call.folded) if q.name in drawn)]


def _noise(budget: SpecBudget, taken: Any) -> Any:
    """PyDP's mechanism, built as PipelineDP builds it."""
    if budget.std is not None:
        if budget.kind == "LAPLACE":
            return LaplaceMechanism(epsilon=1 / (budget.std / math.sqrt(2)), sensitivity=taken.l1)
        return GaussianMechanism.create_from_standard_deviation(budget.std * taken.l2)
    if budget.kind == "LAPLACE":
        return LaplaceMechanism(epsilon=budget.epsilon, sensitivity=taken.l1)
    return GaussianMechanism(epsilon=budget.epsilon, delta=budget.delta, sensitivity=taken.l2)


def _selection(stage: Stage, call: ReferenceCall, budget: SpecBudget) -> Selection:
    """The selection that PyDP makes of (ε, δ): its threshold is the object's own, δ what that threshold leaves."""
    private = stage.selection
    if private is None:
        raise Refused(f"stage {stage.name}: PipelineDP asked for a selection where partitions are public")
    l0, name = call.bounds.partitions, stage.name
    if budget.kind == "TRUNCATED_GEOMETRIC":
        delta = truncated_geometric.stated_delta(budget.epsilon, budget.delta, l0)
        return TruncatedGeometric(
            stage=name, epsilon=budget.epsilon, delta=delta, l0=l0, pre_threshold=private.pre_threshold
        )
    built = partition_selection.create_partition_selection_strategy(
        call.params.partition_selection_strategy, budget.epsilon, budget.delta, l0
    )
    if budget.kind == "LAPLACE_THRESHOLDING":
        return LaplaceThresholding(
            stage=name,
            scale=l0 / budget.epsilon,
            l1=float(l0),
            threshold=built.threshold,
            delta=budget.delta,
            l0=l0,
            pre_threshold=private.pre_threshold,
        )
    half = budget.delta / 2
    return GaussianThresholding(
        stage=name,
        sigma=GaussianMechanism(epsilon=budget.epsilon, delta=half, sensitivity=math.sqrt(l0)).std,
        l2=math.sqrt(l0),
        threshold=built.threshold,
        delta=half,
        l0=l0,
        pre_threshold=private.pre_threshold,
    )


def _spec(query: Query, stage: Stage, call: ReferenceCall, drawn: Sequence[Mechanism]) -> StageSpec:
    """The stage as results and report know it: each of its own quantities with the noise that it has in the end."""
    own = {m.metric: m for m in drawn if m.stage == stage.name and isinstance(m, Laplace | Gaussian)}
    selection = next((m for m in drawn if m.stage == stage.name and isinstance(m, Selection)), None)
    folded = {q.definition: q for q in quantities(call.folded)}
    noise: dict[str, Additive] = {}
    for quantity in quantities(call.metrics):
        same = folded.get(quantity.definition)
        if same is not None:
            if same.name in own:
                noise[quantity.name] = own[same.name]
        elif isinstance(quantity, Sum):
            noise[quantity.name] = _from_mean(quantity, own, call)
    return StageSpec(
        name=stage.name,
        unit=query.unit,
        keys=stage.keys,
        key_types=stage.key_types,
        placed=stage.placed,
        bounds=call.bounds,
        metrics=call.metrics,
        noise=noise,
        selection=selection,
    )


def _from_mean(quantity: Quantity, own: dict[str, Additive], call: ReferenceCall) -> Additive:
    """Noise as wide as that of a sum that is made from a mean and a count: for reading, it is no event."""
    centred = next(q for q in quantities(call.folded) if isinstance(q, Sum))
    middle = abs(centred.low + (centred.high - centred.low) / 2)
    one, other = own[centred.name], own["count"]
    if isinstance(one, Laplace) and isinstance(other, Laplace):
        return replace(one, metric=quantity.name, scale=math.hypot(one.scale, middle * other.scale))
    if isinstance(one, Gaussian) and isinstance(other, Gaussian):
        return replace(one, metric=quantity.name, sigma=math.hypot(one.sigma, middle * other.sigma))
    raise TypeError("the noise of a stage is of one kind")
