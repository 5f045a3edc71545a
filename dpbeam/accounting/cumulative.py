"""What events of many runs cost together by the methods that compose fixed events: to be reported, never enforced.

Each method's bound holds if the runs and all their parameters were settled before the first result was seen. Where a
run was chosen by the results of earlier ones, only the sums of a meter hold (docs/accounting.md, "Meters").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpbeam.accounting import composition
from dpbeam.accounting.certify import Certificate
from dpbeam.accounting.unfolding import NO_PRIVACY, unfold
from dpbeam.mechanisms.cost_events import Event

VALID_IF_FIXED = "holds if all runs and their parameters were settled before the first result was seen"
VALID_ALWAYS = "holds also where runs were chosen by the results of earlier ones"


def composed(events: Sequence[Event], delta: float) -> Certificate:
    """ε at δ of all the events together by each method; infinite where what they fail with reaches δ.

    Raises:
        Refused: a sample holds what has no cost here, or there are too many events.
    """
    unfolded = unfold(events)
    left = delta - unfolded.failures - unfolded.undrawn
    if left <= 0 or not unfolded.losses.size < NO_PRIVACY:
        return Certificate(naive=math.inf, rdp=math.inf, pld=math.inf)
    return Certificate(
        naive=composition.naive_epsilon(unfolded.losses, left),
        rdp=composition.rdp_epsilon(unfolded.losses, left),
        pld=composition.pld_epsilon(unfolded.losses, left),
    )
