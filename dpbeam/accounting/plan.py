"""The plan of a query: every mechanism of a run with its final noise, and the certificate of their cost.

Nothing here reads data: the plan is the same whatever the table holds, so printing it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpbeam.accounting import utility
from dpbeam.accounting.automatic import automatic_figures, relative_figures
from dpbeam.accounting.calibrate import calibrate
from dpbeam.accounting.certify import Certificate
from dpbeam.accounting.check import check_plan
from dpbeam.accounting.coverage import coverage_figures
from dpbeam.accounting.requests import LEAST_DELTA, Request
from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.errors import Refused
from dpbeam.mechanisms import events
from dpbeam.mechanisms.events import Mechanism
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity
from dpbeam.queries.query import Query, Question, Stage
from dpbeam.queries.sharing import quantities, served, with_own_noise

SELECTION_NAME = "partition selection"
"""What a plan calls the selection among what a quantity serves."""

# The certifier's grid is not the calibration's, so the two may differ in the fourth digit: ask again for a little less.
# Of δ, too: where ε is small against δ, a mechanism's losses are far above it, so that either grid is coarse against ε
# itself, and the δ at it hardly depends on it.
_MARGINS = (1.0, 0.998, 0.995, 0.99, 0.98)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do and cost, known before it reads a row."""

    dataset: str
    policy_digest: str
    epsilon: float
    delta: float
    mechanisms: tuple[Mechanism, ...]
    certificate: Certificate
    utility: utility.Utility

    def to_json(self) -> dict[str, Any]:
        """The plan as `dpbeam plan --json` prints it."""
        return {
            "version": 2 if any(map(events.others_of, self.mechanisms)) else 1,
            "dataset": self.dataset,
            "policy_digest": self.policy_digest,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "mechanisms": [events.to_json(mechanism) for mechanism in self.mechanisms],
            "certificate": self.certificate.to_json(),
            "utility": self.utility.to_json(),
        }


def plan(query: Query) -> Plan:
    """Calibrates all mechanisms of the query together, and has them checked.

    Bounds that the run chooses stand for the most that they may become until it has.

    Guarantee: the plan's mechanisms satisfy the query's ε and δ together for one privacy unit, added or removed,
    over all stages, if each stage keeps to its bounds. The checks are `check_plan`'s, which knows nothing of how the
    noise was found.

    Raises:
        Refused: no noise scale passes the certifier.
    """
    mechanisms, certificate = mechanisms_for(query)
    figures = utility.utility(mechanisms, {stage.name: stage.metrics for stage in query.stages})
    return Plan(
        dataset=query.dataset,
        policy_digest=query.digest,
        epsilon=query.epsilon,
        delta=query.delta,
        mechanisms=mechanisms,
        certificate=certificate,
        utility=replace(
            figures,
            sharing=_sharing(query, mechanisms),
            automatic=automatic_figures(query),
            relative=relative_figures(query, mechanisms),
            coverage=coverage_figures(query, mechanisms),
        ),
    )


def mechanisms_for(question: Question) -> tuple[tuple[Mechanism, ...], Certificate]:
    """The mechanisms of a question, in the order of `requests_for`, and the certificate of their cost.

    Guarantee: `plan`'s.

    Raises:
        Refused: no noise scale passes the certifier.
    """
    return solve(
        requests_for(question),
        lambda mechanisms: check_plan(question.stages, mechanisms, epsilon=question.epsilon, delta=question.delta),
        question.epsilon,
        question.delta,
    )


def solve(
    requests: Sequence[Request],
    check: Callable[[tuple[Mechanism, ...]], Certificate],
    epsilon: float,
    delta: float,
) -> tuple[tuple[Mechanism, ...], Certificate]:
    """Calibrates, and again for slightly less where the check refuses; its last refusal is final."""
    refusal = Refused("a plan needs at least one mechanism")
    for margin in _MARGINS:
        mechanisms = calibrate(requests, epsilon=epsilon * margin, delta=max(delta * margin, LEAST_DELTA))
        try:
            return mechanisms, check(mechanisms)
        except Refused as refused:
            refusal = refused
    raise refusal


def requests_for(question: Question, *, share: bool = True) -> tuple[Request, ...]:
    """One request for each histogram that bounds are found by, each private selection and each noisy quantity, in the
    order of the question.

    With `share` off, every metric has all its quantities to itself: what a plan would be that doesn't share them.
    """
    return tuple(
        request
        for stage in question.stages
        for request in stage_requests(stage, None if share else [part for _, part in _unshared(stage.metrics)])
    )


def _unshared(stage_metrics: Sequence[Metric]) -> list[tuple[Metric, Quantity]]:
    """Each metric with each of its quantities, under a name of its own."""
    return [
        (metric, replace(part, name=f"{metric.name}/{part.name}"))
        for metric in stage_metrics
        for part in metric.quantities
    ]


def _sharing(query: Query, mechanisms: Sequence[Mechanism]) -> tuple[utility.SharingFigure, ...]:
    """What each quantity that serves several gains by it, against the plan that the query would have without."""
    shared: list[tuple[Stage, Quantity, list[Metric], tuple[str, ...]]] = []
    for stage in query.stages:
        noisy = quantities(stage.metrics)
        users = served(stage.metrics)
        alone = {quantity.name for quantity in with_own_noise(noisy, shares_count=stage.shares_count)}
        for quantity in noisy:
            serves = users[quantity.definition]
            names = (*(() if quantity.name in alone else (SELECTION_NAME,)), *(metric.name for metric in serves))
            if len(names) > 1:
                shared.append((stage, quantity, serves, names))
    if not shared:
        return ()
    with_sharing = utility.noise_of_quantities(mechanisms)
    without = utility.noise_of_quantities(
        calibrate(requests_for(query, share=False), epsilon=query.epsilon, delta=query.delta)
    )
    return tuple(
        utility.SharingFigure(
            stage=stage.name,
            quantity=quantity.name,
            serves=names,
            std=with_sharing[stage.name, quantity.name].std,
            std_unshared=min(
                without[stage.name, part.name].std
                for metric, part in _unshared(serves)
                if part.definition == quantity.definition
            ),
        )
        for stage, quantity, serves, names in shared
    )
