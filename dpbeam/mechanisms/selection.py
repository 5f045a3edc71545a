"""Unit counts of partitions in, which partitions may be released out (private partition selection)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from dpbeam.mechanisms import noise
from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding, Selection, TruncatedGeometric


class Strategy(Protocol):
    """Decides on one partition by its number of units, with fresh randomness each time."""

    def should_keep(self, users: int) -> bool: ...


@dataclass(kw_only=True)
class Selector:
    """Applies one selection mechanism to many partitions; holds the event and builds its strategy on first use.

    PyDP's objects don't pickle: build this once a bundle (in `DoFn.setup`), or send it, and it builds its own.
    """

    mechanism: Selection
    _built: list[Strategy] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "_built": []}

    def keep(self, users: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """True for each partition that is kept. A partition below the pre-threshold, or of no unit, never is.

        Guarantee: one decision a partition, made from its unit count alone; a unit must be in at most `l0` of all
        the partitions that the mechanism is applied to. Both are the caller's to keep.
        """
        if not self._built:
            self._built.append(_strategy(self.mechanism))
        should_keep = self._built[0].should_keep
        kept = np.zeros(len(users), dtype=np.bool_)
        open_ = np.flatnonzero(users >= max(1, self.mechanism.pre_threshold))
        kept[open_] = np.fromiter(map(should_keep, users[open_].tolist()), dtype=np.bool_, count=len(open_))
        return kept


@dataclass(frozen=True, kw_only=True)
class Thresholding:
    """Keeps a partition if its unit count, less `pre_threshold` − 1, with noise reaches `threshold`."""

    sampler: noise.Sampler
    threshold: float
    pre_threshold: int

    def should_keep(self, users: int) -> bool:
        if users < self.pre_threshold:
            return False
        return bool(self.sampler.add_noise(float(users - (self.pre_threshold - 1))) >= self.threshold)


def _strategy(mechanism: Selection) -> Strategy:
    """PyDP's truncated geometric selection, or a threshold on PyDP's noise at exactly the planned scale.

    PyDP's own thresholding takes (ε, δ) and picks scale and threshold itself; a plan fixes both.
    """
    match mechanism:
        case TruncatedGeometric():
            from pydp.algorithms.partition_selection import create_partition_strategy

            threshold = () if mechanism.pre_threshold == 1 else (mechanism.pre_threshold,)
            return cast(
                Strategy,
                create_partition_strategy(
                    "truncated_geometric", mechanism.epsilon, mechanism.delta, mechanism.l0, *threshold
                ),
            )
        case LaplaceThresholding():
            sampler = noise._laplace(mechanism.scale, mechanism.l1)
        case GaussianThresholding():
            sampler = noise._gaussian(mechanism.sigma)
    return Thresholding(sampler=sampler, threshold=mechanism.threshold, pre_threshold=mechanism.pre_threshold)
