"""The error that a release under a query is expected to have, by stage, from summaries and the planner's own noise.

Of a partition p and a figure with the true value x, the root mean square error is √(q·(b² + v + σ²) + (1 − q)·x²): q
is the probability that p is kept, b what bounds take off on average, v the variance of what they keep, σ² that of the
noise. A partition that isn't kept counts as 0. A figure's error is the sum of these over
all partitions, against the sum of what is true: 0.1 means that a tenth of it is off. A mean counts as the sum that it
stands for, row by row. That selection and noise may share one noisy count is left aside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from dpbeam.accounting.calibrate import at_scale, common_scale
from dpbeam.accounting.plan import requests_for
from dpbeam.accounting.utility import keep_probability, noise_of_quantities, selection_figure
from dpbeam.array_types import F64
from dpbeam.mechanisms.events import Gaussian, Laplace, Mechanism, Selection, WeightedThresholding
from dpbeam.mechanisms.targets import OfPartitions, OfRound, target_of
from dpbeam.pipelines.tuning.bounding import Bounded, Law, added, bounded
from dpbeam.pipelines.tuning.summaries import Clip, Summary, Sums
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.counts import Count, UnitCount
from dpbeam.queries.metrics.means import Mean
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.sharing import by_definition, named, quantities

Judged = Count | UnitCount | Sum | SumOfTotals | Mean
"""The metrics whose error is analysed; of others the noise counts, for they share the budget."""
_GRID = 160
_NODES = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
"""Gauss and Hermite's three, for a number of units that varies."""


@dataclass(frozen=True, kw_only=True)
class StageError:
    """What is expected of a stage: its error (see above), the share of rows that bounds keep, that of partitions that
    are shown, and how many there are; `metrics` has the error of each that is analysed."""

    stage: str
    error: float
    rows: float
    partitions: float
    partitions_of: int
    metrics: Mapping[str, float]


@dataclass
class Judge:
    """Judges queries by summaries of the same rows; what depends on bounds or on weights alone is worked out once."""

    summaries: Sequence[Summary]
    _bounded: dict[tuple[str, Bounds], Bounded] = field(default_factory=dict)
    _laws: dict[tuple[object, ...], Law] = field(default_factory=dict)
    _scales: dict[tuple[object, ...], float] = field(default_factory=dict)

    def error(self, query: Query) -> float:
        """The mean of the stages' errors.

        Raises:
            UsageError, Refused: no plan can be made, as for a run.
        """
        found = self.stages(query)
        return math.fsum(each.error for each in found) / len(found)

    def stages(self, query: Query) -> tuple[StageError, ...]:
        """What is expected of each stage. Raises as `error` does."""
        mechanisms = self._mechanisms(query)
        return tuple(
            self._stage(stage, summary, mechanisms) for stage, summary in zip(query.stages, self.summaries, strict=True)
        )

    def _mechanisms(self, query: Query) -> tuple[Mechanism, ...]:
        """As a plan has them, but for the check: the common scale of kinds and weights that came before is known."""
        requests = requests_for(query)
        key = (query.epsilon, query.delta, *((request.kind, request.weight) for request in requests))
        if key not in self._scales:
            self._scales[key] = common_scale(requests, epsilon=query.epsilon, delta=query.delta)
        return at_scale(requests, self._scales[key], delta=query.delta)

    def _stage(self, stage: Stage, summary: Summary, mechanisms: Sequence[Mechanism]) -> StageError:
        under = self._under(summary, stage.bounds)
        rows = self._law(under, "rows")
        true_rows = _by_partition(summary, summary.rows)
        kept = self._kept(stage, under, mechanisms)
        noise = noise_of_quantities([m for m in mechanisms if m.stage == stage.name])
        known = by_definition(quantities(stage.metrics))
        empty = 0 if summary.listed is None else summary.listed - summary.partitions
        metrics: dict[str, float] = {}
        for metric in stage.metrics:
            if isinstance(metric, Judged):
                stds = [noise[stage.name, part.name].std for part in named(metric, known)]
                metrics[metric.name] = self._metric(metric, stage, under, kept, stds, empty)
        if not metrics:
            units = self._law(under, "units")
            true = _by_partition(summary, np.ones_like(summary.rows))
            metrics["units"] = _error(true, units.mean, units.variance, kept, 0.0, empty)
        return StageError(
            stage=stage.name,
            error=math.fsum(metrics.values()) / len(metrics),
            rows=float(rows.mean.sum() / true_rows.sum()),
            partitions=float(kept.mean()),
            partitions_of=summary.partitions,
            metrics=metrics,
        )

    def _metric(
        self, metric: Judged, stage: Stage, under: Bounded, kept: F64, stds: Sequence[float], empty: int
    ) -> float:
        summary = under.summary
        match metric:
            case Count():
                law = self._law(under, "rows")
                return _error(_by_partition(summary, summary.rows), law.mean, law.variance, kept, stds[0], empty)
            case UnitCount():
                law = self._law(under, "units")
                true = _by_partition(summary, np.ones_like(summary.rows))
                return _error(true, law.mean, law.variance, kept, stds[0], empty)
            case Sum():
                clip = clip_of(stage, metric)
                law = self._law(under, clip, summary.clipped[clip])
                true, of = (_by_partition(summary, each[clip.column]) for each in (summary.values, summary.sizes))
                return _error(true, law.mean, law.variance, kept, stds[0], empty, of=of)
            case SumOfTotals():
                values = summary.values[metric.column]
                law = under.totals(values, metric.low_total, metric.high_total)
                true, of = (_by_partition(summary, each[metric.column]) for each in (summary.values, summary.sizes))
                return _error(true, law.mean, law.variance, kept, stds[0], empty, of=of)
            case Mean():
                return self._mean(metric, clip_of(stage, metric), under, kept, stds)

    def _mean(self, metric: Mean, clip: Clip, under: Bounded, kept: F64, stds: Sequence[float]) -> float:
        """To first order, the error of S/C is that of S − mC over C, where m is the mean of what bounds leave."""
        summary, sums = under.summary, under.summary.clipped[clip]
        count, total = self._law(under, "rows"), self._law(under, clip, sums)
        rows = _by_partition(summary, summary.rows)
        true = _by_partition(summary, summary.values[clip.column]) / rows
        counted = np.maximum(count.mean, 1e-9)
        mean = total.mean / counted
        at = mean[summary.partition]
        off = Sums(
            total=sums.total - at * summary.rows,
            squares=sums.squares - 2 * at * sums.total + at**2 * summary.rows,
        )
        centre = (metric.low + metric.high) / 2
        noise = stds[0] ** 2 + (mean - centre) ** 2 * stds[1] ** 2
        variance = (under.sums(off).variance + noise) / np.maximum(counted, 1.0) ** 2
        square = np.minimum((mean - true) ** 2 + variance, (metric.high - metric.low) ** 2 + (mean - true) ** 2)
        spread = np.sqrt(kept * square + (1 - kept) * true**2)
        return float((rows * spread).sum() / max(_by_partition(summary, summary.sizes[clip.column]).sum(), 1e-300))

    def _under(self, summary: Summary, bounds: Bounds) -> Bounded:
        key = (summary.stage, bounds)
        if key not in self._bounded:
            self._bounded[key] = bounded(summary, bounds)
        return self._bounded[key]

    def _law(self, under: Bounded, of: str | Clip, sums: Sums | None = None) -> Law:
        key = (under.summary.stage, under.bounds, of)
        if key not in self._laws:
            if sums is not None:
                self._laws[key] = under.sums(sums)
            else:
                self._laws[key] = under.rows() if of == "rows" else under.units()
        return self._laws[key]

    def _kept(self, stage: Stage, under: Bounded, mechanisms: Sequence[Mechanism]) -> F64:
        """The probability, by partition, that it is shown."""
        selections = [
            mechanism
            for mechanism in mechanisms
            if mechanism.stage == stage.name
            and not isinstance(mechanism, Laplace | Gaussian)
            and isinstance(target_of(mechanism), OfPartitions | OfRound)
        ]
        if not selections:
            return np.ones(under.summary.partitions)
        last = selections[-1]
        if isinstance(last, WeightedThresholding):
            # At least: weight that earlier rounds free for what they haven't kept isn't counted.
            weight = under.weights(last.l0)
            return np.asarray(special.ndtr((weight - (last.pre_threshold - 1) - last.threshold) / last.sigma))
        return _kept_of(last, self._law(under, "units"))


def clip_of(stage: Stage, metric: Sum | Mean) -> Clip:
    """The metric's bounds on values."""
    return Clip(stage=stage.name, metric=metric.name, column=metric.column, low=metric.low, high=metric.high)


def is_judged(metric: Metric) -> bool:
    """Whether its error is analysed."""
    return isinstance(metric, Judged)


def _kept_of(selection: Selection, units: Law) -> F64:
    """The keep probability of a number of units that varies; on a grid of numbers, with straight lines between them."""
    far = 2 * selection_figure(selection).units_99 + 10
    least = selection.pre_threshold
    grid = np.unique(np.concatenate([np.arange(0, 12), [least - 1, least], np.linspace(0, far, _GRID)]).astype(int))
    chances = np.array([keep_probability(selection, int(number)) for number in grid])
    std = np.sqrt(units.variance)
    kept: F64 = np.sum([share * np.interp(units.mean + node * std, grid, chances) for node, share in _NODES], axis=0)
    return kept


def _by_partition(summary: Summary, values: F64) -> F64:
    return summary.one_in * added(summary.partition, values, summary.partitions)


def _error(true: F64, mean: F64, variance: F64, kept: F64, std: float, empty: int, *, of: F64 | None = None) -> float:
    """The figure's error; `empty` public partitions, where 0 is true, have noise alone."""
    square = (mean - true) ** 2 + variance + std**2
    off = np.sqrt(kept * square + (1 - kept) * true**2).sum() + empty * std
    return float(off / max((true if of is None else of).sum(), 1e-300))
