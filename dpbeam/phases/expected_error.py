"""How far a stage's results will lie from what they would be without bounds, by its mechanisms and what was seen.

The error has two parts: what the bounds cut off, and noise. Noise is known, from the stage's own mechanisms. What is
cut off is seen as a share of all contributions. How it is spread over partitions isn't seen, so the error is computed
for several `Layout`s, which public figures and the histograms leave open; `dpbeam.phases.bound_choice` takes the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpbeam.accounting.utility import noise_of_quantities, selection_figure
from dpbeam.array_types import F64
from dpbeam.mechanisms.events import Mechanism, Selection, WeightedThresholding
from dpbeam.mechanisms.targets import OfPartitions, OfRound, target_of
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.means import Moment
from dpbeam.queries.metrics.quantiles import QuantileMetric
from dpbeam.queries.quantities import Quantity, Total, UnitCount, UnitsByValue
from dpbeam.queries.query import Stage
from dpbeam.queries.sharing import by_definition, named, quantities

_RANKS = 48
"""How many sizes of partitions a layout tells apart."""
_LEAST = 1e-9
"""The least share that is divided by."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What bounds on contributions keep: a share `pairs` of all (unit, partition) pairs, and of the rows of these a
    share `within`."""

    pairs: float = 1.0
    within: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way in which contributions may lie in partitions: `pairs` (unit, partition) pairs and `rows` rows in all, of
    which partition i of `number[i]` equal ones has the part `share[i]`.

    What pairs lose is `loss[i]` times as much there as it is in all partitions together: large ones may be so by having
    more units, or more rows of each.
    """

    pairs: float
    rows: float
    number: F64
    share: F64
    loss: F64

    def within(self, kept: Kept) -> F64:
        """The share of its pairs' rows that each partition keeps."""
        return 1 - np.minimum(1.0, (1 - kept.within) * self.loss)


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values of a metric's column, as a histogram shows them: `values[i]` in a part `parts[i]` of the rows."""

    values: F64
    parts: F64

    @property
    def mean_size(self) -> float:
        """The mean of |value|."""
        return float((np.abs(self.values) * self.parts).sum())

    def lost(self, low: float, high: float) -> float:
        """The mean of what clipping to [low, high] moves a value by."""
        return float((np.abs(self.values - np.clip(self.values, low, high)) * self.parts).sum())


def layouts(pairs: float, rows: float, fewest: float, public: int | None) -> Iterator[Layout]:
    """Even partitions; partitions by Zipf's law, of units; and the same of the rows of each unit. There are `public` of
    them; or, where they are selected, `fewest`, and as many as Zipf's law has if its smallest are of one unit."""
    numbers = [float(public)] if public is not None else [max(1.0, fewest), max(1.0, fewest, _zipf_number(pairs))]
    for number in dict.fromkeys(numbers):
        one = np.ones(1)
        yield Layout(pairs=pairs, rows=rows, number=one * number, share=one / number, loss=one)
        if number > 1:
            ranks, count = _ranks(number)
            share = 1 / ranks / float((count / ranks).sum())
            for loss in (np.ones(len(ranks)), share / float((count * share**2).sum())):
                yield Layout(pairs=pairs, rows=rows, number=count, share=share, loss=loss)


def _zipf_number(pairs: float) -> float:
    """The n with n · (1 + ½ + … + 1/n) = pairs."""
    number = max(1.0, pairs)
    for _ in range(60):
        number = max(1.0, pairs / (math.log(number) + 0.5772))
    return number


def _ranks(number: float) -> tuple[F64, F64]:
    """Ranks 1 to `number`, the large ones in groups: a rank of each, and how many are in it."""
    edges = np.unique(np.round(np.geomspace(1, number + 1, _RANKS)))
    first, after = edges[:-1], edges[1:]
    return np.sqrt(first * (after - 1)), after - first


@dataclass(frozen=True, kw_only=True)
class StageError:
    """The error of a stage's results at the bounds that it has here, with `mechanisms` at these bounds.

    `kept` is what they keep of contributions, `values` the values of columns that are known, by metric.
    """

    stage: Stage
    mechanisms: Sequence[Mechanism]
    kept: Kept
    values: dict[str, Values]

    def of(self, over: Sequence[Layout], metrics: Sequence[Metric]) -> list[float]:
        """For each layout the root mean square error over its partitions, against the root mean square of what they
        hold; metrics by their weights. A partition that isn't shown counts as one shown as 0.

        1 is what a release of nothing but zeros would have.
        """
        parts = [self._error(metric) for metric in metrics] or [_MetricError(by_rows=False, noise=0.0)]
        weights = [metric.weight for metric in metrics] or [1.0]
        least, whole = self._least_units, math.fsum(weights)
        found = []
        for layout in over:
            shown = layout.pairs * self.kept.pairs * layout.share >= least
            total = 0.0
            for part, weight in zip(parts, weights, strict=True):
                size = (layout.rows if part.by_rows else layout.pairs) * layout.share
                kept = self.kept.pairs * (layout.within(self.kept) if part.by_rows else np.ones(len(size)))
                if part.is_average:  # what is left out at random doesn't move it, but makes it noisier
                    bias, noise = part.clipped * size, part.noise / np.maximum(kept, _LEAST)
                else:
                    bias, noise = (1 - kept * (1 - part.clipped)) * size, np.full(len(size), part.noise)
                wrong = np.where(shown, bias**2 + noise**2, size**2)
                total += weight * float((layout.number * wrong).sum() / (layout.number * size**2).sum())
            found.append(math.sqrt(total / whole))
        return found

    @property
    def _least_units(self) -> float:
        """From how many units on a partition is shown more often than not; 0 where partitions are known."""
        for mechanism in reversed(self.mechanisms):
            if isinstance(target_of(mechanism), OfPartitions | OfRound) and isinstance(
                mechanism, Selection | WeightedThresholding
            ):
                return selection_figure(mechanism).units_50
        return 0.0

    def _error(self, metric: Metric) -> _MetricError:
        noise = noise_of_quantities(self.mechanisms)
        own = named(metric, by_definition(quantities(self.stage.metrics)))
        std = [noise[self.stage.name, quantity.name].std for quantity in own]
        by_rows = not isinstance(own[0], Total | UnitCount | UnitsByValue)
        if isinstance(metric, QuantileMetric):
            return _MetricError(by_rows=by_rows, noise=std[0], is_average=True)
        if not isinstance(metric, Clipped):
            return _MetricError(by_rows=by_rows, noise=std[0] / _one(own[0]))
        values = self.values.get(metric.name, _halfway(metric))
        # Where every value that is seen is 0, nothing is cut, and noise counts against the farther bound.
        size = values.mean_size or max(abs(metric.low), abs(metric.high))
        clipped = values.lost(metric.low, metric.high) / size
        if not isinstance(metric, Moment):
            return _MetricError(by_rows=by_rows, noise=std[0] / size, clipped=clipped)
        # Each quantity in what one row moves it by at most, then all in the units of the values.
        one_row = [quantity.sensitivity(Bounds(l0=1, linf=1))[0] for quantity in own]
        noise_of_one = math.hypot(*(each / one for each, one in zip(std, one_row, strict=True)))
        error = (metric.high - metric.low) / 2 * noise_of_one
        return _MetricError(by_rows=by_rows, noise=error / size, clipped=clipped, is_average=True)


@dataclass(frozen=True, kw_only=True)
class _MetricError:
    """The error of one metric: its noise as a number of rows, or of pairs; the part of its values that is clipped off;
    and whether it is an average, or a rank, of what is kept."""

    by_rows: bool
    noise: float
    clipped: float = 0.0
    is_average: bool = False


def _halfway(metric: Clipped) -> Values:
    """Values of which no more is known than their bounds: halfway to the farther one."""
    farther = metric.high if abs(metric.high) >= abs(metric.low) else metric.low
    return Values(values=np.array([farther / 2]), parts=np.array([1.0]))


def _one(quantity: Quantity) -> float:
    """What one row, or one pair, is taken to add: 1 to a count, half of the most to anything else."""
    most = quantity.sensitivity(Bounds(l0=1, linf=1))[1]
    return 1.0 if quantity.kind in _COUNTS else most / 2


_COUNTS = frozenset({"count", "privacy_id_count", "distinct", "bins", "tree", "values", "candidates"})
