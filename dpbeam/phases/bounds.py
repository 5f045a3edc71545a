"""The phase in which a run finds bounds: a Beam job makes noisy histograms of values and of units, and the query, the
plan and the stages go on to the main job with the bounds chosen from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from dpbeam.accounting.check import check_same_losses
from dpbeam.accounting.plan import plan
from dpbeam.engine.automatic_bounds import Clips, Contributions, clips, contributions, count_edges, value_edges
from dpbeam.engine.bounding.unit_rows import PARTITIONS, ROWS, ROWS_WITH
from dpbeam.engine.stage import Flat, StageSpec, planned, unit_rows
from dpbeam.errors import Undecided
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.phases.bound_choice import Seen, choose, with_clips
from dpbeam.phases.phase import Parameters, Phase
from dpbeam.queries.automatic import ClipSearch, CountSearch, Histogram, Key, units_stage, values_stage
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.metrics.histograms import Histogram as HistogramMetric
from dpbeam.queries.query import Query, Stage
from dpbeam.reporting.manifest import ChosenBound

_UNIT_COLUMN = {"l0": PARTITIONS, "linf": ROWS_WITH, "l1": ROWS}


def bounds_phase(query: Query) -> tuple[Phase, ...]:
    """The phase, if the query leaves any bound to the run."""
    return (Phase(name="bounds", stages=stages, learn=learn),) if query.automatic else ()


def stages(known: Parameters) -> tuple[StageSpec, ...]:
    """For each stage that needs them: the histograms of its columns, and those of its units.

    Guarantee: in each histogram a unit counts in one bin, once. Of values it gives one row, chosen uniformly from all
    its rows; of units it is one row itself, made from its rows within the most that the stage's bounds may become.
    """
    made: list[StageSpec] = []
    for stage in known.query.stages:
        histograms = stage.histograms
        for name in dict.fromkeys(histogram.stage for histogram in histograms):
            of_units = name == units_stage(stage.name)
            spec = StageSpec(
                name=name,
                unit=known.query.unit,
                keys=(),
                key_types=(),
                bounds=Bounds(l0=1, linf=1),
                metrics=tuple(histogram_metric(histogram) for histogram in histograms if histogram.stage == name),
                noise={m.metric: m for m in _noises(known) if m.stage == name},
                selection=None,
                mode=unit_rows(stage, within(stage)) if of_units else Flat(),
            )
            made.append(spec)
    return tuple(made)


def learn(known: Parameters, tables: Mapping[str, pa.Table]) -> Parameters:
    """Chooses the bounds, and plans again for them.

    Guarantee: the choice sees noisy counts, public parameters and nothing else. The new plan is certified like the
    first and keeps every mechanism's privacy loss; only sensitivities and thresholds follow the bounds.

    Raises:
        Undecided: nothing stands out in a histogram whose bound states no `otherwise`. That follows from the noise
            alone, like a choice.
        Refused: the new plan isn't the old one but for its bounds.
    """
    found = [each for stage in known.query.stages for each in _of_stage(stage, known, tables)]
    lacking = [each for each in found if each.value is None]
    if lacking:
        raise _undecided(lacking)
    chosen = {each.key: each.value for each in found if each.value is not None}
    query = known.query.with_chosen(chosen)
    made = plan(query)
    check_same_losses(known.plan.mechanisms, made.mechanisms)
    by_key = {each.key: each for each in found}
    return replace(
        known,
        query=query,
        plan=made,
        stages=planned(query, made.mechanisms),
        chosen=tuple(
            ChosenBound(
                stage=key[0],
                metric=key[1],
                parameter=key[2],
                value=chosen[key],
                fallback=by_key[key].kept is None,
                kept=by_key[key].kept,
            )
            for key in query.automatic
        ),
    )


def look(
    stage: Stage, counts_of: Callable[[Histogram], Sequence[float]], noise_of: Callable[[Histogram], Additive]
) -> Seen:
    """What the noisy histograms of a stage show, as far as it stands out from their noise."""
    units = {h.metric: h for h in stage.histograms if h.stage == units_stage(stage.name)}
    searched: dict[str, Contributions | None] = {
        name: contributions(counts_of(h), noise_of(h), most=h.search.max, by_row=name == "linf")
        for name, h in units.items()
        if isinstance(h.search, CountSearch)
    }
    columns = {h.metric: h for h in stage.histograms if h.stage == values_stage(stage.name)}
    values: dict[str, Clips | None] = {}
    people = 0.0
    for metric in _searching(stage):
        h = columns[metric.column]
        if not isinstance(h.search, ClipSearch):
            raise TypeError(f"stage {stage.name}: values of {metric.column} are searched for clipping bounds alone")
        counts = counts_of(h)
        people = max(people, math.fsum(counts))
        values[metric.name] = clips(
            counts,
            noise_of(h),
            least=h.search.least,
            most=h.search.most,
            low=None if "low" in metric.auto else metric.low,
            high=None if "high" in metric.auto else metric.high,
        )
    return Seen(
        contributions={name: found for name, _ in stage.searches if (found := searched[name]) is not None},
        clips={name: each for name, each in values.items() if each is not None},
        people=max(people, 1.0),
    )


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """A bound as it was found: its value, and the noisy share that it keeps. Where nothing stood out, there is no
    share, and the value is what the policy states for that, if it does."""

    key: Key
    value: float | None
    kept: float | None = None


def _of_stage(stage: Stage, known: Parameters, tables: Mapping[str, pa.Table]) -> Iterator[_Bound]:
    """Every bound that a stage leaves to the run, chosen with the others of it."""
    if not stage.histograms:
        return
    seen = look(stage, lambda h: _counts(tables, h), lambda h: _noise(known, h))
    best = choose(_otherwise(stage), known.plan.mechanisms, seen)
    for metric in _searching(best):
        clip = seen.clips.get(metric.name)
        for side, search in metric.searches:
            key: Key = (stage.name, metric.name, side)
            value = metric.low if side == "low" else metric.high
            if clip is None:
                yield _Bound(key=key, value=search.otherwise)
            else:
                low, high = (value, math.inf) if side == "low" else (-math.inf, value)
                yield _Bound(key=key, value=value, kept=_share(clip.within(low, high)))
    for name, count in stage.searches:
        each = seen.contributions.get(name)
        if each is None:
            yield _Bound(key=(stage.name, None, name), value=count.otherwise)
        else:
            value = getattr(best.bounds, name)
            yield _Bound(key=(stage.name, None, name), value=value, kept=_share(each.kept(value)))


def _searching(stage: Stage) -> Iterator[Clipped]:
    """The metrics whose clipping bounds the run finds."""
    return (metric for metric in stage.metrics if isinstance(metric, Clipped) and metric.searches)


def _otherwise(stage: Stage) -> Stage:
    """The stage with the bounds that its policy states for where nothing stands out; those it states none for are at
    their most."""
    limits = {name: search.otherwise for name, search in stage.searches if search.otherwise is not None}
    ends: dict[str, tuple[float, float]] = {}
    for metric in _searching(stage):
        stated = {side: search.otherwise for side, search in metric.searches if search.otherwise is not None}
        ends[metric.name] = stated.get("low", metric.low), stated.get("high", metric.high)
    return with_clips(replace(stage, bounds=replace(stage.bounds, **limits)), ends)


def _share(of: float) -> float:
    """A noisy share as it is stated."""
    return round(min(1.0, max(0.0, of)), 3)


def _undecided(lacking: Sequence[_Bound]) -> Undecided:
    names = [
        f"{parameter} of stage {stage}" if metric is None else f"{parameter} of {metric} in stage {stage}"
        for stage, metric, parameter in (each.key for each in lacking)
    ]
    return Undecided(
        f"the noisy histograms don't tell which {', '.join(names)} to choose: too little stands out from their noise. "
        "No metric was drawn",
        remedy="state the bound, or what it is to be then (auto: {…, otherwise: 10}), or raise run.epsilon or auto's "
        "weight",
    )


def within(stage: Stage) -> Bounds:
    """The bounds that units' rows are made within: the most that the stage's may become."""
    limits = stage.bounds
    if limits.l1 is None:
        # Where only l0 is looked for, one row of a pair says all there is to know.
        searched = any(name == "linf" for name, _ in stage.searches)
        limits = Bounds(l0=limits.l0, linf=limits.linf if searched else 1)
    return limits


def histogram_metric(histogram: Histogram) -> HistogramMetric:
    """What counts a histogram: rows of the input by a column's value, or rows of units by what they contribute."""
    search = histogram.search
    if isinstance(search, ClipSearch):
        column, edges = histogram.metric, value_edges(search.least, search.most)
    else:
        column, edges = _UNIT_COLUMN[histogram.metric], count_edges(search.max)
    return HistogramMetric(name=histogram.metric, column=column, edges=edges)


def _counts(tables: Mapping[str, pa.Table], histogram: Histogram) -> list[float]:
    metric = histogram_metric(histogram)
    table = tables[histogram.stage]
    return [table.column(name)[0].as_py() for name in metric.released]


def _noise(known: Parameters, histogram: Histogram) -> Additive:
    return next(m for m in _noises(known) if (m.stage, m.metric) == (histogram.stage, histogram.metric))


def _noises(known: Parameters) -> list[Additive]:
    return [mechanism for mechanism in known.plan.mechanisms if isinstance(mechanism, Laplace | Gaussian)]
