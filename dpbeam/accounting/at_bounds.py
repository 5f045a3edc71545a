"""The mechanisms of a stage at other bounds, each with the privacy loss that a plan gave it.

Bounds change what a unit may move, not what it costs: noise multiplier and δ of every mechanism follow from weights
alone. So a finished plan says, without another calibration, which noise and which threshold a stage would have.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpbeam.accounting.mechanism_at import with_loss_of
from dpbeam.accounting.stage_requests import stage_requests
from dpbeam.mechanisms.events import Mechanism
from dpbeam.queries.query import Stage


def at_bounds(stage: Stage, planned: Sequence[Mechanism]) -> tuple[Mechanism, ...]:
    """The mechanisms that the stage, with the bounds that it has here, needs: at the losses of those `planned` for it
    at other bounds. They are what `plan` makes of it, up to rounding.

    Raises:
        KeyError: no mechanism was planned for something that the stage needs.
        UsageError: one unit moves more than a Gaussian sampler is counted for.
    """
    known = {(mechanism.stage, mechanism.metric): mechanism for mechanism in planned}
    return tuple(with_loss_of(known[request.stage, request.metric], request) for request in stage_requests(stage))
