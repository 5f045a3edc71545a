"""What tuning may change in a policy, one knob each: the values to try, and where the policy states it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dpbeam.errors import UsageError
from dpbeam.pipelines.tuning.expected_error import clip_of, is_judged
from dpbeam.pipelines.tuning.summaries import Clip, Summary
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.means import Mean
from dpbeam.queries.metrics.sums import Sum
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.selections import (
    GaussianThresholding,
    InRounds,
    LaplaceThresholding,
    Selection,
    TruncatedGeometric,
)

Value = int | float | str
What = Literal["l0", "linf", "l1", "strategy", "noise", "values", "metric weight", "selection weight", "stage weight"]
Path = tuple[str | int, ...]

_STRATEGIES: tuple[type[Selection], ...] = (TruncatedGeometric, LaplaceThresholding, GaussianThresholding)
"""Those that look at nothing but a partition's units, so that what they keep is known without a run."""
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Of bounds on values: steps that no data chose, so what is written says no more of the data than which of them."""
_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST_COUNT = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One thing of a stage (by its place), or of one of its metrics, with the values to try; `path` is where a policy
    states it."""

    stage: int
    what: What
    path: Path
    values: tuple[Value, ...]
    metric: int | None = None

    def of(self, query: Query) -> Value:
        """Its value in a query."""
        stage = query.stages[self.stage]
        match self.what:
            case "l0" | "linf" | "l1":
                return int(getattr(stage.bounds, self.what) or 0)
            case "strategy":
                return _private(stage).strategy
            case "noise":
                return str(stage.noise)
            case "selection weight":
                return _private(stage).weight
            case "stage weight":
                return stage.weight
            case "metric weight":
                return self._metric(stage).weight
            case "values":
                return 1.0

    def at(self, query: Query, value: Value) -> Query:
        """The query with this value; of bounds on values it is the factor by which they grow."""
        stages = list(query.stages)
        stages[self.stage] = self._changed(stages[self.stage], value)
        return replace(query, stages=tuple(stages))

    def _changed(self, stage: Stage, value: Value) -> Stage:
        match self.what:
            case "l0" | "linf" | "l1":
                return replace(stage, bounds=replace(stage.bounds, **{self.what: int(value)}))
            case "strategy":
                return replace(stage, partitions=_by(_private(stage), str(value)))
            case "noise":
                return replace(stage, noise="gaussian" if value == "gaussian" else "laplace")
            case "selection weight":
                return replace(stage, partitions=replace(_private(stage), weight=float(value)))
            case "stage weight":
                return replace(stage, weight=float(value))
            case "metric weight":
                return self._with_metric(stage, replace(self._metric(stage), weight=float(value)))
            case "values":
                metric = self._metric(stage)
                if not isinstance(metric, Clipped):
                    raise TypeError(f"{metric.kind} has no bounds on values")
                low, high = scaled(metric.low, metric.high, float(value))
                return self._with_metric(stage, replace(metric, low=low, high=high))

    def _metric(self, stage: Stage) -> Metric:
        if self.metric is None:
            raise ValueError(f"{self.what} is of no metric")
        return stage.metrics[self.metric]

    def _with_metric(self, stage: Stage, metric: Metric) -> Stage:
        metrics = tuple(metric if place == self.metric else each for place, each in enumerate(stage.metrics))
        return replace(stage, metrics=metrics)


def check_tunable(policy: Policy) -> None:
    """Refuses what can't be tuned.

    Raises:
        UsageError: it finds bounds itself, has hierarchical keys, or takes rows that are aggregated already.
    """
    if policy.counted_by is not None:
        raise UsageError("rows that are aggregated already can't be tuned on; use those that they were made from")
    for place, stage in enumerate(policy.stages):
        where = f"stages[{place}]"
        if stage.private is not None and stage.private.has_others:
            raise UsageError(
                f"{where}: keys whose rest counts in an `other` can't be tuned; leave `other` out to tune the rest"
            )
        for name in ("l0", "linf", "l1"):
            bound = getattr(stage.bounds, name)
            if bound is not None and not isinstance(bound, int):
                raise UsageError(
                    f"{where}.bounds.{name}: the run finds it and pays for that; write a number in its place to tune it"
                )


def check_stated(query: Query) -> None:
    """Refuses bounds on values that the run finds.

    Raises:
        UsageError: there are some.
    """
    for stage in query.stages:
        for metric in stage.metrics:
            if isinstance(metric, Clipped) and metric.auto:
                raise UsageError(
                    f"stage {stage.name}, metric {metric.name}: the run finds its {' and '.join(metric.auto)} and pays "
                    "for that; write numbers in their place to tune them"
                )


def clips(query: Query) -> tuple[Clip, ...]:
    """All bounds on values that a query may get by its knobs."""
    found: dict[Clip, None] = {}
    for stage in query.stages:
        for metric in stage.metrics:
            if isinstance(metric, Sum | Mean):
                for factor in _FACTORS:
                    low, high = scaled(metric.low, metric.high, factor)
                    found[clip_of(stage, replace(metric, low=low, high=high))] = None
    return tuple(found)


def knobs(query: Query, summaries: Sequence[Summary]) -> tuple[Knob, ...]:
    """All knobs of a query, stage by stage, for data with these summaries."""
    return tuple(
        knob
        for place, (stage, summary) in enumerate(zip(query.stages, summaries, strict=True))
        for knob in _of_stage(place, stage, summary, alone=len(query.stages) == 1)
    )


def _of_stage(place: int, stage: Stage, summary: Summary, *, alone: bool) -> Iterator[Knob]:
    base: Path = ("stages", place)
    for what, most in _most(summary).items():
        stated = getattr(stage.bounds, what)
        if stated is not None:
            values = tuple(sorted({*_ladder(most), stated}))
            yield Knob(stage=place, what=what, path=(*base, "bounds", what), values=values)
    selection = stage.selection
    if selection is not None:
        names = tuple(dict.fromkeys((selection.strategy, *(kind.strategy for kind in _STRATEGIES))))
        yield Knob(stage=place, what="strategy", path=(*base, "partitions", "private", "strategy"), values=names)
    if stage.metrics:
        yield Knob(stage=place, what="noise", path=(*base, "noise"), values=("laplace", "gaussian"))
    for number, metric in enumerate(stage.metrics):
        own: Path = (*base, "metrics", number)
        if isinstance(metric, Sum | Mean):
            yield Knob(stage=place, what="values", path=own, values=_FACTORS, metric=number)
    judged = [number for number, metric in enumerate(stage.metrics) if is_judged(metric)]
    if selection is not None and stage.metrics:
        path = (*base, "partitions", "private", "weight")
        yield Knob(stage=place, what="selection weight", path=path, values=_around(selection.weight))
    if len(stage.metrics) > 1:
        for number in judged:
            own = (*base, "metrics", number)
            weights = _around(stage.metrics[number].weight)
            yield Knob(stage=place, what="metric weight", path=own, values=weights, metric=number)
    if not alone:
        yield Knob(stage=place, what="stage weight", path=(*base, "weight"), values=_around(stage.weight))


def _most(summary: Summary) -> dict[Literal["l0", "linf", "l1"], int]:
    partitions, rows = np.bincount(summary.unit), np.bincount(summary.unit, summary.rows)
    return {"l0": int(partitions.max()), "linf": int(summary.rows.max()), "l1": int(rows.max())}


def _ladder(most: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16, …, up to the first that reaches `most`."""
    steps = [1, 2, 3]
    while steps[-1] < min(most, _MOST_COUNT):
        steps.append(2 * steps[-2])
    return tuple(step for place, step in enumerate(steps) if place == 0 or steps[place - 1] < most)


def _around(weight: float) -> tuple[float, ...]:
    return tuple(weight * factor for factor in _WEIGHTS)


def scaled(low: float, high: float, factor: float) -> tuple[float, float]:
    """The bounds with the side below 0, and the one above, that many times as far from it. A side across 0 stays."""
    new_low = _short(low * factor) if low < 0 else low
    new_high = _short(high * factor) if high > 0 else high
    return (new_low, new_high) if new_low < new_high else (low, high)


def _short(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value


def _private(stage: Stage) -> Selection:
    if stage.selection is None:
        raise ValueError(f"stage {stage.name} has no selection")
    return stage.selection


def _by(selection: Selection, strategy: str) -> Selection:
    if selection.strategy == strategy:
        return selection
    (kind,) = (each for each in _STRATEGIES if each.strategy == strategy)
    return kind(pre_threshold=selection.pre_threshold, weight=selection.weight)


def in_rounds(query: Query) -> bool:
    """Whether a stage selects in rounds, of which only the least that they keep is known without a run."""
    return any(isinstance(stage.selection, InRounds) for stage in query.stages)
