"""Refuses the mechanisms that PipelineDP's engine will draw for a query unless they are all there must be.

Which mechanisms PipelineDP draws for a stage, and what one privacy unit can move each by, is derived here a second
time, from the query's own fields and from PipelineDP's definitions of its sums, so that a slip in the plan can't hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpbeam.errors import Refused
from dpbeam.mechanisms.events import Gaussian, Laplace, LaplaceThresholding, Mechanism, TruncatedGeometric
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.means import Mean, Variance
from dpbeam.queries.metrics.quantiles import QuantileMetric
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.selections import TruncatedGeometric as TruncatedGeometricSelection

_CLOSE = 1e-9


def check_reference(query: Query, mechanisms: Sequence[Mechanism]) -> None:
    """Checks that each stage has exactly the mechanisms that PipelineDP draws for it, each as sensitive as it is.

    Guarantee: if it returns, no figure that PipelineDP releases for the query is without its mechanism, and each
    mechanism states at least the sensitivity of what PipelineDP adds up within the stage's bounds.

    Raises:
        Refused: a mechanism is missing, one too many, of another kind, or states another sensitivity.
    """
    if {m.stage for m in mechanisms} != {stage.name for stage in query.stages}:
        raise Refused("the plan must have mechanisms for every stage of the query, and for no other")
    for stage in query.stages:
        given = {m.metric: m for m in mechanisms if m.stage == stage.name}
        if len(given) != sum(m.stage == stage.name for m in mechanisms):
            raise Refused(f"stage {stage.name}: the plan has two mechanisms for one quantity")
        expected = _sensitivities(stage)
        names = {*expected, *(("partitions",) if stage.selection else ())}
        if names != set(given):
            raise Refused(
                f"stage {stage.name}: the plan must have the mechanisms {', '.join(sorted(names))}, got "
                f"{', '.join(sorted(given))}"
            )
        for name, (l1, l2) in expected.items():
            _check_noise(stage, given[name], l1, l2)
        if stage.selection is not None:
            _check_selection(stage, given["partitions"])


def _check_noise(stage: Stage, mechanism: Mechanism, l1: float, l2: float) -> None:
    where = f"stage {stage.name}, {mechanism.metric}"
    if mechanism.kind != stage.noise:
        raise Refused(f"{where}: the mechanism must be {stage.noise}, got {mechanism.kind}")
    sensitivity, least = (mechanism.l1, l1) if isinstance(mechanism, Laplace) else (_l2(mechanism), l2)
    if not math.isclose(sensitivity, least, rel_tol=_CLOSE):
        raise Refused(f"{where}: the sensitivity must be {least:.12g} by the stage's bounds, got {sensitivity:.12g}")


def _l2(mechanism: Mechanism) -> float:
    return mechanism.l2 if isinstance(mechanism, Gaussian) else math.nan


def _check_selection(stage: Stage, mechanism: Mechanism) -> None:
    private, l0 = stage.selection, stage.bounds.l0
    if isinstance(mechanism, Laplace | Gaussian) or private is None or mechanism.kind != private.strategy:
        raise Refused(f"stage {stage.name}: partitions must be selected as the stage says, got {mechanism.kind}")
    if (mechanism.l0, mechanism.pre_threshold) != (l0, private.pre_threshold):
        raise Refused(f"stage {stage.name}: the selection must have the stage's l0 and pre_threshold")
    if isinstance(mechanism, TruncatedGeometric):
        return
    stated = mechanism.l1 if isinstance(mechanism, LaplaceThresholding) else mechanism.l2**2
    if not math.isclose(stated, mechanism.l0, rel_tol=_CLOSE):
        raise Refused(f"stage {stage.name}: the selection's noise must be as sensitive as l0 says")


def _sensitivities(stage: Stage) -> dict[str, tuple[float, float]]:
    """What gets noise of its own, by name, with its change by one unit in l1 and in l2."""
    first: dict[str, Metric] = {}
    for metric in stage.metrics:
        first.setdefault("tree" if isinstance(metric, QuantileMetric) else metric.kind, metric)
    rows, units = _times(stage)
    by_quantity: dict[str, tuple[float, float]] = {}
    moment, total, vector = first.get("variance") or first.get("mean"), first.get("sum"), first.get("vector_sum")
    if isinstance(moment, Mean | Variance):
        half = (moment.high - moment.low) / 2
        by_quantity[f"{moment.name}.sum"] = (rows[0] * half, rows[1] * half)
        if isinstance(moment, Variance):
            # Squares of distances from the middle, as they are: each row moves their sum by up to half².
            by_quantity[f"{moment.name}.squares"] = (rows[0] * half**2, rows[1] * half**2)
    elif isinstance(total, Sum):
        most = max(abs(total.low), abs(total.high))
        by_quantity[total.name] = (rows[0] * most, rows[1] * most)
    elif isinstance(total, SumOfTotals):
        most = max(abs(total.low_total), abs(total.high_total))
        by_quantity[total.name] = (units[0] * most, units[1] * most)
    if moment is not None or "count" in first:
        by_quantity["count"] = rows
    if "privacy_id_count" in first and not _shared(stage):
        by_quantity["privacy_id_count"] = units
    if "tree" in first:  # a row is counted once in each of the four levels
        by_quantity[f"{first['tree'].name}.tree"] = (4 * rows[0], 2 * rows[1])
    if isinstance(vector, VectorSum):
        length, longest = vector.length or len(vector.columns), vector.max_norm
        l1 = longest * {"l1": 1, "l2": length**0.5, "linf": length}[vector.norm]
        l2 = longest * {"l1": 1, "l2": 1, "linf": length**0.5}[vector.norm]
        by_quantity[vector.name] = (units[0] * l1, units[1] * l2)
    return by_quantity


def _times(stage: Stage) -> tuple[tuple[float, float], tuple[float, float]]:
    """What one row's change is multiplied by, and what one partition's is, in l1 and in l2."""
    bounds = stage.bounds
    if stage.searches or any(isinstance(metric, Clipped) and metric.searches for metric in stage.metrics):
        raise Refused(f"stage {stage.name}: PipelineDP's engine has no bounds that the run finds")
    if bounds.l1 is not None:
        return (bounds.l1, bounds.l1), (bounds.l1, bounds.l1**0.5)
    l0, linf = bounds.l0 or math.nan, bounds.linf or math.nan  # NaN agrees with no mechanism
    return (l0 * linf, l0**0.5 * linf), (l0, l0**0.5)


def _shared(stage: Stage) -> bool:
    return stage.selection is not None and not isinstance(stage.selection, TruncatedGeometricSelection)
