"""The bounds of a stage by the error that its results would have, from noisy histograms and public figures alone.

Every candidate is one set of bounds; its error is `StageError`'s, for every layout of contributions in partitions that
public figures and the histograms leave open. The choice is the candidate of the least expected error: the mean square,
over these layouts, of its error against that of the layout's best candidate. So it is near the best whichever is true,
and no layout counts for more because all errors are large in it.

Bounds on contributions are chosen together, since noise grows with their product and rows are lost to either. Clipping
bounds are chosen for each metric by itself, low and high together. One depends on the other, so both are done twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from dpbeam.accounting.at_bounds import at_bounds
from dpbeam.engine.automatic_bounds import Clips, Contributions
from dpbeam.mechanisms.events import Mechanism
from dpbeam.phases.expected_error import Kept, Layout, StageError, Values, layouts
from dpbeam.queries.automatic import Parameter
from dpbeam.queries.metrics.base import Clipped, Metric
from dpbeam.queries.metrics.quantiles import QuantileMetric
from dpbeam.queries.query import Stage

_PASSES = 2
_LEAST = 1e-9
"""Errors below this are alike: a release of keys alone that loses nothing has none."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the histograms of a stage show: contributions, for each bound on them that the run finds; the values of each
    metric whose clipping bounds it finds; and `people`, how many units there are, if only values tell."""

    contributions: Mapping[Parameter, Contributions]
    clips: Mapping[str, Clips]
    people: float = 0.0


def choose(stage: Stage, planned: Sequence[Mechanism], seen: Seen) -> Stage:
    """The stage with the bounds chosen that its histograms show something of.

    Guarantee: a function of noisy counts, the policy and the plan, and the same wherever it is computed.
    """
    now = with_clips(stage, {name: clips.pairs[0] for name, clips in seen.clips.items()})
    compared = _Compared(planned=planned, seen=seen, layouts=tuple(_layouts(stage, seen)))
    # Quantiles take the widest: their noise doesn't grow with the bounds.
    by_error = [m.name for m in stage.metrics if m.name in seen.clips and not isinstance(m, QuantileMetric)]
    for _ in range(_PASSES if by_error and seen.contributions else 1):
        now = compared.best(
            [replace(now, bounds=replace(now.bounds, **found)) for found in _candidates(seen.contributions)]
        )
        for name in by_error:
            now = compared.best([with_clips(now, {name: pair}) for pair in seen.clips[name].pairs], only=name)
    return now


def expected_errors(stage: Stage, planned: Sequence[Mechanism], seen: Seen) -> list[float]:
    """The error of the stage, with the bounds that it has here, for every layout that is left open: 1 is that of a
    release of zeros. Stages that differ in bounds alone that `seen` shows something of have the same layouts."""
    over = tuple(_layouts(stage, seen))
    return _Compared(planned=planned, seen=seen, layouts=over).errors(stage, None)


def kept(stage: Stage, seen: Seen) -> Kept:
    """What the stage's bounds on contributions keep, as far as its histograms show it."""
    share = {name: found.kept(getattr(stage.bounds, name)) for name, found in seen.contributions.items()}
    pairs = share.get("l0", share.get("l1", 1.0))
    return Kept(pairs=pairs, within=share.get("linf", 1.0))


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Candidates against each other, by what is planned and seen, over all layouts."""

    planned: Sequence[Mechanism]
    seen: Seen
    layouts: tuple[Layout, ...]

    def best(self, candidates: Sequence[Stage], only: str | None = None) -> Stage:
        """The candidate of the least expected error, of one metric or of all; the first of equal ones."""
        if len(candidates) == 1:
            return candidates[0]
        errors = np.maximum([self.errors(candidate, only) for candidate in candidates], _LEAST)
        return candidates[int(np.argmin(((errors / errors.min(axis=0)) ** 2).mean(axis=1)))]

    def errors(self, stage: Stage, only: str | None) -> list[float]:
        error = StageError(
            stage=stage,
            mechanisms=at_bounds(stage, self.planned),
            kept=kept(stage, self.seen),
            values={n: Values(values=c.values, parts=c.parts) for n, c in self.seen.clips.items()},
        )
        asked = [metric for metric in stage.metrics if only in (None, metric.name)]
        return error.of(self.layouts, asked)


def _candidates(contributions: Mapping[Parameter, Contributions]) -> list[dict[str, int]]:
    """All sets of bounds on contributions, the low ones first."""
    return [
        dict(zip(contributions, each, strict=True)) for each in product(*(c.bounds for c in contributions.values()))
    ]


def with_clips(stage: Stage, ends: Mapping[str, tuple[float, float]]) -> Stage:
    """The stage with the clipping bounds (low, high) of some metrics set."""

    def with_ends(metric: Metric) -> Metric:
        if not isinstance(metric, Clipped) or metric.name not in ends:
            return metric
        low, high = ends[metric.name]
        return replace(metric, low=low, high=high)

    return replace(stage, metrics=tuple(map(with_ends, stage.metrics)))


def _layouts(stage: Stage, seen: Seen) -> Iterator[Layout]:
    """Every layout that is open. What no histogram shows of contributions lies between 1 and the stated bound."""
    public = 1 if not stage.keys else None if stage.public is None else stage.public.num_rows
    bounds, shown = stage.bounds, seen.contributions
    people = max((float(each.units.sum()) for each in shown.values()), default=seen.people)
    if "l1" in shown or bounds.l1 is not None:
        rows_open = [shown["l1"].total] if "l1" in shown else [people, people * (bounds.l1 or 1)]
        totals = [(pairs, rows) for rows in rows_open for pairs in (min(people, rows), rows)]
        fewest = 1.0
    else:
        pairs_open = [shown["l0"].total] if "l0" in shown else [people, people * (bounds.l0 or 1)]
        each_pair = [shown["linf"].mean] if "linf" in shown else [1.0, float(bounds.linf or 1)]
        totals = [(pairs, pairs * each) for pairs in pairs_open for each in each_pair]
        fewest = float(shown["l0"].largest) if "l0" in shown else 1.0
    for pairs, rows in dict.fromkeys(totals):
        yield from layouts(pairs, rows, fewest, public)
