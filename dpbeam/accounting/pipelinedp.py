"""PipelineDP's requests and our stages' in, one calibration for both out: a `BudgetAccountant` that both sides use.

It fills each of PipelineDP's specs with an (ε, δ), never a standard deviation: PipelineDP's engine then applies its
own sensitivities, and every kind of mechanism there is built from (ε, δ) correctly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pipeline_dp
from pipeline_dp.budget_accounting import MechanismSpec, MechanismSpecInternal

from dpbeam.accounting.certify import Certificate, certify
from dpbeam.accounting.composition import gaussian_delta, gaussian_epsilon
from dpbeam.accounting.plan import solve
from dpbeam.accounting.requests import SELECTIONS, Kind, Request, check_positive, check_target
from dpbeam.errors import UsageError
from dpbeam.mechanisms import randomness
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    WeightedThresholding,
)

_STAGE = "pipeline_dp"
# By name, since PipelineDP 0.2 and 0.3 keep the enumeration in different modules.
_KINDS: dict[str, Kind] = {
    "LAPLACE": "laplace",
    "GAUSSIAN": "gaussian",
    "LAPLACE_THRESHOLDING": "laplace_thresholding",
    "GAUSSIAN_THRESHOLDING": "gaussian_thresholding",
    "TRUNCATED_GEOMETRIC": "truncated_geometric",
    "GENERIC": "truncated_geometric",
}
# PipelineDP's variance and quantiles divide their (ε, δ) evenly over up to this many Gaussians.
_MOST_PARTS = 4
_MOST_EPSILON = 700.0
"""Of a Gaussian's (ε, δ): from 710 on, where floats no longer hold e^ε, PyDP 1.1.5 builds one with no noise at all."""


class StageBudget:
    """What `add_stage_requests` promises: the stage's mechanisms, once the budgets are computed."""

    def __init__(self, requests: tuple[Request, ...]) -> None:
        self.requests = requests
        self._mechanisms: tuple[Mechanism, ...] | None = None

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """In the order of the requests.

        Raises:
            UsageError: `compute_budgets` hasn't run yet.
        """
        if self._mechanisms is None:
            raise UsageError("the stage's mechanisms are not known yet: call compute_budgets() first")
        return self._mechanisms


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One spec of PipelineDP's, and the request that stands for each of its `count` applications."""

    internal: Any
    request: Request

    @property
    def count(self) -> int:
        return int(self.internal.mechanism_spec.count)


class SharedBudgetAccountant(pipeline_dp.NaiveBudgetAccountant):  # type: ignore[misc]
    """A PipelineDP accountant whose budget our stages share.

    It is a `NaiveBudgetAccountant` to PipelineDP's engine, since that is how the engine knows that specs carry
    (ε, δ); nothing is composed naively.

    Guarantee: all mechanisms of both sides are (`total_epsilon`, `total_delta`)-DP together, if each custom combiner
    adds noise of the type that it asks for (or asks for GENERIC and is (ε, δ)-DP), `count` times at most.
    """

    def __init__(
        self,
        total_epsilon: float,
        total_delta: float,
        num_aggregations: int | None = None,
        aggregation_weights: list[float] | None = None,
    ) -> None:
        check_target(total_epsilon, total_delta)
        super().__init__(total_epsilon, total_delta, num_aggregations, aggregation_weights)
        self._stages: list[StageBudget] = []
        self._composed: tuple[Mechanism, ...] = ()
        self._certificate: Certificate | None = None

    def add_stage_requests(
        self, requests: Sequence[Request], *, aggregation_weight: float | None = None
    ) -> StageBudget:
        """Registers the mechanisms of a stage of ours; they are known after `compute_budgets`.

        A stage that stands for an aggregation of PipelineDP's gives its `aggregation_weight`, and counts as one of
        those that the constructor was told of.

        Raises:
            UsageError: called after `compute_budgets`, within a scope, or with no request.
        """
        randomness.own()  # PipelineDP draws by itself; a process that is forked from this one is seen to as it is made
        self._check_open()
        if self._scopes_stack:
            raise UsageError(
                "an aggregation of dpbeam's must stand outside of the accountant's scopes: give its weight as "
                "budget_weight, or in the requests"
            )
        if not requests:
            raise UsageError("add_stage_requests needs at least one request")
        if aggregation_weight is not None:
            self._actual_aggregation_weights.append(aggregation_weight)
        self._stages.append(StageBudget(tuple(requests)))
        return self._stages[-1]

    def request_budget(
        self,
        mechanism_type: Any,
        sensitivity: float = 1,
        weight: float = 1,
        count: int = 1,
        noise_standard_deviation: float | None = None,
        name: str = "",
    ) -> Any:
        """PipelineDP's entry point: a spec whose ε and δ are filled in by `compute_budgets`.

        Raises:
            UsageError: called after `compute_budgets`, or something this accountant can't promise is asked for.
        """
        self._check_open()
        if noise_standard_deviation is not None:
            raise UsageError("noise_standard_deviation can't be asked for: the noise follows from the budget; omit it")
        if isinstance(sensitivity, bool) or not isinstance(sensitivity, float | int) or sensitivity != 1:
            raise UsageError(f"sensitivity must be 1, got {sensitivity!r}: scale the noise made from eps and delta")
        check_positive("weight", weight)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UsageError(f"count must be a whole number of at least 1, got {count!r}")
        if getattr(mechanism_type, "name", None) not in _KINDS:
            raise UsageError(f"mechanism_type must be one of {', '.join(_KINDS)}, got {mechanism_type!r}")
        spec = MechanismSpec(mechanism_type=mechanism_type, _count=count)
        if hasattr(spec, "name"):
            spec.name = name
        self._register_mechanism(MechanismSpecInternal(mechanism_spec=spec, sensitivity=1, weight=weight))
        return spec

    def compute_budgets(self) -> None:
        """Calibrates everything asked for, in one go, and fills in all specs and stages.

        Raises:
            UsageError: called within a scope, or twice.
            Refused: nothing was asked for, or no noise scale passes the certifier; nothing is filled in then.
        """
        randomness.own()  # PipelineDP draws by itself; a process that is forked from this one is seen to as it is made
        self._check_open()
        if self._scopes_stack:
            raise UsageError("compute_budgets must be called outside of a scope")
        self._check_aggregation_restrictions()
        self._finalize()
        asked = [
            _Asked(internal=internal, request=_request(number, internal))
            for number, internal in enumerate(self._mechanisms)
        ]
        requests = [one.request for one in asked for _ in range(one.count)]
        requests += [request for stage in self._stages for request in stage.requests]
        composed: tuple[Mechanism, ...] = ()

        def check(found: tuple[Mechanism, ...]) -> Certificate:
            nonlocal composed
            composed = tuple(_really_applied(mechanism) for mechanism in found)
            return certify(composed, epsilon=self._total_epsilon, delta=self._total_delta)

        found, self._certificate = solve(requests, check, self._total_epsilon, self._total_delta)
        self._composed = composed
        rest = iter(found)
        for one in asked:
            mechanisms = [next(rest) for _ in range(one.count)]
            one.internal.mechanism_spec.set_eps_delta(*epsilon_delta(mechanisms[0]))
        for stage in self._stages:
            stage._mechanisms = tuple(next(rest) for _ in stage.requests)

    @property
    def stages(self) -> int:
        """How many stages of ours were registered."""
        return len(self._stages)

    @property
    def certificate(self) -> Certificate:
        """Of all mechanisms of both sides together.

        Raises:
            UsageError: `compute_budgets` hasn't run yet.
        """
        if self._certificate is None:
            raise UsageError("the certificate is not known yet: call compute_budgets() first")
        return self._certificate

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """All that was composed: PipelineDP's first (per unit of sensitivity, once for each count), then ours."""
        return self._composed

    def _check_open(self) -> None:
        if self._finalized:
            raise UsageError("the budgets are computed already: ask for everything before compute_budgets()")


def _request(number: int, internal: Any) -> Request:
    spec = internal.mechanism_spec
    kind = _KINDS[spec.mechanism_type.name]
    metric = f"{number}_{getattr(spec, 'name', '') or spec.mechanism_type.name.lower()}"
    one = None if kind in SELECTIONS else 1.0
    return Request(stage=_STAGE, metric=metric, kind=kind, weight=internal.weight, l1=one, l2=one)


def epsilon_delta(mechanism: Mechanism) -> tuple[float, float]:
    """The (ε, δ) from which PipelineDP builds a mechanism with at least this noise, and at most this failure."""
    match mechanism:
        case Laplace():
            return mechanism.l1 / mechanism.scale, 0.0
        case LaplaceThresholding():
            return mechanism.l1 / mechanism.scale, mechanism.delta
        case Gaussian():
            return _gaussian_pair(mechanism.l2 / mechanism.sigma, 1e-6)
        case GaussianThresholding():
            # Half of the δ is the noise's there, half the threshold's.
            epsilon, delta = _gaussian_pair(mechanism.l2 / mechanism.sigma, mechanism.delta)
            return epsilon, 2 * delta
        case WeightedThresholding():
            epsilon, delta = _gaussian_pair(mechanism.l2 / mechanism.sigma, mechanism.delta)
            return epsilon, delta + mechanism.delta
        case _:
            return mechanism.epsilon, mechanism.delta


def _gaussian_pair(mu: float, most: float) -> tuple[float, float]:
    """An (ε, δ) whose least Gaussian has parameter μ, or a smaller one where its ε would be too large for PyDP: δ is
    `most`, or less where ε would be too near zero."""
    epsilon = float(gaussian_epsilon(np.array([mu]), most)[0])
    if epsilon >= mu / 10:
        return min(epsilon, _MOST_EPSILON), most
    return mu / 10, min(most, float(gaussian_delta(np.array([mu]), np.array([mu / 10]))[0]))


def _really_applied(mechanism: Mechanism) -> Mechanism:
    """What PipelineDP may make of the spec at worst: some metrics share a Gaussian's (ε, δ) out over several."""
    if not isinstance(mechanism, Gaussian) or mechanism.stage != _STAGE:
        return mechanism
    epsilon, delta = epsilon_delta(mechanism)
    worst = max(math.sqrt(parts) * _gaussian_mu(epsilon / parts, delta / parts) for parts in range(1, _MOST_PARTS + 1))
    return replace(mechanism, sigma=mechanism.l2 / max(worst, mechanism.l2 / mechanism.sigma))


def _gaussian_mu(epsilon: float, delta: float) -> float:
    """The greatest parameter μ of a Gaussian that is (ε, δ)-DP, from above."""
    low, high = 0.0, 2 * math.sqrt(epsilon) + 2 * epsilon + 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if float(gaussian_delta(np.array([middle]), np.array([epsilon]))[0]) <= delta:
            low = middle
        else:
            high = middle
    return high
