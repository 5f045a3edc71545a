"""A query that draws what tuning needs and nothing else: noisy histograms of what units contribute and of values.

It is released like any other: planned, certified, charged before the first row is read, found again at no cost. Its
histograms are those that find automatic bounds (`dpbeam.phases.bounds`), over grids that only the policy decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Additive, Gaussian, Laplace, Mechanism
from dpbeam.phases.bound_choice import Seen
from dpbeam.phases.bounds import histogram_metric, look, within
from dpbeam.policy.compile import query as compile_query
from dpbeam.policy.digest import digest_of
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.automatic import PARAMETERS, ClipSearch, CountSearch, Histogram, Parameter, Side, units_stage
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.quantiles import QuantileMetric
from dpbeam.queries.query import Query, Stage

_LEAST_MOST = 64
_TIMES = 16
"""Bounds on contributions are looked for up to so many times what the policy states, and to 64 at least."""
_BELOW, _ABOVE = 2.0**-10, 2.0**7
"""Bounds on values, from so many times what the policy states to so many times."""
_LARGEST, _SMALLEST = 5e14, 1e-12
_UNDECIDING = ("budget", "run", "guardrails", "coverage")
"""Keys of a policy that no histogram depends on."""


@dataclass(frozen=True, kw_only=True)
class Soundings:
    """What is drawn for the stages of a policy: `query` asks for it, and `searching` are the policy's stages with what
    is looked for in each."""

    query: Query
    searching: tuple[Stage, ...]


def soundings(policy: Policy, *, epsilon: float, delta: float) -> Soundings:
    """The histograms of all stages, at ε and δ together.

    Guarantee: one privacy unit is in one bin of each histogram, once. Grids and weights follow from the policy alone.

    Raises:
        UsageError: more than the policy's guardrails let one run spend, or nothing that could be looked for.
    """
    for name, asked in (("epsilon", epsilon), ("delta", delta)):
        limit = getattr(policy.guardrails, f"max_{name}_per_run")
        if limit is not None and not asked <= limit:
            raise UsageError(f"--{name} must be at most guardrails.max_{name}_per_run, {limit:g}, got {asked:g}")
    asked_for = compile_query(policy)
    searching = tuple(_searching(stage, of_rows=asked_for.unit is None) for stage in asked_for.stages)
    stages = tuple(drawn for stage in searching for drawn in _drawn(stage))
    if not stages:
        raise UsageError("no stage has a bound on contributions or values that could be tuned: nothing was charged")
    said = {key: value for key, value in policy.canonical_form().items() if key not in _UNDECIDING}
    digest = digest_of({"tuning": 1, "policy": said, "epsilon": float(epsilon), "delta": float(delta)})
    query = replace(asked_for, stages=stages, epsilon=float(epsilon), delta=float(delta), digest=digest)
    return Soundings(query=query, searching=searching)


def seen(made: Soundings, tables: Mapping[str, pa.Table], mechanisms: Sequence[Mechanism]) -> tuple[Seen, ...]:
    """What the released tables show of each stage of the policy, as far as it stands out from their noise.

    Guarantee: a function of noisy counts and public parameters, so it costs nothing.
    """
    noise = {(m.stage, m.metric): m for m in mechanisms if isinstance(m, Laplace | Gaussian)}
    return tuple(look(stage, _counts_of(stage, tables), _noise_of(stage, noise)) for stage in made.searching)


def _counts_of(stage: Stage, tables: Mapping[str, pa.Table]) -> Callable[[Histogram], Sequence[float]]:
    def counts(histogram: Histogram) -> list[float]:
        table = tables[_name(stage, histogram)]
        return [float(table.column(name)[0].as_py()) for name in histogram_metric(histogram).released]

    return counts


def _noise_of(stage: Stage, noise: Mapping[tuple[str, str], Additive]) -> Callable[[Histogram], Additive]:
    return lambda histogram: noise[_name(stage, histogram), histogram.metric]


def _searching(stage: Stage, *, of_rows: bool) -> Stage:
    """The stage with searches for each bound that it states, up to far beyond it. With units `of_rows` one contributes
    one row, so there is nothing to look for but values."""
    searches: list[tuple[Parameter, CountSearch]] = []
    for name in PARAMETERS:
        stated = getattr(stage.bounds, name)
        if stated is None or of_rows or (name == "l0" and not stage.keys):
            continue
        most = max(_LEAST_MOST, _TIMES * stated)
        if name == "l0" and stage.public is not None:
            most = max(stated, min(most, stage.public.num_rows))
        searches.append((name, CountSearch(max=most, weight=1.0)))
    limits = {name: search.max for name, search in searches}
    reach: dict[str, float] = {}
    for metric in stage.metrics:
        if isinstance(metric, Clipped):
            reach[metric.column] = max(reach.get(metric.column, 0.0), abs(metric.low), abs(metric.high))
    return replace(
        stage,
        noise=stage.noise or "laplace",
        coverage=None,
        weight=1.0,
        bounds=replace(stage.bounds, **limits),
        searches=tuple(searches),
        metrics=tuple(_looked_for(metric, reach) for metric in stage.metrics),
    )


def _has_ends(metric: Metric) -> bool:
    """Whether wider clipping bounds cost it noise. Quantiles are as exact with wide ones."""
    return isinstance(metric, Clipped) and not isinstance(metric, QuantileMetric)


def _looked_for(metric: Metric, reach: Mapping[str, float]) -> Metric:
    """The metric with searches for its ends; one at 0 stays there."""
    if not isinstance(metric, Clipped) or not _has_ends(metric):
        return metric
    farthest = reach[metric.column]
    least, most = max(_SMALLEST, farthest * _BELOW), min(_LARGEST, farthest * _ABOVE)
    if not least < most:
        return metric
    search = ClipSearch(least=least, most=most, weight=1.0)
    sides: list[tuple[Side, ClipSearch]] = []
    if metric.low != 0:
        sides.append(("low", search))
    if metric.high != 0:
        sides.append(("high", search))
    return replace(metric, searches=tuple(sides))


def _drawn(stage: Stage) -> Iterator[Stage]:
    """The stages that draw the histograms of one: of values, one row a unit; of units, what they contribute."""
    for name in dict.fromkeys(_name(stage, histogram) for histogram in stage.histograms):
        own = [histogram for histogram in stage.histograms if _name(stage, histogram) == name]
        of_units = own[0].stage == units_stage(stage.name)
        yield Stage(
            name=name,
            keys=(),
            key_types=(),
            partitions=None,
            bounds=Bounds(l0=1, linf=1),
            metrics=tuple(histogram_metric(histogram) for histogram in own),
            noise=stage.noise,
            weight=float(len(own)),
            units_of=_input(stage) if of_units else None,
        )


def _input(stage: Stage) -> Stage:
    """The partitions that units contribute to. No stage that a policy may name is called so."""
    metrics = tuple(replace(m, searches=()) if isinstance(m, Clipped) else m for m in stage.metrics)
    return replace(stage, name=f"{stage.name}.input", bounds=within(stage), searches=(), metrics=metrics)


def _name(stage: Stage, histogram: Histogram) -> str:
    return f"{stage.name}_{'units' if histogram.stage == units_stage(stage.name) else 'values'}"
