"""The phase in which a run finds bounds: noisy histograms of values and of units come out of a Beam job; the policy,
the plan and the stages with the bounds chosen from them go on to the main job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from dpbeam.accounting.check import check_same_losses
from dpbeam.accounting.plan import plan
from dpbeam.engine.automatic_bounds import LINEAR, ROOT, Chosen, choose_clip, choose_count, count_edges, value_edges
from dpbeam.engine.bounding import unit_rows
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace
from dpbeam.phases.phase import Parameters, Phase
from dpbeam.policy import compile as compiled
from dpbeam.policy.chosen import Key, automatic, with_chosen
from dpbeam.policy.schema.auto import (
    AutoClip,
    AutoCount,
    ClipSearch,
    Histogram,
    count,
    histograms,
    units_stage,
    values_stage,
)
from dpbeam.policy.schema.policy import Policy, Stage
from dpbeam.query.bounds import Bounds
from dpbeam.query.metric import Metric
from dpbeam.query.spec import StageSpec, UnitRows
from dpbeam.reporting.manifest import ChosenBound

_UNIT_COLUMN = {"l0": unit_rows.PARTITIONS, "linf": unit_rows.FULLEST, "l1": unit_rows.ROWS}


def bounds_phase(policy: Policy) -> tuple[Phase, ...]:
    """The phase, if the policy leaves any bound to the run."""
    return (Phase(name="bounds", stages=stages, learn=learn),) if automatic(policy) else ()


def stages(known: Parameters) -> tuple[StageSpec, ...]:
    """For each stage that needs them: the histograms of its columns, and those of its units.

    Guarantee: in each histogram a unit counts in one bin, once. Of values it gives one row, chosen uniformly from all
    its rows; of units it is one row itself, made from its rows within the most that the stage's bounds may become.
    """
    made: list[StageSpec] = []
    for stage in known.policy.stages:
        found = histograms(stage)
        for name in dict.fromkeys(histogram.stage for histogram in found):
            of_units = name == units_stage(stage.name)
            spec = StageSpec(
                name=name,
                unit=None if known.policy.privacy_unit == "row" else known.policy.privacy_unit,
                keys=(),
                key_types=(),
                bounds=Bounds(l0=1, linf=1),
                metrics=tuple(_metric(histogram) for histogram in found if histogram.stage == name),
                noise={m.metric: m for m in _noises(known) if m.stage == name},
                selection=None,
            )
            made.append(replace(spec, units=_units(known.policy, stage)) if of_units else spec)
    return tuple(made)


def learn(known: Parameters, tables: Mapping[str, pa.Table]) -> Parameters:
    """Chooses the bounds, and plans again for them.

    Guarantee: the choice sees noisy counts, public parameters and nothing else. The new plan is certified like the
    first and keeps every mechanism's privacy loss; only sensitivities and thresholds follow the bounds.

    Raises:
        Refused: the new plan isn't the old one but for its bounds.
    """
    chosen: dict[Key, Chosen] = {}
    for stage in known.policy.stages:
        chosen |= _chosen_clips(stage, known, tables)
        for histogram in histograms(stage):
            if not isinstance(histogram.search, ClipSearch):
                counts = _counts(tables, histogram)
                noise = _noise(known, histogram)
                most, growth = histogram.search.max, _growth(stage, histogram.metric)
                chosen[stage.name, None, histogram.metric] = choose_count(counts, noise, most=most, growth=growth)
    policy = with_chosen(known.policy, {key: each.value for key, each in chosen.items()})
    planned = plan(policy)
    check_same_losses(known.plan.mechanisms, planned.mechanisms)
    return replace(
        known,
        policy=policy,
        plan=planned,
        stages=compiled.stage_specs(policy, planned.mechanisms),
        chosen=tuple(
            ChosenBound(
                stage=key[0],
                metric=key[1],
                parameter=key[2],  # type: ignore[arg-type]
                value=chosen[key].value,
                fallback=not chosen[key].found,
            )
            for key in automatic(policy)
        ),
    )


def _chosen_clips(stage: Stage, known: Parameters, tables: Mapping[str, pa.Table]) -> dict[Key, Chosen]:
    """The automatic clipping bounds of a stage's metrics; a stated one beside an automatic one limits it."""
    chosen: dict[Key, Chosen] = {}
    by_column = {h.metric: h for h in histograms(stage) if h.stage == values_stage(stage.name)}
    for metric in stage.metrics:
        low, high = getattr(metric.args, "low", None), getattr(metric.args, "high", None)
        if not isinstance(low, AutoClip) and not isinstance(high, AutoClip):
            continue
        histogram = by_column[metric.args.column]
        search = histogram.search
        found_low, found_high = choose_clip(
            _counts(tables, histogram),
            _noise(known, histogram),
            least=search.least,
            most=search.most,
            low=None if isinstance(low, AutoClip) else float(low),
            high=None if isinstance(high, AutoClip) else float(high),
        )
        if isinstance(low, AutoClip):
            chosen[stage.name, metric.result_name, "low"] = found_low
        if isinstance(high, AutoClip):
            chosen[stage.name, metric.result_name, "high"] = found_high
    return chosen


def _metric(histogram: Histogram) -> Metric:
    search = histogram.search
    of_values = isinstance(search, ClipSearch)
    return Metric(
        kind="histogram",
        name=histogram.metric,
        column=histogram.metric if of_values else _UNIT_COLUMN[histogram.metric],
        edges=value_edges(search.least, search.most) if of_values else count_edges(search.max),
    )


def _units(policy: Policy, stage: Stage) -> UnitRows:
    """What units are made rows from: the stage's partitions, within the most that its bounds may become."""
    limits = stage.bounds
    if limits.l1 is None:
        # Where only l0 is looked for, one row of a pair says all there is to know.
        linf = count(limits.linf) if isinstance(limits.linf, AutoCount) else 1
        within = Bounds(l0=count(limits.l0), linf=linf)
    else:
        within = Bounds(l1=count(limits.l1))
    return UnitRows(stage=stage.name, keys=stage.group_by, key_types=compiled.key_types(policy, stage), bounds=within)


def _growth(stage: Stage, parameter: str) -> float:
    """The power of a bound by which noise is taken to grow: the selection's, for a bound on partitions."""
    linear = ("truncated_geometric", "laplace_thresholding")
    if parameter != "linf" and stage.private is not None and stage.private.strategy in linear:
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
