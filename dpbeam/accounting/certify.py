"""The certifier: recomposes finished events to their (ε, δ), and refuses those that cost more than a run may.

Shares no code with the calibration and none with its library: the curves of each mechanism are written here from
their closed forms, discretised by another rule and composed by another method (`dpbeam.accounting.composition`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import special

from dpbeam.accounting import composition
from dpbeam.accounting.unfolding import LEAST_LOSS, NO_PRIVACY, unfold
from dpbeam.errors import Refused, UsageError
from dpbeam.mechanisms import truncated_geometric
from dpbeam.mechanisms.cost_events import Event, Nested
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)

_ROUNDING = 1e-9
_MOST_OF_A_ROUND = 1 << 16
_MOST_OF_A_GAUSSIAN = 1 << 24
"""Numbers that one unit moves by one Gaussian mechanism: for so many `unfolding._undrawn` is enough."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """ε at the run's δ, by three methods. Each is an upper bound by itself, so the least of them is the cost."""

    naive: float
    rdp: float
    pld: float

    @property
    def epsilon(self) -> float:
        return min(self.naive, self.rdp, self.pld)

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def certify_events(events: Sequence[Event], *, epsilon: float, delta: float) -> Certificate:
    """Recomposes the events from their mechanisms' final parameters and refuses them above (ε, δ).

    Guarantee: if it returns, the events together are (min(certificate), δ)-DP for one privacy unit added or removed,
    provided that they are what happens: that the mechanisms' stated sensitivities hold (`check_plan` recomputes those
    of a plan from its bounds), and that samples are drawn as `PoissonSampled` defines them.

    Raises:
        Refused: ε or δ out of range; no event; a mechanism that contradicts itself; a sample that holds what has no
            cost here; the δs of the selections reach the run's δ; or every method gives more than ε.
    """
    if isinstance(epsilon, bool) or not (isinstance(epsilon, float | int) and 0 < epsilon < math.inf):
        raise Refused(f"a certificate needs a positive finite epsilon, got {epsilon!r}")
    if isinstance(delta, bool) or not (isinstance(delta, float | int) and 0 < delta < 1):
        raise Refused(f"a certificate needs a delta above 0 and below 1, got {delta!r}")
    if not isinstance(events, Sequence):
        raise Refused("a certificate needs a list of events (dpbeam.events); of a single one, a list of that")
    unknown = [event for event in events if not isinstance(event, Event)]
    if unknown:
        raise Refused(f"no privacy loss is known of {type(unknown[0]).__name__}: events are those of dpbeam.events")
    if not events:
        raise Refused("a certificate needs at least one mechanism: nothing is released")
    unfolded = unfold(events)
    losses, failures, undrawn = unfolded.losses, unfolded.failures, unfolded.undrawn
    for mechanism in unfolded.mechanisms:
        check_consistent(mechanism)
    left = (delta - failures - undrawn) * (1 - _ROUNDING)
    if delta > failures and left <= 0:
        raise Refused(
            f"what is drawn differs from Gaussian noise with probability {undrawn:.3g}, which together with the "
            f"selections' {failures:.3g} reaches the run's delta, {delta:.6g}; raise the run's delta, lower its "
            "epsilon, or use laplace noise"
        )
    if left <= 0:
        raise Refused(
            f"the selections alone fail with probability {failures:.6g}, but the run may spend delta {delta:.6g}; "
            "raise the run's delta or drop a selection"
        )
    if not losses.size < NO_PRIVACY:
        raise Refused(f"the mechanisms cost epsilon {NO_PRIVACY:.0f} or more, but the run may spend {epsilon:.6g}")
    certificate = Certificate(
        naive=composition.naive_epsilon(losses, left),
        rdp=composition.rdp_epsilon(losses, left),
        pld=composition.pld_epsilon(losses, left),
    )
    if not certificate.epsilon <= epsilon * (1 + _ROUNDING):
        remedy = (
            "add noise to events of your own; a plan that dpbeam made is not safe to run, report it as a fault in the "
            "calibration"
        )
        if any(isinstance(event, Nested) for event in events):
            remedy = "add noise, repeat less, or take samples with a smaller probability"
        elif LEAST_LOSS in (*losses.gaussian, *losses.laplace, *losses.worst):
            remedy = f"a mechanism counts as {LEAST_LOSS} at least, so raise epsilon, or ask for fewer metrics"
        raise Refused(
            f"the mechanisms cost epsilon {certificate.epsilon:.6g} at delta {delta:.6g}, but the run may spend "
            f"{epsilon:.6g}; {remedy}"
        )
    return certificate


def check_consistent(mechanism: Mechanism) -> None:
    """Refuses a selection whose sensitivity or threshold doesn't give the δ that it states, and noise on others that is
    too little for what it states of one of them."""
    where = f"stage {mechanism.stage}, {mechanism.metric}"
    match mechanism:
        case LaplaceThresholding():
            expected, stated, name = float(mechanism.l0), mechanism.l1, "l1"
            margin = (mechanism.threshold - 1) / mechanism.scale
            tail = math.exp(-margin) / 2 if margin >= 0 else 1 - math.exp(margin) / 2
        case GaussianThresholding():
            expected, stated, name = mechanism.l0**0.5, mechanism.l2, "l2"
            tail = float(special.ndtr(-(mechanism.threshold - 1) / mechanism.sigma))
            if mechanism.l0 > _MOST_OF_A_GAUSSIAN:
                raise Refused(
                    f"{where}: l0 must be at most {_MOST_OF_A_GAUSSIAN} with gaussian noise, got {mechanism.l0}"
                )
        case WeightedThresholding():
            _check_round(where, mechanism)
            return
        case Laplace() | Gaussian():
            _check_other(where, mechanism)
            return
        case TruncatedGeometric():
            try:
                truncated_geometric.check(mechanism)
            except UsageError as error:
                raise Refused(str(error)) from None
            return
        case _:
            raise Refused(f"no privacy loss is known of {mechanism!r}")
    if not stated >= expected * (1 - 1e-12):
        raise Refused(f"{where}: {name} must be at least {expected:.6g} for l0 {mechanism.l0}, got {stated:.6g}")
    failure = -math.expm1(mechanism.l0 * math.log1p(-tail)) if tail < 1 else 1.0
    if not failure <= mechanism.delta * (1 + 1e-6):
        raise Refused(
            f"{where}: a threshold of {mechanism.threshold:.6g} shows a lone unit with probability {failure:.6g}, but "
            f"the mechanism states delta {mechanism.delta:.6g}"
        )


def _check_other(where: str, mechanism: Laplace | Gaussian) -> None:
    """Refuses noise on others of hierarchical keys with which one unit, all in one `other`, moves the values further
    than stated."""
    other = mechanism.other
    if other is None:
        return
    most = mechanism.l1 if isinstance(mechanism, Laplace) else mechanism.l2
    moved = other.most / other.noise
    if not moved <= most * (1 + _ROUNDING):
        raise Refused(
            f"{where}: at {other.noise:.6g} times a leaf's noise one other moves by {moved:.6g} against it, more than "
            f"the stated {most:.6g}"
        )


def _check_round(where: str, mechanism: WeightedThresholding) -> None:
    """Refuses a round of a selection by weights whose fields don't give its l2 sensitivity and its δ.

    Of t partitions that one unit makes eligible, none weighs more than √(1/(1 + (t − 1)·b²) + (l0 − t)/D²): the unit's
    own share by biases of at least b, and what it sends on, 1/D of what it gets back (docs/accounting.md).
    """
    l0, bias = mechanism.l0, mechanism.least_bias
    if not mechanism.l2 >= 1:
        raise Refused(f"{where}: l2 must be at least 1 for shares of norm 1, got {mechanism.l2:.6g}")
    if l0 > _MOST_OF_A_ROUND:
        raise Refused(f"{where}: l0 must be at most {_MOST_OF_A_ROUND} in a round, got {l0}")
    sends = 0.0
    if mechanism.saturation:
        if not mechanism.saturation >= 1:
            raise Refused(f"{where}: a saturation must be at least 1, got {mechanism.saturation:.6g}")
        if l0 > 256:
            raise Refused(f"{where}: l0 must be at most 256 where weight is sent on, got {l0}")
        sends = bias / (2 * l0)
    t = np.arange(1, l0 + 1)
    most = np.hypot(1 / np.sqrt(1 + (t - 1) * bias**2), sends * np.sqrt(l0 - t))
    tails = special.ndtr(-(mechanism.threshold - most) / mechanism.sigma)
    failure = float(np.max(-np.expm1(t * np.log1p(-np.minimum(tails, 1 - 2.0**-53)))))
    if not failure <= mechanism.delta * (1 + 1e-6):
        raise Refused(
            f"{where}: a threshold of {mechanism.threshold:.6g} shows a lone unit with probability {failure:.6g}, but "
            f"the mechanism states delta {mechanism.delta:.6g}"
        )
