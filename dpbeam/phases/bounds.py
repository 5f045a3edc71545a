"""The phase in which a run finds bounds: a Beam job makes noisy histograms of values and of units, and the query, the
plan and the stages go on to the main job with the bounds chosen from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from dpbeam.accounting.check import check_same_losses
from dpbeam.accounting.plan import plan
from dpbeam.engine.automatic_bounds import LINEAR, ROOT, Chosen, choose_clip, choose_count, count_edges, value_edges
from dpbeam.engine.bounding import unit_rows
from dpbeam.engine.stage import Flat, StageSpec, UnitRows, planned
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.phases.phase import Parameters, Phase
from dpbeam.queries.automatic import ClipSearch, CountSearch, Histogram, Key, units_stage, values_stage
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.metrics.histograms import Histogram as HistogramMetric
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.selections import LaplaceThresholding, TruncatedGeometric
from dpbeam.reporting.manifest import ChosenBound

_UNIT_COLUMN = {"l0": unit_rows.PARTITIONS, "linf": unit_rows.FULLEST, "l1": unit_rows.ROWS}


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
                metrics=tuple(_metric(histogram) for histogram in histograms if histogram.stage == name),
                noise={m.metric: m for m in _noises(known) if m.stage == name},
                selection=None,
                mode=_units(stage) if of_units else Flat(),
            )
            made.append(spec)
    return tuple(made)


def learn(known: Parameters, tables: Mapping[str, pa.Table]) -> Parameters:
    """Chooses the bounds, and plans again for them.

    Guarantee: the choice sees noisy counts, public parameters and nothing else. The new plan is certified like the
    first and keeps every mechanism's privacy loss; only sensitivities and thresholds follow the bounds.

    Raises:
        Refused: the new plan isn't the old one but for its bounds.
    """
    chosen: dict[Key, Chosen] = {}
    for stage in known.query.stages:
        chosen |= _chosen_clips(stage, known, tables)
        for histogram in stage.histograms:
            if isinstance(histogram.search, CountSearch):
                counts = _counts(tables, histogram)
                noise = _noise(known, histogram)
                most, growth = histogram.search.max, _growth(stage, histogram.metric)
                choice = choose_count(counts, noise, most=most, growth=growth)
                chosen |= {(stage.name, None, name): choice for name, _ in stage.searches if name == histogram.metric}
    query = known.query.with_chosen({key: each.value for key, each in chosen.items()})
    made = plan(query)
    check_same_losses(known.plan.mechanisms, made.mechanisms)
    return replace(
        known,
        query=query,
        plan=made,
        stages=planned(query, made.mechanisms),
        chosen=tuple(
            ChosenBound(
                stage=stage,
                metric=metric,
                parameter=parameter,
                value=chosen[stage, metric, parameter].value,
                fallback=not chosen[stage, metric, parameter].found,
            )
            for stage, metric, parameter in query.automatic
        ),
    )


def _chosen_clips(stage: Stage, known: Parameters, tables: Mapping[str, pa.Table]) -> dict[Key, Chosen]:
    """The automatic clipping bounds of a stage's metrics; a stated one beside an automatic one limits it."""
    chosen: dict[Key, Chosen] = {}
    by_column = {h.metric: h for h in stage.histograms if h.stage == values_stage(stage.name)}
    for metric in stage.metrics:
        if not isinstance(metric, Clipped) or not metric.searches:
            continue
        column, low, high = metric.column, metric.low, metric.high
        histogram = by_column[column]
        search = histogram.search
        if not isinstance(search, ClipSearch):
            raise TypeError(f"stage {stage.name}: values of {column} are searched for clipping bounds alone")
        found_low, found_high = choose_clip(
            _counts(tables, histogram),
            _noise(known, histogram),
            least=search.least,
            most=search.most,
            low=None if "low" in metric.auto else low,
            high=None if "high" in metric.auto else high,
        )
        for side in metric.auto:
            chosen[stage.name, metric.name, side] = found_low if side == "low" else found_high
    return chosen


def _metric(histogram: Histogram) -> HistogramMetric:
    search = histogram.search
    if isinstance(search, ClipSearch):
        column, edges = histogram.metric, value_edges(search.least, search.most)
    else:
        column, edges = _UNIT_COLUMN[histogram.metric], count_edges(search.max)
    return HistogramMetric(name=histogram.metric, column=column, edges=edges)


def _units(stage: Stage) -> UnitRows:
    """What units are made rows from: the stage's partitions, within the most that its bounds may become."""
    limits = stage.bounds
    if limits.l1 is None:
        # Where only l0 is looked for, one row of a pair says all there is to know.
        searched = any(name == "linf" for name, _ in stage.searches)
        limits = Bounds(l0=limits.l0, linf=limits.linf if searched else 1)
    return UnitRows(stage=stage.name, keys=stage.keys, key_types=stage.key_types, bounds=limits, placed=stage.placed)


def _growth(stage: Stage, parameter: str) -> float:
    """The power of a bound by which noise is taken to grow: the selection's, for a bound on partitions."""
    if parameter != "linf" and isinstance(stage.selection, TruncatedGeometric | LaplaceThresholding):
        return LINEAR
    return ROOT


def _counts(tables: Mapping[str, pa.Table], histogram: Histogram) -> list[float]:
    metric = _metric(histogram)
    table = tables[histogram.stage]
    return [table.column(name)[0].as_py() for name in metric.released]


def _noise(known: Parameters, histogram: Histogram) -> Additive:
    return next(m for m in _noises(known) if (m.stage, m.metric) == (histogram.stage, histogram.metric))


def _noises(known: Parameters) -> list[Additive]:
    return [mechanism for mechanism in known.plan.mechanisms if isinstance(mechanism, Laplace | Gaussian)]
