"""What a mechanism is applied to: read from its names here, and nowhere else.

Formats keep the names (`stage` and `metric` of a mechanism); code that has to tell a quantity from a selection, a round
or a histogram asks `target_of`. Names that users choose can't be those of rounds, histograms, coverage or parts of
metrics (`dpbeam.policy.checks.metrics`; names of stages have no full stop).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from dpbeam.mechanisms.events import Mechanism

PARTITIONS = "partitions"
ROWS = "rows"
"""What the noise on a stage's coverage is on."""
Searched = Literal["values", "units"]
"""What a histogram counts: the values of a column, or units by what they contribute."""
Part = Literal["sum", "squares", "tree"]
"""Of a metric that is made from several noisy numbers: its centred sum, its centred squares, the counts of its tree."""

_COVERAGE = "coverage"
_ROUND = re.compile(r"partitions\.round([1-9][0-9]*)")


@dataclass(frozen=True, kw_only=True)
class OfPartitions:
    """Decides which partitions of a stage are shown."""

    stage: str

    @property
    def metric(self) -> str:
        return PARTITIONS


@dataclass(frozen=True, kw_only=True)
class OfRound:
    """Decides the same in one of several rounds, counted from 1."""

    stage: str
    number: int

    @property
    def metric(self) -> str:
        return f"{PARTITIONS}.round{self.number}"


@dataclass(frozen=True, kw_only=True)
class OfHistogram:
    """Noise on a histogram that bounds of `stage` are found by: of a column's values, or of units by `l0`, `linf` or
    `l1`. `metric` is that column or bound."""

    stage: str
    of: Searched
    metric: str


@dataclass(frozen=True, kw_only=True)
class OfCoverage:
    """Noise on what became of the rows of `stage`: the figures that its coverage is made of."""

    stage: str

    @property
    def metric(self) -> str:
        return ROWS


@dataclass(frozen=True, kw_only=True)
class OfQuantity:
    """Noise on a quantity of a stage, or a threshold on its values' noisy counts. `metric` is the quantity's name."""

    stage: str
    metric: str

    @property
    def part(self) -> Part | None:
        """Which part of its metric it is; None of a quantity that stands for itself."""
        of, _, last = self.metric.rpartition(".")
        return next((part for part in get_args(Part) if of and last == part), None)


Target = OfPartitions | OfRound | OfHistogram | OfCoverage | OfQuantity


def target_of(mechanism: Mechanism) -> Target:
    """What the mechanism is applied to."""
    return target(mechanism.stage, mechanism.metric)


def target(stage: str, metric: str) -> Target:
    """What a mechanism of these names is applied to."""
    base, _, of = stage.rpartition(".")
    for searched in get_args(Searched):
        if base and of == searched:
            return OfHistogram(stage=base, of=searched, metric=metric)
    if base and of == _COVERAGE:
        return OfCoverage(stage=base)
    if metric == PARTITIONS:
        return OfPartitions(stage=stage)
    if (number := _ROUND.fullmatch(metric)) is not None:
        return OfRound(stage=stage, number=int(number[1]))
    return OfQuantity(stage=stage, metric=metric)


def histogram_stage(stage: str, of: Searched) -> str:
    """The name of the internal stage that the histograms of a stage belong to: none that a user can give."""
    return f"{stage}.{of}"


def coverage_stage(stage: str) -> str:
    """The name of the internal stage that counts what became of a stage's rows: none that a user can give."""
    return f"{stage}.{_COVERAGE}"
