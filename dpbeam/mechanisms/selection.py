"""Private partition selection by unit counts; by threshold, also the noisy counts that decided it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dpbeam.mechanisms import randomness, rare_partitions, truncated_geometric
from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding, Selection, TruncatedGeometric
from dpbeam.mechanisms.noise import AdditiveNoise

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(kw_only=True)
class Selector:
    """Applies one selection mechanism to many partitions; holds the event and builds its strategy on first use.

    PyDP's objects don't pickle: build this once a bundle (in `DoFn.setup`), or send it, and it builds its own.
    """

    mechanism: Selection
    _built: list[rare_partitions.Strategy | Thresholding] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "_built": []}

    def keep(self, users: I64) -> Mask:
        """True for each partition that is kept. A partition below the pre-threshold, or of no unit, never is.

        Guarantee: one decision a partition, made from its unit count alone; a unit must be in at most `l0` of all
        the partitions that the mechanism is applied to. Both are the caller's to keep.
        """
        strategy = self._strategy()
        kept = np.zeros(len(users), dtype=np.bool_)
        open_ = self._open(users)
        if isinstance(strategy, Thresholding):
            kept[open_] = strategy.noisy(users[open_]) >= strategy.least
        else:
            kept[open_] = rare_partitions.decide(strategy, users[open_])
        return kept

    def keep_noisy(self, users: I64) -> tuple[Mask, F64]:
        """As `keep`, and the noisy unit count of each partition that is kept (of others NaN): the count that decided.

        Guarantee: the thresholding mechanism pays for releasing the noisy count of a kept partition too, since its
        event is the noise on all counts; what is released is one draw.

        Raises:
            TypeError: the mechanism isn't thresholding.
        """
        strategy = self._strategy()
        if not isinstance(strategy, Thresholding):
            raise TypeError(f"{self.mechanism.kind} selects without a noisy count that could be released")
        noisy = np.full(len(users), np.nan)
        open_ = self._open(users)
        noisy[open_] = strategy.noisy(users[open_])
        kept: Mask = noisy >= strategy.least
        noisy[~kept] = np.nan
        return kept, noisy

    def _open(self, users: I64) -> I64:
        eligible: I64 = np.flatnonzero(users >= max(1, self.mechanism.pre_threshold))
        return eligible

    def _strategy(self) -> rare_partitions.Strategy | Thresholding:
        randomness.discard_inherited()
        if not self._built:
            self._built.append(_strategy(self.mechanism))
        return self._built[0]


@dataclass(frozen=True, kw_only=True)
class Thresholding:
    """Keeps a partition of at least `pre_threshold` units if its noisy unit count reaches `least`.

    Guarantee: what decides is the very number that is released: the exact noisy count, a whole number of the noise's
    steps, rounded to the nearest float64. Rounding and comparing are functions of it.
    """

    noise: AdditiveNoise
    threshold: float
    pre_threshold: int

    @property
    def least(self) -> float:
        """The least noisy count that is kept: the threshold is on the count less `pre_threshold` − 1."""
        return self.threshold + (self.pre_threshold - 1)

    def noisy(self, users: I64) -> F64:
        """The unit counts with fresh noise."""
        return self.noise.to_counts(users)


def _strategy(mechanism: Selection) -> rare_partitions.Strategy | Thresholding:
    """PyDP's truncated geometric selection, given what keeps its doubles within the plan's ε and δ; or a threshold on
    PyDP's noise at exactly the planned scale.

    PyDP's own thresholding takes (ε, δ) and picks scale and threshold itself; a plan fixes both.
    """
    match mechanism:
        case TruncatedGeometric():
            from pydp.algorithms.partition_selection import create_partition_strategy

            epsilon, delta = truncated_geometric.pydp_parameters(mechanism)
            threshold = () if mechanism.pre_threshold == 1 else (mechanism.pre_threshold,)
            return cast(
                rare_partitions.Strategy,
                create_partition_strategy("truncated_geometric", epsilon, delta, mechanism.l0, *threshold),
            )
        case LaplaceThresholding() | GaussianThresholding():
            return Thresholding(
                noise=AdditiveNoise(mechanism=mechanism),
                threshold=mechanism.threshold,
                pre_threshold=mechanism.pre_threshold,
            )
        case _:
            raise TypeError(f"{type(mechanism).__name__} doesn't select by unit counts")
