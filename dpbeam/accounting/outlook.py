"""What results will be like by the plan alone: each strategy's people, intervals at sizes that people think of, metrics
that are one figure.

Everything follows from public parameters; nothing is measured on data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dpbeam.accounting.foreseen import foreseen
from dpbeam.accounting.plan import Plan, requests_for
from dpbeam.accounting.utility import MetricFigure, utility
from dpbeam.errors import DpbeamError
from dpbeam.mechanisms import moments
from dpbeam.mechanisms.events import Gaussian, Laplace, Mechanism
from dpbeam.mechanisms.moments import F64, NoisyQuantity
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.counts import Count, CountOfCounts, UnitCount
from dpbeam.queries.metrics.means import Mean, Moment, StdDev
from dpbeam.queries.metrics.sums import Sum, SumOfTotals
from dpbeam.queries.quantities import Quantity
from dpbeam.queries.query import Query, Stage
from dpbeam.queries.selections import SELECTIONS, Selection
from dpbeam.queries.sharing import by_definition, named, quantities

SIZES = (100, 1_000, 10_000)
"""The rows, or people, of the partitions that intervals are shown for."""


@dataclass(frozen=True, kw_only=True)
class StrategyFigure:
    """The least people at which a partition is kept with probability 50 % and 99 % or more, were all private stages
    selected by `strategy` at the same ε and δ. `refusal` says why that can't be planned; there are no figures then."""

    stage: str
    strategy: str
    is_stated: bool
    units_50: int | None
    units_99: int | None
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class SizeFigure:
    """Half the width of a metric's 95 % interval in a partition of `size` rows or people (`of`), from the narrowest to
    the widest that values within their bounds make it. `is_empty`: it is as wide as what it could be at all, so the
    result would say nothing."""

    stage: str
    metric: str
    kind: str
    of: str
    size: int
    least: float
    most: float
    is_empty: bool


@dataclass(frozen=True, kw_only=True)
class SameFigure:
    """Metrics of a stage that are one figure, and why."""

    stage: str
    metrics: tuple[str, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the results of a plan will be like."""

    strategies: tuple[StrategyFigure, ...]
    sizes: tuple[SizeFigure, ...]
    same: tuple[SameFigure, ...]

    @property
    def hopeless(self) -> tuple[tuple[str, str], ...]:
        """The metrics, by stage, that say nothing even in the largest partition that is looked at."""
        return tuple((each.stage, each.metric) for each in self.sizes if each.size == max(SIZES) and each.is_empty)

    def to_json(self) -> dict[str, Any]:
        return {
            "strategies": [asdict(figure) for figure in self.strategies],
            "sizes": [asdict(figure) for figure in self.sizes],
            "same": [asdict(figure) for figure in self.same],
        }


def outlook(query: Query, plan: Plan) -> Outlook:
    """The outlook of a query whose plan is at hand. It calibrates once for each strategy that isn't the stated one."""
    return Outlook(
        strategies=tuple(_strategies(query, plan)),
        sizes=tuple(figure for stage in query.stages for figure in _sizes(stage, plan)),
        same=tuple(figure for stage in query.stages for figure in _same(stage)),
    )


def _strategies(query: Query, plan: Plan) -> Iterator[StrategyFigure]:
    """By stage, every strategy, at the price of a calibration each. All private stages change together: what one could
    do alone is the same where there is one, and close to it where there are more."""
    private = {stage.name: stage.selection for stage in query.stages if stage.selection is not None}
    if not private:
        return
    found: dict[str, dict[str, tuple[int, int]] | str] = {}
    for kind in SELECTIONS:
        if all(isinstance(selection, kind) for selection in private.values()):
            continue
        try:
            mechanisms = _under(query, kind)
            figures = utility(mechanisms, {}).selections
            found[kind.strategy] = {f.stage: (f.units_50, f.units_99) for f in figures if not f.keeps_values}
        except DpbeamError as error:
            found[kind.strategy] = error.message[0]
    stated = {f.stage: (f.units_50, f.units_99) for f in plan.utility.selections if not f.keeps_values}
    for stage, selection in private.items():
        for strategy in (kind.strategy for kind in SELECTIONS):
            is_stated = strategy == selection.strategy
            figures_or_refusal = stated if is_stated else found[strategy]
            refusal = figures_or_refusal if isinstance(figures_or_refusal, str) else None
            few, many = (None, None) if isinstance(figures_or_refusal, str) else figures_or_refusal[stage]
            yield StrategyFigure(
                stage=stage, strategy=strategy, is_stated=is_stated, units_50=few, units_99=many, refusal=refusal
            )


def _under(query: Query, kind: type[Selection]) -> Sequence[Mechanism]:
    """The selections of the query's mechanisms, were all private stages selected by `kind`."""
    stages = tuple(
        stage if stage.selection is None else replace(stage, partitions=_as(stage.selection, kind))
        for stage in query.stages
    )
    mechanisms = foreseen(requests_for(replace(query, stages=stages)), epsilon=query.epsilon, delta=query.delta)
    return [mechanism for mechanism in mechanisms if not isinstance(mechanism, Laplace | Gaussian)]


def _as(selection: Selection, kind: type[Selection]) -> Selection:
    """The same selection by another strategy."""
    if isinstance(selection, kind):
        return selection
    return kind(pre_threshold=selection.pre_threshold, weight=selection.weight, hierarchy=selection.hierarchy)


def _sizes(stage: Stage, plan: Plan) -> Iterator[SizeFigure]:
    """Each metric that has an interval of its own, at each size. Where the run finds bounds on values there is none."""
    figures = {figure.metric: figure for figure in plan.utility.metrics if figure.stage == stage.name}
    known = by_definition(quantities(stage.metrics))
    noise = {m.metric: m for m in plan.mechanisms if m.stage == stage.name and isinstance(m, Laplace | Gaussian)}
    for metric in stage.metrics:
        if isinstance(metric, Clipped) and metric.auto:
            continue
        for size in SIZES:
            ends = _ends(metric, figures[metric.name], named(metric, known), noise, size)
            if ends is not None:
                least, most, whole = ends
                yield SizeFigure(
                    stage=stage.name,
                    metric=metric.name,
                    kind=metric.kind,
                    of="people" if isinstance(metric, UnitCount | SumOfTotals) else "rows",
                    size=size,
                    least=least,
                    most=most,
                    is_empty=least >= whole * (1 - 1e-9),
                )


def _ends(
    metric: Metric, figure: MetricFigure, parts: Sequence[Quantity], noise: Mapping[str, Laplace | Gaussian], size: int
) -> tuple[float, float, float] | None:
    """Half the interval at its narrowest and its widest, and where it says nothing any more; None of other metrics."""
    own = figure.half_width_95
    match metric:
        case Count() | CountOfCounts() | UnitCount() if own is not None:
            return own, own, float(size)
        case Sum() if own is not None:
            return own, own, size * max(abs(metric.low), abs(metric.high))
        case SumOfTotals() if own is not None:
            return own, own, size * max(abs(metric.low_total), abs(metric.high_total))
        case Moment():
            return _of_moment(metric, [(part, noise[part.name]) for part in parts], size)
    return None


def _of_moment(
    metric: Moment, parts: Sequence[tuple[Quantity, Laplace | Gaussian]], size: int
) -> tuple[float, float, float]:
    """By the very function that makes results: a mean in the middle of its bounds and at their end; a variance of
    values that lie close together in the middle, that are spread evenly, and that lie at both ends."""
    total, count = parts[0], parts[-1]
    reach = (metric.high - metric.low) / 2

    def noisy(part: tuple[Quantity, Laplace | Gaussian], value: float) -> NoisyQuantity[Any]:
        return NoisyQuantity(quantity=part[0], noise=part[1], noisy=np.array([[value]]))

    rows = noisy(count, float(size))
    if isinstance(metric, Mean):
        middle = moments.mean(noisy(total, 0.0), rows)
        end = moments.mean(noisy(total, size * reach), rows)
        return _half(middle), max(_half(middle), float(end[0][0] - end[1][0])), reach
    spreads = [
        moments.variance(noisy(total, 0.0), noisy(parts[1], size * (spread - 0.5) * reach**2), rows)
        for spread in (0.0, 1 / 3, 1.0)
    ]
    if isinstance(metric, StdDev):
        halves, whole = [_half(tuple(map(np.sqrt, each))) for each in spreads], reach / 2
    else:
        halves, whole = [_half(each) for each in spreads], reach**2 / 2
    return halves[1], max(halves), whole


def _half(found: Sequence[F64]) -> float:
    return float(found[2][0] - found[1][0]) / 2


def _same(stage: Stage) -> Iterator[SameFigure]:
    """Metrics that are one figure whatever the rows are: one draw of noise shown twice, or two draws for one."""
    found: dict[tuple[Any, ...], list[Metric]] = {}
    for metric in stage.metrics:
        found.setdefault((metric.kind, *(part.definition for part in metric.quantities)), []).append(metric)
    for metrics in found.values():
        if len(metrics) > 1:
            yield SameFigure(
                stage=stage.name,
                metrics=tuple(metric.name for metric in metrics),
                why="are made from the same noisy figures, so they are equal to the digit",
            )
    one_row = stage.bounds.linf == 1 or stage.bounds.l1 == 1
    if one_row and not any(name in ("linf", "l1") for name, _ in stage.searches):
        counts = [metric.name for metric in stage.metrics if isinstance(metric, Count | UnitCount)]
        if len({metric.kind for metric in stage.metrics if isinstance(metric, Count | UnitCount)}) > 1:
            bound = "linf" if stage.bounds.l1 is None else "l1"
            yield SameFigure(
                stage=stage.name,
                metrics=tuple(counts),
                why=f"count the same: by {bound} 1 each privacy unit has one row in a partition; drop one, and the "
                "other gets its share of the budget",
            )
    by_parts = {tuple(p.definition for p in m.quantities): m.name for m in stage.metrics if isinstance(m, StdDev)}
    for metric in stage.metrics:
        key = tuple(part.definition for part in metric.quantities)
        if isinstance(metric, Moment) and not isinstance(metric, StdDev | Mean) and key in by_parts:
            yield SameFigure(
                stage=stage.name,
                metrics=(metric.name, by_parts[key]),
                why="are made from the same noisy figures: one is the other's square",
            )
