"""What a stage needs noise for in, the requests for its mechanisms out, by the rule that all plans share out noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dpbeam.accounting.requests import Request
from dpbeam.mechanisms.quantities import Bounds, Quantity, noisy_by_themselves


def stage_requests(
    stage: str,
    needed: Sequence[Quantity],
    limits: Bounds,
    *,
    noise: Any,
    strategy: Any,
    pre_threshold: int,
    weight: float,
    selection_weight: float = 1.0,
) -> tuple[Request, ...]:
    """One request for the selection, if any, and each quantity with noise of its own; their weights sum to `weight`.

    A thresholding selection has the weight of a unit count that it serves, too.
    """
    whole = math.fsum([*(q.weight for q in needed), *([selection_weight] if strategy else [])])
    unit = weight / whole
    alone = noisy_by_themselves(needed, strategy)
    found = []
    if strategy is not None:
        served = math.fsum(q.weight for q in needed if q not in alone)
        found.append(
            Request(
                stage=stage,
                metric="partitions",
                kind=strategy,
                weight=(selection_weight + served) * unit,
                l0=limits.partitions,
                pre_threshold=pre_threshold,
            )
        )
    for quantity in alone:
        l1, l2 = quantity.sensitivity(limits)
        found.append(
            Request(stage=stage, metric=quantity.name, kind=noise, weight=quantity.weight * unit, l1=l1, l2=l2)
        )
    return tuple(found)
