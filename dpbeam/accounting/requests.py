"""What the plan is asked for, one value a mechanism: what it protects and its weight, before any noise is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Other, WeightedStrategy

Kind = Literal[
    "laplace",
    "gaussian",
    "truncated_geometric",
    "laplace_thresholding",
    "gaussian_thresholding",
    "weighted_thresholding",
]
LEAST_DELTA = 1e-300
SELECTIONS = frozenset(
    {"truncated_geometric", "laplace_thresholding", "gaussian_thresholding", "weighted_thresholding"}
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Asks for one mechanism: one unit moves the values that get noise, over all partitions, by `l1` and by `l2`.

    `weight` is relative to all requests that are calibrated together; it need not sum to anything. A selection
    counts privacy units, and one unit is in at most `l0` partitions, so it has no `l1` and `l2` of its own;
    `pre_threshold` is 1 for no pre-threshold. Noise has neither `l0` nor `pre_threshold`. A round of a selection by
    weights has a `strategy`, and `least_bias` where it has biases; a unit moves its weights by l2 = 1. Noise of
    hierarchical keys has an `other`, by which values of others are divided before `l2` is taken.
    """

    stage: str
    metric: str
    kind: Kind
    weight: float
    l1: float | None = None
    l2: float | None = None
    l0: int = 1
    pre_threshold: int = 1
    strategy: WeightedStrategy | None = None
    least_bias: float = 1.0
    other: Other | None = None

    def __post_init__(self) -> None:
        where = f"stage {self.stage}, {self.metric}"
        if self.kind not in get_args(Kind):
            raise UsageError(f"{where}: kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        needed: list[tuple[str, float | None]] = [("weight", self.weight)]
        if not self.is_selection:
            needed += [("l1", self.l1), ("l2", self.l2)]
        for name, value in needed:
            check_positive(f"{where}: {name}", value)
        for name, count in (("l0", self.l0), ("pre_threshold", self.pre_threshold)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise UsageError(f"{where}: {name} must be a whole number of at least 1, got {count!r}")
        if self.is_selection and (self.l1, self.l2) != (None, None):
            raise UsageError(f"{where}: a selection counts units, so it has l0, not l1 and l2")
        if not self.is_selection and (self.l0, self.pre_threshold) != (1, 1):
            raise UsageError(f"{where}: only a selection has l0 and pre_threshold")
        if (self.kind == "weighted_thresholding") == (self.strategy is None):
            raise UsageError(f"{where}: a weighted_thresholding, and nothing else, has a strategy")
        if self.is_selection and self.other is not None:
            raise UsageError(f"{where}: a selection looks at leaves, so it has no other")
        if not 0 < self.least_bias <= 1:
            raise UsageError(f"{where}: least_bias must be above 0 and at most 1, got {self.least_bias!r}")

    @property
    def is_selection(self) -> bool:
        return self.kind in SELECTIONS

    @property
    def sensitivity(self) -> tuple[float, float]:
        """(l1, l2) of the values that get noise."""
        if self.kind == "weighted_thresholding":
            return math.sqrt(self.l0), 1.0
        if self.l1 is None or self.l2 is None:
            return float(self.l0), math.sqrt(self.l0)
        return float(self.l1), float(self.l2)


def check_positive(name: str, value: object) -> None:
    """Refuses what isn't a number above 0, and finite.

    Raises:
        UsageError: it isn't.
    """
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 < value < math.inf:
        raise UsageError(f"{name} must be a positive finite number, got {value!r}")


def check_target(epsilon: float, delta: float) -> None:
    """Refuses a run's (ε, δ) that no plan can rest on.

    Raises:
        UsageError: ε isn't a positive finite number, or δ isn't above 0 and below 1.
    """
    check_positive("epsilon", epsilon)
    if isinstance(delta, bool) or not isinstance(delta, float | int) or not 0 < delta < 1:
        raise UsageError(f"delta must be above 0 and below 1, got {delta!r}; a common choice is 1e-8")
    if not delta >= LEAST_DELTA:
        raise UsageError(f"delta must be at least {LEAST_DELTA}, got {delta!r}: below it floats mean nothing")
