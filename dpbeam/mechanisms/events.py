"""The mechanisms a run applies, as values: each lists all that defines its privacy loss.

A `Mechanism` is what the plan contains, the manifest publishes, the certifier composes and the engine builds its
noise from. The unit of privacy is one privacy unit, added or removed, over *all* partitions it touches: `l1`
and `l2` are the sensitivities of the whole vector of released values to one unit, not of one partition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

WeightedStrategy = Literal["dp_sips", "mad", "mad2r"]
"""Selections in rounds, by weights of a unit's partitions together."""


def _positive(name: str, value: float) -> None:
    if not (isinstance(value, float | int) and 0 < value < math.inf):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")


def _probability(name: str, value: float) -> None:
    if not (isinstance(value, float) and 0 < value < 1):
        raise ValueError(f"{name} must be above 0 and below 1, got {value!r}")


def _at_least_one(name: str, value: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Other:
    """What one unit may do to one `other` of hierarchical keys: add at most `rows` rows (None: of which nothing depends
    on their number) of at most `leaves` leaves, and so move its value by at most `most` (in l1 where the noise is
    Laplace, in l2 where it is Gaussian). An `other` gets `noise` times the noise of a leaf, 1 or more.
    """

    leaves: int
    rows: int | None
    most: float
    noise: float

    def __post_init__(self) -> None:
        _at_least_one("leaves", self.leaves)
        if self.rows is not None:
            _at_least_one("rows", self.rows)
        _positive("most", self.most)
        _positive("noise", self.noise)
        if not self.noise >= 1:
            raise ValueError(f"noise must be at least 1, got {self.noise!r}")


@dataclass(frozen=True, kw_only=True)
class Laplace:
    """Adds Laplace noise of scale `scale` to each value; one unit moves the vector by at most `l1`.

    Where keys are hierarchical, `other` says how much of that may fall on one `other`, whose noise is the same.
    """

    kind: ClassVar[str] = "laplace"
    stage: str
    metric: str
    scale: float
    l1: float
    other: Other | None = None

    def __post_init__(self) -> None:
        _positive("scale", self.scale)
        _positive("l1", self.l1)
        if self.other is not None and self.other.noise != 1:
            raise ValueError(f"an other has the Laplace noise of a leaf, got {self.other.noise!r} times that")


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Adds Gaussian noise of standard deviation `sigma` to each value; one unit moves the vector by `l2`.

    Where keys are hierarchical, values of an `other` get `sigma · other.noise`, and `l2` is of the vector in which they
    are divided by `other.noise`: the Gaussian mechanism on that vector, read on another scale.
    """

    kind: ClassVar[str] = "gaussian"
    stage: str
    metric: str
    sigma: float
    l2: float
    other: Other | None = None

    def __post_init__(self) -> None:
        _positive("sigma", self.sigma)
        _positive("l2", self.l2)


def _selects(mechanism: Selection | WeightedThresholding) -> None:
    """That a selection's threshold, if it has one, its δ, l0 and pre-threshold are in their ranges."""
    if not isinstance(mechanism, TruncatedGeometric):
        _positive("threshold", mechanism.threshold)
    _probability("delta", mechanism.delta)
    _at_least_one("l0", mechanism.l0)
    _at_least_one("pre_threshold", mechanism.pre_threshold)


@dataclass(frozen=True, kw_only=True)
class TruncatedGeometric:
    """Keeps partitions by the optimal (ε, δ) selection of Desfontaines et al., https://arxiv.org/abs/2006.03684.

    (`epsilon`, `delta`) is the loss over all `l0` partitions of one unit. A partition of fewer than
    `pre_threshold` units is never kept (1 means no pre-threshold).
    """

    kind: ClassVar[str] = "truncated_geometric"
    stage: str
    metric: str = "partitions"
    epsilon: float
    delta: float
    l0: int
    pre_threshold: int = 1

    def __post_init__(self) -> None:
        _positive("epsilon", self.epsilon)
        _selects(self)


@dataclass(frozen=True, kw_only=True)
class LaplaceThresholding:
    """Keeps a partition if its unit count, less `pre_threshold - 1`, plus Laplace(`scale`) is ≥ `threshold`.

    The noise costs Laplace(`scale`) at sensitivity `l1` (= `l0`, one per partition); `delta` bounds the
    probability that any of the `l0` partitions of a unit that is alone in all of them is kept. Where `metric` isn't
    `partitions`, read (partition, value) for partition: it keeps the values of a top_k.
    """

    kind: ClassVar[str] = "laplace_thresholding"
    stage: str
    metric: str = "partitions"
    scale: float
    l1: float
    threshold: float
    delta: float
    l0: int
    pre_threshold: int = 1

    def __post_init__(self) -> None:
        _positive("scale", self.scale)
        _positive("l1", self.l1)
        _selects(self)


@dataclass(frozen=True, kw_only=True)
class GaussianThresholding:
    """Keeps a partition if its unit count, less `pre_threshold - 1`, plus N(0, `sigma`²) is ≥ `threshold`.

    The noise costs a Gaussian of `sigma` at sensitivity `l2` (= √`l0`); `delta` as in `LaplaceThresholding`.
    """

    kind: ClassVar[str] = "gaussian_thresholding"
    stage: str
    metric: str = "partitions"
    sigma: float
    l2: float
    threshold: float
    delta: float
    l0: int
    pre_threshold: int = 1

    def __post_init__(self) -> None:
        _positive("sigma", self.sigma)
        _positive("l2", self.l2)
        _selects(self)


@dataclass(frozen=True, kw_only=True)
class WeightedThresholding:
    """One round of a selection by weights: keeps a partition if its weight plus N(0, `sigma`²) is ≥ `threshold`.

    A unit spreads a weight vector of l2 norm at most `l2` = 1 over at most `l0` partitions that no round before has
    kept: evenly, or with biases between `least_bias` and 1. With `saturation` (0: none), weight over it goes back to
    the units, who send `least_bias`/(2·`l0`) of it to each of their partitions. A partition of fewer than
    `pre_threshold` units is never kept, and the largest shares of that many units less one don't count. `delta` bounds
    the probability that any partition is kept that one unit alone made eligible.
    """

    kind: ClassVar[str] = "weighted_thresholding"
    stage: str
    metric: str
    strategy: WeightedStrategy
    sigma: float
    l2: float
    threshold: float
    delta: float
    l0: int
    pre_threshold: int = 1
    saturation: float = 0.0
    least_bias: float = 1.0

    def __post_init__(self) -> None:
        if self.strategy not in get_args(WeightedStrategy):
            raise ValueError(f"strategy must be one of {', '.join(get_args(WeightedStrategy))}, got {self.strategy!r}")
        _positive("sigma", self.sigma)
        _positive("l2", self.l2)
        _selects(self)
        if self.saturation != 0:
            _positive("saturation", self.saturation)
        if not (isinstance(self.least_bias, float) and 0 < self.least_bias <= 1):
            raise ValueError(f"least_bias must be above 0 and at most 1, got {self.least_bias!r}")


Additive = Laplace | Gaussian
Thresholding = LaplaceThresholding | GaussianThresholding
Selection = TruncatedGeometric | LaplaceThresholding | GaussianThresholding
Mechanism = Additive | Selection | WeightedThresholding

KINDS: Mapping[str, type[Mechanism]] = {
    cls.kind: cls
    for cls in (
        Laplace,
        Gaussian,
        TruncatedGeometric,
        LaplaceThresholding,
        GaussianThresholding,
        WeightedThresholding,
    )
}


def others_of(mechanism: Mechanism) -> Other | None:
    """What one unit may do to one `other`; None where keys aren't hierarchical, and of what selects."""
    return mechanism.other if isinstance(mechanism, Laplace | Gaussian) else None


def in_others(mechanism: Additive) -> Additive:
    """The noise that an `other` gets, as a mechanism of its own: for drawing it, not for what it costs. Of noise that
    is an `other`'s already, itself."""
    if isinstance(mechanism, Laplace) or mechanism.other is None or mechanism.other.noise == 1:
        return mechanism
    return replace(mechanism, sigma=mechanism.sigma * mechanism.other.noise, other=None)


def to_json(mechanism: Mechanism) -> dict[str, Any]:
    """The mechanism as the manifest and `dpbeam plan --json` print it."""
    return {"stage": mechanism.stage, "metric": mechanism.metric, "kind": mechanism.kind} | {
        key: value for key, value in asdict(mechanism).items() if not (key == "other" and value is None)
    }


def from_json(fields: Mapping[str, Any]) -> Mechanism:
    """Reads what `to_json` wrote.

    Raises:
        ValueError: an unknown kind, a missing or unknown field, or a parameter out of its range.
    """
    rest = dict(fields)
    kind = rest.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    try:
        if isinstance(rest.get("other"), Mapping):
            rest["other"] = Other(**rest["other"])
        return KINDS[kind](**rest)
    except TypeError as error:
        raise ValueError(f"a mechanism of kind {kind} has other fields: {error}") from None
