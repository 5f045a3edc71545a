"""The mechanisms that a plan of these requests would have, nearly: for what is only shown, at a fraction of the time.

The calibration composes by a library that takes longer to load than all else of `dpbeam plan`. Here its search for a
scale goes over the certifier's composition instead, which is NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpbeam.accounting.calibrate import Mix, at_scale, common_scale
from dpbeam.accounting.composition import Losses, pld_epsilon
from dpbeam.accounting.requests import Request
from dpbeam.mechanisms.events import Mechanism


def foreseen(requests: Sequence[Request], *, epsilon: float, delta: float) -> tuple[Mechanism, ...]:
    """As `calibrate`, with a noise scale that is within 1 % of its.

    No run may rest on it: that its two ways to compose share no code is what a certificate is worth. So nothing of this
    is drawn from, and no plan has it.

    Raises:
        UsageError, Refused: as `calibrate`.
    """
    scale = common_scale(requests, epsilon=epsilon, delta=delta, composed=_composed)
    return at_scale(requests, scale, delta=delta)


def _composed(mix: Mix, scale: float, _step: float, delta: float) -> float:
    if delta <= 0:
        return math.inf
    losses = Losses(
        gaussian={mix.mu / scale: 1} if mix.mu else {},
        laplace={e / scale: count for e, count in mix.laplace.items()},
        worst={e / scale: count for e, count in mix.generic.items()},
    )
    by_grids = pld_epsilon(losses, delta)
    return by_grids if mix.mu else min(by_grids, losses.pure_epsilon)
