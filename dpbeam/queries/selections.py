"""Which partitions a stage shows: how they are selected privately, if they aren't known beforehand.

Each way to select is a type; what they share is in `Selection`. Which mechanism follows is the plan's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

MAX_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """Keys go from coarse to fine; what isn't kept counts in its parent's `other`.

    `other_l0` is the most leaves of one unit that count in one `other`; None for as many as the bounds let in.

    Raises:
        ValueError: `other_l0` is below 1.
    """

    other_l0: int | None = None

    def __post_init__(self) -> None:
        if self.other_l0 is not None and not self.other_l0 >= 1:
            raise ValueError(f"other_l0 must be at least 1, got {self.other_l0!r}")


@dataclass(frozen=True, kw_only=True)
class _Private:
    """What every private selection says: the least units that a partition needs, and its share of the stage's budget.

    Raises:
        ValueError: fewer than one unit, or a weight that isn't above 0.
    """

    pre_threshold: int = 1
    weight: float = 1.0
    hierarchy: Hierarchy | None = None

    def __post_init__(self) -> None:
        if not self.pre_threshold >= 1:
            raise ValueError(f"pre_threshold must be at least 1, got {self.pre_threshold!r}")
        if not self.weight > 0:
            raise ValueError(f"a selection's weight must be above 0, got {self.weight!r}")


@dataclass(frozen=True, kw_only=True)
class TruncatedGeometric(_Private):
    """The most partitions that any selection of its (ε, δ) keeps by unit counts (Desfontaines et al., 2020)."""

    strategy: ClassVar[Literal["truncated_geometric"]] = "truncated_geometric"


@dataclass(frozen=True, kw_only=True)
class LaplaceThresholding(_Private):
    """A threshold on unit counts with Laplace noise; the noisy counts may be shown too, at no further cost."""

    strategy: ClassVar[Literal["laplace_thresholding"]] = "laplace_thresholding"


@dataclass(frozen=True, kw_only=True)
class GaussianThresholding(_Private):
    """As `LaplaceThresholding`, with Gaussian noise."""

    strategy: ClassVar[Literal["gaussian_thresholding"]] = "gaussian_thresholding"


@dataclass(frozen=True, kw_only=True)
class DpSips(_Private):
    """Rounds of thresholds on weights that each unit shares out evenly among what no round has kept yet."""

    strategy: ClassVar[Literal["dp_sips"]] = "dp_sips"
    rounds: int | None = None
    """How many; None for as many as are best in most data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds is not None and not 1 <= self.rounds <= MAX_ROUNDS:
            raise ValueError(f"rounds must be from 1 to {MAX_ROUNDS}, got {self.rounds!r}")


@dataclass(frozen=True, kw_only=True)
class Mad(_Private):
    """One round, in which weight above the threshold goes back to the units, who send it on."""

    strategy: ClassVar[Literal["mad"]] = "mad"


@dataclass(frozen=True, kw_only=True)
class Mad2r(_Private):
    """Two rounds of `Mad`, the second with less weight for what is heavy already."""

    strategy: ClassVar[Literal["mad2r"]] = "mad2r"


Selection = TruncatedGeometric | LaplaceThresholding | GaussianThresholding | DpSips | Mad | Mad2r
Thresholding = LaplaceThresholding | GaussianThresholding
InRounds = DpSips | Mad | Mad2r

SELECTIONS: tuple[type[Selection], ...] = (
    TruncatedGeometric,
    LaplaceThresholding,
    GaussianThresholding,
    DpSips,
    Mad,
    Mad2r,
)
"""All of them, in the order in which they are told to people."""
