"""What the plan is asked for, one value a mechanism: what it protects and its weight, before any noise is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dpbeam.errors import UsageError

Kind = Literal["laplace", "gaussian", "truncated_geometric", "laplace_thresholding", "gaussian_thresholding"]
SELECTIONS = frozenset({"truncated_geometric", "laplace_thresholding", "gaussian_thresholding"})


@dataclass(frozen=True, kw_only=True)
class Request:
    """Asks for one mechanism: one unit reaches at most `l0` partitions, each moved by at most `linf_sensitivity`.

    `weight` is relative to all requests that are calibrated together; it need not sum to anything. A selection
    counts privacy units, so its `linf_sensitivity` is 1; `pre_threshold` is 1 for noise and for no pre-threshold.
    """

    stage: str
    metric: str
    kind: Kind
    weight: float
    l0: int
    linf_sensitivity: float = 1.0
    pre_threshold: int = 1

    def __post_init__(self) -> None:
        where = f"stage {self.stage}, {self.metric}"
        if self.kind not in get_args(Kind):
            raise UsageError(f"{where}: kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        for name, value in (("weight", self.weight), ("linf_sensitivity", self.linf_sensitivity)):
            if isinstance(value, bool) or not isinstance(value, float | int) or not 0 < value < math.inf:
                raise UsageError(f"{where}: {name} must be a positive finite number, got {value!r}")
        for name, count in (("l0", self.l0), ("pre_threshold", self.pre_threshold)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise UsageError(f"{where}: {name} must be a whole number of at least 1, got {count!r}")
        if self.is_selection and self.linf_sensitivity != 1:
            raise UsageError(f"{where}: a selection counts units, so linf_sensitivity must be 1")
        if not self.is_selection and self.pre_threshold != 1:
            raise UsageError(f"{where}: only a selection has a pre_threshold, got {self.pre_threshold!r}")

    @property
    def is_selection(self) -> bool:
        return self.kind in SELECTIONS


def check_target(epsilon: float, delta: float) -> None:
    """Refuses a run's (ε, δ) that no plan can rest on.

    Raises:
        UsageError: ε isn't a positive finite number, or δ isn't above 0 and below 1.
    """
    if isinstance(epsilon, bool) or not isinstance(epsilon, float | int) or not 0 < epsilon < math.inf:
        raise UsageError(f"epsilon must be a positive finite number, got {epsilon!r}")
    if isinstance(delta, bool) or not isinstance(delta, float | int) or not 0 < delta < 1:
        raise UsageError(f"delta must be above 0 and below 1, got {delta!r}; a common choice is 1e-8")
