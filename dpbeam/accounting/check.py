"""A policy or requests and finished mechanisms in: refuses the plan unless they match one to one and cost no more.

What each mechanism must be is derived here a second time, from the policy's own fields, so that a slip in the plan
(a forgotten mechanism, a swapped pair, a wrong l0) can't hide behind itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpbeam.accounting.certify import Certificate, certify
from dpbeam.accounting.requests import Request
from dpbeam.errors import Refused
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
)
from dpbeam.policy.schema import Policy, Stage

_CLOSE = 1e-9
_ONE_SCALE = 1e-6


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """What a mechanism must be, whatever its noise. `weight` is up to a factor common to the whole plan."""

    stage: str
    metric: str
    kind: str
    l0: int
    linf: float
    pre_threshold: int
    weight: float


def check_plan(
    asked: Policy | Sequence[Request], mechanisms: Sequence[Mechanism], *, epsilon: float, delta: float
) -> Certificate:
    """Certifies the mechanisms, and that they are the ones asked for, in order, on one common noise scale.

    Guarantee: if it returns, the mechanisms are (ε, δ)-DP together, each for the sensitivity that follows from the
    policy's bounds, and no quantity or private selection of the policy is without its mechanism.

    Raises:
        Refused: a mechanism is missing, one too many, out of order, of another kind or sensitivity; the noise or the
            δs don't follow the weights; or `certify` refuses.
    """
    expected = list(_from_policy(asked) if isinstance(asked, Policy) else _from_requests(asked))
    names = [f"{e.stage}/{e.metric}" for e in expected]
    given = [f"{m.stage}/{m.metric}" for m in mechanisms]
    if names != given:
        raise Refused(f"the plan must have the mechanisms {', '.join(names)} in this order, got {', '.join(given)}")
    for want, mechanism in zip(expected, mechanisms, strict=True):
        _check_one(want, mechanism)
    _check_scale(expected, mechanisms)
    return certify(mechanisms, epsilon=epsilon, delta=delta)


def _check_one(want: _Expected, mechanism: Mechanism) -> None:
    where = f"stage {want.stage}, {want.metric}"
    if mechanism.kind != want.kind:
        raise Refused(f"{where}: the mechanism must be {want.kind}, got {mechanism.kind}")
    found: list[tuple[str, float, float]] = []
    if isinstance(mechanism, Laplace | LaplaceThresholding):
        found.append(("l1", want.linf * want.l0, mechanism.l1))
    if isinstance(mechanism, Gaussian | GaussianThresholding):
        found.append(("l2", want.linf * want.l0**0.5, mechanism.l2))
    if not isinstance(mechanism, Laplace | Gaussian):
        found.append(("l0", want.l0, mechanism.l0))
        found.append(("pre_threshold", want.pre_threshold, mechanism.pre_threshold))
    for name, must, is_ in found:
        if not math.isclose(must, is_, rel_tol=_CLOSE):
            raise Refused(f"{where}: {name} must be {must:.12g} by the policy's bounds, got {is_:.12g}")


def _check_scale(expected: Sequence[_Expected], mechanisms: Sequence[Mechanism]) -> None:
    """Refuses weights that reached only some of the mechanisms."""
    scales, shares = [], []
    for want, mechanism in zip(expected, mechanisms, strict=True):
        match mechanism:
            case Laplace() | LaplaceThresholding():
                deviation = 2**0.5 * mechanism.scale / mechanism.l1
            case Gaussian() | GaussianThresholding():
                deviation = mechanism.sigma / mechanism.l2
            case TruncatedGeometric():
                deviation = 2**0.5 / mechanism.epsilon
        scales.append((deviation * want.weight, want))
        if not isinstance(mechanism, Laplace | Gaussian):
            shares.append((mechanism.delta / want.weight, want))
    for values, what in ((scales, "noise"), (shares, "delta")):
        for value, want in values:
            if not math.isclose(value, values[0][0], rel_tol=_ONE_SCALE):
                raise Refused(
                    f"stage {want.stage}, {want.metric}: its {what} must follow its weight like that of "
                    f"{values[0][1].stage}, {values[0][1].metric}, but it is {value / values[0][0]:.6g} times that"
                )


def _from_requests(requests: Sequence[Request]) -> Iterator[_Expected]:
    for request in requests:
        yield _Expected(
            stage=request.stage,
            metric=request.metric,
            kind=request.kind,
            l0=request.l0,
            linf=float(request.linf_sensitivity),
            pre_threshold=request.pre_threshold,
            weight=request.weight,
        )


def _from_policy(policy: Policy) -> Iterator[_Expected]:
    for stage in policy.stages:
        rows: list[tuple[str, str, float, float, int]] = []
        private = stage.partitions.private
        if private is not None:
            rows.append(("partitions", private.strategy, 1.0, private.weight, private.pre_threshold))
        for name, (sensitivity, weight) in _noisy(stage).items():
            rows.append((name, stage.noise, sensitivity, weight, 1))
        total = math.fsum(weight for _, _, _, weight, _ in rows)
        for name, kind, sensitivity, weight, pre_threshold in rows:
            yield _Expected(
                stage=stage.name,
                metric=name,
                kind=kind,
                l0=stage.bounds.l0,
                linf=sensitivity,
                pre_threshold=pre_threshold,
                weight=stage.weight * weight / total,
            )


def _noisy(stage: Stage) -> dict[str, tuple[float, float]]:
    """What gets noise in a stage, in order of first use: its change by one unit in one partition, its weight."""
    found: dict[str, tuple[float, float]] = {}
    linf = stage.bounds.linf
    for choice in stage.metrics:
        parts: list[tuple[str, float, float]] = []
        if choice.count is not None:
            parts.append(("count", float(linf), choice.count.weight))
        elif choice.privacy_id_count is not None:
            parts.append(("privacy_id_count", 1.0, choice.privacy_id_count.weight))
        elif choice.sum is not None:
            largest = max(abs(choice.sum.low), abs(choice.sum.high))
            parts.append((choice.result_name, linf * largest, choice.sum.weight))
        elif choice.mean is not None:
            half = (choice.mean.high - choice.mean.low) / 2
            parts.append((f"{choice.result_name}.sum", linf * half, choice.mean.weight / 2))
            parts.append(("count", float(linf), choice.mean.weight / 2))
        for name, sensitivity, weight in parts:
            found[name] = (sensitivity, weight + found.get(name, (0.0, 0.0))[1])
    return found
