"""Mechanisms in, how exact their results will be out: noise of each quantity and metric, how large a partition must be.

All of it follows from public parameters; nothing is measured on data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import special

from dpbeam.mechanisms.events import (
    Gaussian,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    Selection,
    TruncatedGeometric,
)
from dpbeam.mechanisms.spec import Metric, mean_numerator

MEAN_NOTE = (
    "a mean is a noisy centred sum over a noisy count, plus the middle of the bounds: its error depends on the "
    "partition's count; roughly the sum's half-width over the count"
)


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
    """The least numbers of privacy units at which a partition is kept with probability 50 % and 99 % or more."""

    stage: str
    kind: str
    pre_threshold: int
    units_50: int
    units_99: int


@dataclass(frozen=True, kw_only=True)
class MetricFigure:
    """The noise of one released metric; for a mean, of its two parts, since its own depends on the count."""

    stage: str
    metric: str
    kind: str
    std: float | None
    half_width_95: float | None
    numerator: NoiseFigure | None = None
    count: NoiseFigure | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Utility:
    """All figures of a plan, each in the plan's order."""

    noise: tuple[NoiseFigure, ...]
    selections: tuple[SelectionFigure, ...]
    metrics: tuple[MetricFigure, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "noise": [asdict(figure) for figure in self.noise],
            "selections": [asdict(figure) for figure in self.selections],
            "metrics": [asdict(figure) for figure in self.metrics],
        }


def utility(mechanisms: Sequence[Mechanism], metrics: Mapping[str, Sequence[Metric]]) -> Utility:
    """The figures of these mechanisms, and of the metrics of each stage (by stage name) made from them.

    Raises:
        KeyError: a metric has no mechanism.
    """
    noise = {(m.stage, m.metric): noise_figure(m) for m in mechanisms if isinstance(m, Laplace | Gaussian)}
    return Utility(
        noise=tuple(noise.values()),
        selections=tuple(selection_figure(m) for m in mechanisms if not isinstance(m, Laplace | Gaussian)),
        metrics=tuple(_metric_figure(stage, metric, noise) for stage, row in metrics.items() for metric in row),
    )


def noise_figure(mechanism: Laplace | Gaussian) -> NoiseFigure:
    """The noise's standard deviation, and the half-width that it stays within with probability 95 %."""
    if isinstance(mechanism, Laplace):
        std, half_width = math.sqrt(2) * mechanism.scale, mechanism.scale * math.log(20)
    else:
        std, half_width = mechanism.sigma, mechanism.sigma * float(special.ndtri(0.975))
    return NoiseFigure(
        stage=mechanism.stage, metric=mechanism.metric, kind=mechanism.kind, std=std, half_width_95=half_width
    )


def selection_figure(mechanism: Selection) -> SelectionFigure:
    return SelectionFigure(
        stage=mechanism.stage,
        kind=mechanism.kind,
        pre_threshold=mechanism.pre_threshold,
        units_50=_least_units(mechanism, 0.5),
        units_99=_least_units(mechanism, 0.99),
    )


def keep_probability(selection: Selection, units: int) -> float:
    """The probability that a partition of `units` privacy units is kept; 0 for none and below the pre-threshold.

    Raises:
        ValueError: `units` is negative.
    """
    if units < 0:
        raise ValueError(f"a partition has at least 0 privacy units, got {units}")
    if units < max(1, selection.pre_threshold):
        return 0.0
    beyond = units - (selection.pre_threshold - 1)
    if isinstance(selection, TruncatedGeometric):
        return _truncated_geometric(selection, beyond)
    margin = beyond - selection.threshold
    if isinstance(selection, LaplaceThresholding):
        tail = 0.5 * math.exp(-abs(margin) / selection.scale)
        return 1 - tail if margin >= 0 else tail
    return float(special.ndtr(margin / selection.sigma))


def _truncated_geometric(selection: TruncatedGeometric, units: int) -> float:
    """Theorem 1 of Desfontaines et al.: grows by e^ε and δ up to a half, mirrored above it; exact at any size."""
    epsilon = selection.epsilon / selection.l0
    delta = -math.expm1(math.log1p(-selection.delta) / selection.l0)
    growth = math.expm1(epsilon)
    crossover = 1 + math.floor(math.log1p((growth + 2 * delta) / ((growth + 2) * delta) - 1) / epsilon)
    if units <= crossover:
        return min(1.0, delta * math.expm1(units * epsilon) / growth)
    at_crossover = delta * math.expm1(crossover * epsilon) / growth
    steps = units - crossover
    return min(1.0, -math.expm1(-steps * epsilon) * (1 + delta / growth) + math.exp(-steps * epsilon) * at_crossover)


def _least_units(selection: Selection, probability: float) -> int:
    high = 1
    while keep_probability(selection, high) < probability:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keep_probability(selection, middle) >= probability else (middle, high)
    return high


def _metric_figure(stage: str, metric: Metric, noise: Mapping[tuple[str, str], NoiseFigure]) -> MetricFigure:
    if metric.kind == "mean":
        return MetricFigure(
            stage=stage,
            metric=metric.name,
            kind=metric.kind,
            std=None,
            half_width_95=None,
            numerator=noise[stage, mean_numerator(metric)],
            count=noise[stage, "count"],
            note=MEAN_NOTE,
        )
    figure = noise[stage, metric.name if metric.kind == "sum" else metric.kind]
    return MetricFigure(
        stage=stage, metric=metric.name, kind=metric.kind, std=figure.std, half_width_95=figure.half_width_95
    )
