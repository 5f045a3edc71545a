"""How exact the results of a plan will be: the noise of each quantity and metric, how large a partition must be.

All of it follows from public parameters; nothing is measured on data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scipy import special

from dpbeam.mechanisms import truncated_geometric
from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    Selection,
    TruncatedGeometric,
    WeightedThresholding,
    in_others,
)
from dpbeam.mechanisms.noise_width import half_width, std
from dpbeam.mechanisms.targets import OfPartitions, OfQuantity, OfRound, target, target_of
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.sharing import by_definition, named, quantities, served


@dataclass(frozen=True, kw_only=True)
class NoiseFigure:
    """The noise of one quantity in one partition, in the units of that quantity (a sum's are its column's)."""

    stage: str
    metric: str
    kind: str
    std: float
    half_width_95: float


@dataclass(frozen=True, kw_only=True)
class SelectionFigure:
    """The least numbers of privacy units at which a partition is kept with probability 50 % and 99 % or more; or, where
    `metric` is a top_k and not `partitions`, a value in a partition."""

    stage: str
    kind: str
    pre_threshold: int
    units_50: int
    units_99: int
    metric: str = "partitions"
    note: str | None = None

    @property
    def keeps_values(self) -> bool:
        """Whether it keeps values in a partition, not partitions."""
        return isinstance(target(self.stage, self.metric), OfQuantity)


@dataclass(frozen=True, kw_only=True)
class MetricFigure:
    """The noise of one released metric, or of the parts it is made from where its own depends on the data.

    `shared` are the quantities among them that other metrics of the stage are made from too.
    """

    stage: str
    metric: str
    kind: str
    std: float | None
    half_width_95: float | None
    parts: tuple[NoiseFigure, ...] = ()
    shared: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class SharingFigure:
    """A quantity that serves several metrics, or a selection and metrics: its noise, and the least it would have if
    each had its own."""

    stage: str
    quantity: str
    serves: tuple[str, ...]
    std: float
    std_unshared: float


@dataclass(frozen=True, kw_only=True)
class AutomaticFigure:
    """A bound that the run finds: of a stage, or of one of its metrics. `most` is the most, or the farthest from 0,
    that it may become."""

    stage: str
    metric: str | None
    parameter: str
    most: float


@dataclass(frozen=True, kw_only=True)
class RelativeFigure:
    """The standard deviation of the noise of a quantity whose clipping bounds the run finds, where one row adds 1 at
    most."""

    stage: str
    quantity: str
    std: float


@dataclass(frozen=True, kw_only=True)
class OtherFigure:
    """What one privacy unit adds to one `other` of hierarchical keys at most: `rows` (None: nothing depends on their
    number) of `leaves` leaves, which move the quantity by `most`; and the standard deviation of the noise there."""

    stage: str
    quantity: str
    leaves: int
    rows: int | None
    most: float
    std: float


@dataclass(frozen=True, kw_only=True)
class CoverageFigure:
    """A stage's coverage: the share of the stage's budget that it costs, the standard deviation of its noise (on sums
    of one vote a privacy unit), by which factor it makes the noise of everything else larger, and from how many privacy
    units on its shares are within 5 percentage points with probability 95 %."""

    stage: str
    share: float
    std: float
    noise_growth: float
    units_5_points: int


@dataclass(frozen=True, kw_only=True)
class Utility:
    """All figures of a plan, each in the plan's order."""

    noise: tuple[NoiseFigure, ...]
    selections: tuple[SelectionFigure, ...]
    metrics: tuple[MetricFigure, ...]
    sharing: tuple[SharingFigure, ...] = ()
    automatic: tuple[AutomaticFigure, ...] = ()
    """Until the run has found them, all figures are for the most that these bounds may become."""
    relative: tuple[RelativeFigure, ...] = ()
    others: tuple[OtherFigure, ...] = ()
    coverage: tuple[CoverageFigure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        bought = {"coverage": [asdict(figure) for figure in self.coverage]} if self.coverage else {}
        return bought | {
            "noise": [asdict(figure) for figure in self.noise],
            "selections": [asdict(figure) for figure in self.selections],
            "metrics": [asdict(figure) for figure in self.metrics],
            "sharing": [asdict(figure) for figure in self.sharing],
            "automatic": [asdict(figure) for figure in self.automatic],
            "relative": [asdict(figure) for figure in self.relative],
            "others": [asdict(figure) for figure in self.others],
        }


def utility(mechanisms: Sequence[Mechanism], metrics: Mapping[str, Sequence[Metric]]) -> Utility:
    """The figures of these mechanisms, and of the metrics of each stage (by stage name) made from them.

    Raises:
        KeyError: a metric has no mechanism.
    """
    noise = noise_of_quantities(mechanisms)
    return Utility(
        noise=tuple(noise_figure(m) for m in mechanisms if isinstance(m, Laplace | Gaussian)),
        selections=tuple(selection_figure(m) for m in _deciding(mechanisms)),
        metrics=tuple(figure for stage, row in metrics.items() for figure in _metric_figures(stage, row, noise)),
        others=tuple(
            OtherFigure(
                stage=m.stage,
                quantity=m.metric,
                leaves=m.other.leaves,
                rows=m.other.rows,
                most=m.other.most,
                std=noise_figure(in_others(m)).std,
            )
            for m in mechanisms
            if isinstance(m, Laplace | Gaussian) and m.other is not None
        ),
    )


def noise_of_quantities(mechanisms: Sequence[Mechanism]) -> dict[tuple[str, str], NoiseFigure]:
    """The noise of each quantity by stage and name; the unit count's is that of its stage's thresholding, if it has no
    mechanism of its own, and that of values that a threshold keeps is the threshold's."""
    figures: dict[tuple[str, str], NoiseFigure] = {}
    for mechanism in mechanisms:
        if isinstance(mechanism, Laplace | Gaussian):
            figures[mechanism.stage, mechanism.metric] = noise_figure(mechanism)
        elif isinstance(mechanism, LaplaceThresholding | GaussianThresholding):
            selects = isinstance(target_of(mechanism), OfPartitions)
            counted = "privacy_id_count" if selects else mechanism.metric
            figures.setdefault((mechanism.stage, counted), noise_figure(mechanism))
    return figures


def noise_figure(mechanism: Laplace | Gaussian | LaplaceThresholding | GaussianThresholding) -> NoiseFigure:
    """The noise's standard deviation, and the half-width that it stays within with probability 95 %."""
    return NoiseFigure(
        stage=mechanism.stage,
        metric=mechanism.metric,
        kind=mechanism.kind,
        std=std(mechanism),
        half_width_95=half_width(mechanism),
    )


def _deciding(mechanisms: Sequence[Mechanism]) -> list[Selection | WeightedThresholding]:
    """The selections; of those in rounds the last round, which has the least noise."""
    selections: dict[OfPartitions | OfQuantity, Selection | WeightedThresholding] = {}
    for mechanism in mechanisms:
        if isinstance(mechanism, Laplace | Gaussian):
            continue
        match target_of(mechanism):
            case OfPartitions(stage=stage) | OfRound(stage=stage):
                selections[OfPartitions(stage=stage)] = mechanism
            case OfQuantity() as quantity:
                selections[quantity] = mechanism
            case _:
                raise ValueError(f"stage {mechanism.stage}: a histogram has noise, got {mechanism.kind}")
    return list(selections.values())


def selection_figure(mechanism: Selection | WeightedThresholding) -> SelectionFigure:
    """The figures of one selection; of a selection by weights, of its round alone, as its note says."""
    note = None
    if isinstance(mechanism, WeightedThresholding):
        few, many = (_least_units(replace(mechanism, l0=1), chance) for chance in (0.5, 0.99))
        note = (
            f"in the last round, of units that fill all their {mechanism.l0} partitions; of units in this partition "
            f"alone {few:,} and {many:,} are enough"
        )
    return SelectionFigure(
        stage=mechanism.stage,
        kind=mechanism.strategy if isinstance(mechanism, WeightedThresholding) else mechanism.kind,
        pre_threshold=mechanism.pre_threshold,
        units_50=_least_units(mechanism, 0.5),
        units_99=_least_units(mechanism, 0.99),
        metric=mechanism.metric,
        note=note,
    )


def keep_probability(selection: Selection | WeightedThresholding, units: int) -> float:
    """The probability that a partition of `units` privacy units is kept; 0 for none and below the pre-threshold.

    Raises:
        ValueError: `units` is negative.
    """
    if units < 0:
        raise ValueError(f"a partition has at least 0 privacy units, got {units}")
    if units < max(1, selection.pre_threshold):
        return 0.0
    beyond = units - (selection.pre_threshold - 1)
    match selection:
        case TruncatedGeometric():
            return _truncated_geometric(selection, beyond)
        case LaplaceThresholding():
            margin = beyond - selection.threshold
            tail = 0.5 * math.exp(-abs(margin) / selection.scale)
            return 1 - tail if margin >= 0 else tail
        case GaussianThresholding():
            return float(special.ndtr((beyond - selection.threshold) / selection.sigma))
        case WeightedThresholding():  # units without biases that fill l0 partitions each
            return float(special.ndtr((beyond / math.sqrt(selection.l0) - selection.threshold) / selection.sigma))
        case _:
            raise TypeError(f"{type(selection).__name__} selects nothing")


def _truncated_geometric(selection: TruncatedGeometric, units: int) -> float:
    """Theorem 1 of Desfontaines et al.: grows by e^ε and δ up to a half, mirrored above it; exact at any size. By the
    ε and δ that PyDP is given."""
    epsilon, delta = truncated_geometric.pydp_parameters(selection)
    epsilon, delta = epsilon / selection.l0, -math.expm1(math.log1p(-delta) / selection.l0)
    growth = math.expm1(epsilon)
    crossover = 1 + math.floor(math.log1p((growth + 2 * delta) / ((growth + 2) * delta) - 1) / epsilon)
    if units <= crossover:
        return min(1.0, delta * math.expm1(units * epsilon) / growth)
    at_crossover = delta * math.expm1(crossover * epsilon) / growth
    steps = units - crossover
    return min(1.0, -math.expm1(-steps * epsilon) * (1 + delta / growth) + math.exp(-steps * epsilon) * at_crossover)


def _least_units(selection: Selection | WeightedThresholding, probability: float) -> int:
    high = 1
    while keep_probability(selection, high) < probability:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keep_probability(selection, middle) >= probability else (middle, high)
    return high


def _metric_figures(
    stage: str, metrics: Sequence[Metric], noise: Mapping[tuple[str, str], NoiseFigure]
) -> Iterator[MetricFigure]:
    known, users = by_definition(quantities(metrics)), served(metrics)
    for metric in metrics:
        own = named(metric, known)
        shared = tuple(quantity.name for quantity in own if len(users[quantity.definition]) > 1)
        yield _metric_figure(stage, metric, tuple(noise[stage, quantity.name] for quantity in own), shared)


def _metric_figure(
    stage: str, metric: Metric, figures: tuple[NoiseFigure, ...], shared: tuple[str, ...]
) -> MetricFigure:
    derived = metric.note is not None
    return MetricFigure(
        stage=stage,
        metric=metric.name,
        kind=metric.kind,
        std=None if derived else figures[0].std,
        half_width_95=None if derived else figures[0].half_width_95,
        parts=figures if derived else (),
        shared=shared,
        note=metric.note,
    )
