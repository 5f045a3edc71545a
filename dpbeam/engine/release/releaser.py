"""The release of kept partitions: noise is drawn once, and all metrics are made of what is noisy.

Others of hierarchical keys may need more noise than leaves. Then each kind gets its own, and one table holds both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from dpbeam.engine.aggregation.kernels import grid_of
from dpbeam.engine.release import results
from dpbeam.engine.release.noises import noises
from dpbeam.engine.rounds import weighing
from dpbeam.engine.stage import LEVEL, StageSpec
from dpbeam.mechanisms import noise
from dpbeam.mechanisms.events import GaussianThresholding, LaplaceThresholding, in_others
from dpbeam.mechanisms.noise import AdditiveNoise
from dpbeam.queries.quantities import Summed, Values


def of_others(spec: StageSpec) -> StageSpec:
    """The stage as its others are released: with the noise that they get."""
    return replace(spec, noise={name: in_others(mechanism) for name, mechanism in spec.noise.items()})


def check(spec: StageSpec) -> None:
    """Refuses noise that can't be drawn exactly: to be called before anything is charged.

    Raises:
        UsageError: noise too large for the grid of what it is added to, whatever bounds a run may choose.
    """
    for event in spec.rounds:
        weighing.check(event)
    if isinstance(spec.selection, LaplaceThresholding | GaussianThresholding):
        noise.check_counts(spec.selection)
    for quantity in spec.with_own_noise:
        if isinstance(quantity, Summed):
            grid = grid_of(quantity.definition)  # as fine as the bounds ask for, whatever the noise
            noise.check(in_others(spec.noise[quantity.name]), grid.finest() if quantity.auto else grid)
        elif isinstance(quantity, Values):
            noise.check_counts(spec.thresholds[quantity.name])
        else:
            noise.check_counts(in_others(spec.noise[quantity.name]))


@dataclass(kw_only=True)
class Releaser:
    """Releases the accumulators of one stage. It sets its noise up once, so make one for each bundle.

    Guarantee: that of `results.noisy_quantities`. Besides, each leaf gets the noise that the plan states for leaves,
    and each `other` the noise that it states for others. Only a cell's level, which is public as its keys are, decides
    which of the two it gets.
    """

    spec: StageSpec
    _noises: list[tuple[StageSpec, dict[str, AdditiveNoise]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds = [self.spec]
        if self.spec.hierarchical and of_others(self.spec) != self.spec:
            kinds.append(of_others(self.spec))
        self._noises = [(spec, noises(spec)) for spec in kinds]

    def released(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The released rows, in the order of the accumulators."""
        if len(self._noises) == 1:
            return _released(rows, *self._noises[0])
        is_leaf = rows.column(LEVEL).to_numpy() == len(self.spec.leaf_keys)
        tables = [
            _released(rows.filter(pa.array(mine)), *kind)
            for mine, kind in zip((is_leaf, ~is_leaf), self._noises, strict=True)
        ]
        order = np.argsort(np.concatenate([np.flatnonzero(is_leaf), np.flatnonzero(~is_leaf)]))
        return pa.concat_batches(tables).take(pa.array(order))


def _released(rows: pa.RecordBatch, spec: StageSpec, own: dict[str, AdditiveNoise]) -> pa.RecordBatch:
    return results.metrics(results.noisy_quantities(rows, spec, own), spec)
