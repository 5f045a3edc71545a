"""Refuses a plan unless its mechanisms are those that its query needs, one to one, and cost no more than it may.

What each mechanism must be is derived a second time, in `dpbeam.accounting.expected`, so that a slip in the plan can't
hide behind itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpbeam.accounting.certify import Certificate, certify_events
from dpbeam.accounting.check_other import check_other
from dpbeam.accounting.expected import Expected, expected
from dpbeam.errors import Refused
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)
from dpbeam.queries.query import Stage

_CLOSE = 1e-9
_ONE_SCALE = 1e-6


def check_plan(
    stages: Sequence[Stage], mechanisms: Sequence[Mechanism], *, epsilon: float, delta: float
) -> Certificate:
    """Certifies the mechanisms, and that they are the ones asked for, in order, on one common noise scale.

    Guarantee: if it returns, the mechanisms are (ε, δ)-DP together, each for the sensitivity that follows from the
    stages' bounds, and no quantity or private selection of the stages is without its mechanism.

    Raises:
        Refused: a mechanism is missing, one too many, out of order, of another kind or sensitivity; the noise or the
            δs don't follow the weights; or `certify` refuses.
    """
    return check_mechanisms(expected(stages), mechanisms, epsilon=epsilon, delta=delta)


def check_mechanisms(
    wanted: Sequence[Expected], mechanisms: Sequence[Mechanism], *, epsilon: float, delta: float
) -> Certificate:
    """As `check_plan`, where what the mechanisms must be has been derived already.

    Guarantee: if it returns, the mechanisms are (ε, δ)-DP together, and one to one those of `wanted`.

    Raises:
        Refused: as `check_plan`.
    """
    names = [f"{e.stage}/{e.metric}" for e in wanted]
    actual = [f"{m.stage}/{m.metric}" for m in mechanisms]
    if names != actual:
        raise Refused(f"the plan must have the mechanisms {', '.join(names)} in this order, got {', '.join(actual)}")
    for want, mechanism in zip(wanted, mechanisms, strict=True):
        _check_one(want, mechanism)
    _check_scale(wanted, mechanisms)
    return certify_events(mechanisms, epsilon=epsilon, delta=delta)


def check_same_losses(before: Sequence[Mechanism], after: Sequence[Mechanism]) -> None:
    """Refuses a plan that a run goes on with unless it is the one it began with, but for bounds and what follows them.

    Guarantee: if it returns, each mechanism has the privacy loss that was fixed before the run, whatever was chosen in
    it: the noise a unit's change is hidden in, against that change, and a selection's ε and δ. So the certificate of
    the first plan holds for mechanisms chosen on the way.

    Raises:
        Refused: a mechanism is gone, new or out of order, or its loss differs.
    """
    names = [[f"{m.stage}/{m.metric}/{m.kind}" for m in mechanisms] for mechanisms in (before, after)]
    if names[0] != names[1]:
        raise Refused(f"the run must go on with the mechanisms {', '.join(names[0])}, got {', '.join(names[1])}")
    for old, new in zip(before, after, strict=True):
        for name, must, is_ in zip(("noise", "delta"), _loss(old), _loss(new), strict=True):
            if not math.isclose(must, is_, rel_tol=_CLOSE):
                raise Refused(
                    f"stage {old.stage}, {old.metric}: its {name} against its sensitivity must stay {must:.12g}, got "
                    f"{is_:.12g}"
                )


def _loss(mechanism: Mechanism) -> tuple[float, float]:
    """What a mechanism's privacy loss depends on: its noise by its sensitivity, or its ε; and its δ."""
    match mechanism:
        case Laplace():
            return mechanism.scale / mechanism.l1, 0.0
        case Gaussian():
            return mechanism.sigma / mechanism.l2, 0.0
        case LaplaceThresholding():
            return mechanism.scale / mechanism.l1, mechanism.delta
        case GaussianThresholding() | WeightedThresholding():
            return mechanism.sigma / mechanism.l2, mechanism.delta
        case TruncatedGeometric():
            return mechanism.epsilon, mechanism.delta
        case _:
            raise Refused(f"no privacy loss is known of {mechanism!r}")


def _check_one(want: Expected, mechanism: Mechanism) -> None:
    where = f"stage {want.stage}, {want.metric}"
    if mechanism.kind != want.kind:
        raise Refused(f"{where}: the mechanism must be {want.kind}, got {mechanism.kind}")
    stated: list[tuple[str, float, float]] = []
    if isinstance(mechanism, Laplace | LaplaceThresholding):
        stated.append(("l1", want.l1, mechanism.l1))
    if isinstance(mechanism, Gaussian | GaussianThresholding):
        stated.append(("l2", want.l2, mechanism.l2))
    if not isinstance(mechanism, Laplace | Gaussian):
        stated.append(("l0", want.l0, mechanism.l0))
        stated.append(("pre_threshold", want.pre_threshold, mechanism.pre_threshold))
    if isinstance(mechanism, WeightedThresholding):
        stated.append(("l2", 1.0, mechanism.l2))
        stated.append(("least_bias", want.least_bias, mechanism.least_bias))
        if mechanism.strategy != want.strategy:
            raise Refused(f"{where}: the strategy must be {want.strategy}, got {mechanism.strategy}")
        if (mechanism.saturation > 0) != (want.strategy != "dp_sips"):
            raise Refused(f"{where}: weights have a saturation in mad and mad2r alone, got {mechanism.saturation:.12g}")
    for name, must, is_ in stated:
        if not math.isclose(must, is_, rel_tol=_CLOSE):
            raise Refused(f"{where}: {name} must be {must:.12g} by the stage's bounds, got {is_:.12g}")
    check_other(where, want.leaves, mechanism)


def _check_scale(wanted: Sequence[Expected], mechanisms: Sequence[Mechanism]) -> None:
    """Refuses weights that reached only some of the mechanisms."""
    scales, shares = [], []
    for want, mechanism in zip(wanted, mechanisms, strict=True):
        match mechanism:
            case Laplace() | LaplaceThresholding():
                deviation = 2**0.5 * mechanism.scale / mechanism.l1
            case Gaussian() | GaussianThresholding() | WeightedThresholding():
                deviation = mechanism.sigma / mechanism.l2
            case TruncatedGeometric():
                deviation = 2**0.5 / mechanism.epsilon
            case _:
                raise Refused(f"no noise is known of {mechanism!r}")
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
