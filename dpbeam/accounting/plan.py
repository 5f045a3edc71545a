"""A policy in, its plan out: every mechanism of a run with its final noise, and the certificate of their cost.

Nothing here reads data: the plan is the same whatever the table holds, so printing it costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpbeam.accounting import utility
from dpbeam.accounting.calibrate import calibrate
from dpbeam.accounting.certify import Certificate
from dpbeam.accounting.check import check_plan
from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused
from dpbeam.mechanisms import events
from dpbeam.mechanisms.events import Mechanism
from dpbeam.mechanisms.spec import quantities
from dpbeam.policy.compile import metrics
from dpbeam.policy.schema import Policy

# The certifier's grid is not the calibration's, so the two may differ in the fourth digit: ask again for a little less.
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
            "version": 1,
            "dataset": self.dataset,
            "policy_digest": self.policy_digest,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "mechanisms": [events.to_json(mechanism) for mechanism in self.mechanisms],
            "certificate": self.certificate.to_json(),
            "utility": self.utility.to_json(),
        }


def plan(policy: Policy) -> Plan:
    """Calibrates all mechanisms of the policy together, and has them checked.

    Guarantee: the plan's mechanisms satisfy the policy's run ε and δ together for one privacy unit, added or removed,
    over all stages, if each stage keeps to its bounds. The checks are `check_plan`'s, which knows nothing of how the
    noise was found.

    Raises:
        Refused: no noise scale passes the certifier.
    """
    epsilon, delta = policy.run.epsilon, policy.run.delta
    mechanisms, certificate = solve(
        requests_for(policy), lambda found: check_plan(policy, found, epsilon=epsilon, delta=delta), epsilon, delta
    )
    rows = utility.utility(mechanisms, {stage.name: metrics(stage) for stage in policy.stages})
    return Plan(
        dataset=policy.dataset,
        policy_digest=policy.digest,
        epsilon=epsilon,
        delta=delta,
        mechanisms=mechanisms,
        certificate=certificate,
        utility=rows,
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
        mechanisms = calibrate(requests, epsilon=epsilon * margin, delta=delta)
        try:
            return mechanisms, check(mechanisms)
        except Refused as refused:
            refusal = refused
    raise refusal


def requests_for(policy: Policy) -> tuple[Request, ...]:
    """One request for each private selection and each noisy quantity, in the order of the policy.

    The weights in a stage are scaled to sum to the stage's weight: adding a metric to a stage makes that stage's
    results noisier, and (but for the common scale, which then has one more to carry) leaves the other stages alone.
    """
    found: list[Request] = []
    for stage in policy.stages:
        needed = quantities(metrics(stage))
        private = stage.partitions.private
        weights = [quantity.weight for quantity in needed] + ([private.weight] if private else [])
        unit = stage.weight / math.fsum(weights)
        if private:
            found.append(
                Request(
                    stage=stage.name,
                    metric="partitions",
                    kind=private.strategy,
                    weight=private.weight * unit,
                    l0=stage.bounds.l0,
                    pre_threshold=private.pre_threshold,
                )
            )
        found.extend(
            Request(
                stage=stage.name,
                metric=quantity.name,
                kind=stage.noise,
                weight=quantity.weight * unit,
                l0=stage.bounds.l0,
                linf_sensitivity=quantity.linf_sensitivity(stage.bounds.linf),
            )
            for quantity in needed
        )
    return tuple(found)
