"""What a metric needs noise for, as it is derived from the metric's own fields."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

from dpbeam.errors import Refused
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.query import Stage

Mover = Literal["row", "unit", "total", "value"]
"""What moves it once: each row; each unit in each partition; what a unit's rows add up to there; each value of a
unit's there."""


@dataclass(frozen=True, kw_only=True)
class ExpectedQuantity:
    """One noisy quantity: `what` it is, whichever metrics need it; its `name`; the change that one of what it is
    `moved_by` makes, in l1 and in l2; and its weight.

    What is moved by values has the most values that a unit counts for in a partition, and, where a threshold on the
    noisy counts decides which values are kept, the least units that a value must have.
    """

    what: tuple[object, ...]
    name: str
    l1: float
    l2: float
    weight: float
    moved_by: Mover = "row"
    max_values: int | None = None
    least_units: int | None = None


@singledispatch
def expected_quantities(metric: Metric, stage: Stage) -> Iterator[ExpectedQuantity]:
    """All that a metric of the stage needs.

    Raises:
        Refused: it can't be bounded in this stage, or no mechanism is known for it.
    """
    raise Refused(f"stage metric {metric.name}: no mechanism is known for {metric.kind}")


def clip(metric: Clipped) -> tuple[float, float, str]:
    """The clipping bounds, and which of them the run finds: what it finds is shared with its like alone.

    Raises:
        Refused: the values aren't bounded.
    """
    if not -math.inf < metric.low < metric.high < math.inf:
        raise Refused("the values of a metric must be bounded")
    return metric.low, metric.high, "".join(side for side, _ in metric.searches)


def row_count(weight: float) -> ExpectedQuantity:
    """The number of rows, which other metrics may share."""
    return ExpectedQuantity(what=("count",), name="count", l1=1.0, l2=1.0, weight=weight)
