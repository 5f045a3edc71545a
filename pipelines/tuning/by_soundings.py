"""Bounds for a policy from the noisy histograms that were released for it, and what is expected of them.

Guarantee: a function of released figures, the policy and its plan; it sees no row, so it costs nothing.

How contributions lie in partitions isn't released. So errors are a range, over layouts that the histograms leave open
(`dpbeam.phases.expected_error`), and what depends on that alone isn't tuned: strategy, noise and weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dpbeam.accounting.plan import mechanisms_for
from dpbeam.mechanisms.events import Mechanism
from dpbeam.phases.bound_choice import Seen, choose, expected_errors, with_clips
from dpbeam.pipelines.tuning.reasons import OF, WHY_LESS, WHY_MORE, WHY_NARROWER, WHY_WIDER, Change
from dpbeam.queries.automatic import Parameter
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.query import Query, Stage

_WORTH = 0.99
"""A change must bring the error down to this part of what it was: less isn't worth another line in a policy."""


@dataclass(frozen=True, kw_only=True)
class BoundFound:
    """A bound of a stage, or of one of its metrics: as stated, and as recommended, with the noisy share of
    contributions, or of values, that each keeps. Where too little stands out from the noise, there are no shares and
    the bound stays."""

    metric: str | None
    parameter: str
    stated: float
    chosen: float
    stated_kept: float | None
    chosen_kept: float | None


@dataclass(frozen=True, kw_only=True)
class StageFound:
    """A stage's bounds, and the least and the greatest error that is expected, as stated and as recommended: 1 is that
    of a release of zeros. None where nothing could be seen."""

    stage: str
    bounds: tuple[BoundFound, ...]
    stated_error: tuple[float, float] | None
    chosen_error: tuple[float, float] | None
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The policy's query, and the one that is recommended."""

    stated: Query
    chosen: Query
    stages: tuple[StageFound, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(change for stage in self.stages for change in stage.changes)


def recommend(query: Query, searching: Sequence[Stage], shown: Sequence[Seen]) -> Recommended:
    """The bounds of the least expected error, stage by stage, at the query's own ε, δ, noise and weights.

    Raises:
        UsageError, Refused: the query itself can't be planned.
    """
    mechanisms, _ = mechanisms_for(query)
    chosen, found = [], []
    for place, (stage, searched, seen) in enumerate(zip(query.stages, searching, shown, strict=True)):
        best = _best(stage, mechanisms, seen)
        chosen.append(best)
        found.append(_found(place, stage, best, searched, mechanisms, seen))
    return Recommended(stated=query, chosen=replace(query, stages=tuple(chosen)), stages=tuple(found))


def _best(stage: Stage, mechanisms: Sequence[Mechanism], seen: Seen) -> Stage:
    """The chosen bounds, but for those that bring next to nothing by themselves; the stage itself if all of them do."""
    if not seen.contributions and not seen.clips:
        return stage
    best = choose(stage, mechanisms, seen)
    for back in _each_back(stage, best, seen):
        tried = back(best)
        if tried != best and _size(expected_errors(tried, mechanisms, seen), best, mechanisms, seen) * _WORTH <= 1:
            best = tried
    return stage if _size(expected_errors(stage, mechanisms, seen), best, mechanisms, seen) * _WORTH <= 1 else best


def _size(errors: Sequence[float], best: Stage, mechanisms: Sequence[Mechanism], seen: Seen) -> float:
    """How large these errors are against those of `best`: the root mean square over layouts."""
    others = expected_errors(best, mechanisms, seen)
    ratios = [(one / other) ** 2 if other > 0 else 1.0 for one, other in zip(errors, others, strict=True)]
    return math.sqrt(math.fsum(ratios) / len(ratios))


def _each_back(stage: Stage, best: Stage, seen: Seen) -> Iterator[_Back]:
    yield from (_Back(stage=stage, parameter=name) for name in seen.contributions)
    yield from (_Back(stage=stage, metric=metric.name) for metric in best.metrics if metric.name in seen.clips)


@dataclass(frozen=True, kw_only=True)
class _Back:
    """Takes one bound on contributions, or those on a metric's values, back to what `stage` has."""

    stage: Stage
    parameter: Parameter | None = None
    metric: str | None = None

    def __call__(self, best: Stage) -> Stage:
        if self.parameter is not None:
            return replace(
                best, bounds=replace(best.bounds, **{self.parameter: getattr(self.stage.bounds, self.parameter)})
            )
        ends = {m.name: (m.low, m.high) for m in self.stage.metrics if isinstance(m, Clipped) and m.name == self.metric}
        return with_clips(best, ends)


def _found(
    place: int, stage: Stage, best: Stage, searched: Stage, mechanisms: Sequence[Mechanism], seen: Seen
) -> StageFound:
    bounds, changes = [], []
    for name, _ in searched.searches:
        each = seen.contributions.get(name)
        old, new = getattr(stage.bounds, name), getattr(best.bounds, name)
        kept = (None, None) if each is None else (each.kept(old), each.kept(new))
        bounds.append(_bound(None, name, old, new, *kept))
        why = f"{OF[name]} {WHY_MORE}" if new > old else WHY_LESS
        changes.append(Change(path=("stages", place, "bounds"), key=name, old=old, new=new, why=why))
    for number, (metric, changed) in enumerate(zip(searched.metrics, best.metrics, strict=True)):
        before = stage.metrics[number]
        if not (isinstance(metric, Clipped) and isinstance(changed, Clipped) and isinstance(before, Clipped)):
            continue
        clip = seen.clips.get(metric.name)
        for side in metric.auto:
            was, now = getattr(before, side), getattr(changed, side)
            ends = [(end, math.inf) if side == "low" else (-math.inf, end) for end in (was, now)]
            shares = (None, None) if clip is None else tuple(clip.within(*each) for each in ends)
            bounds.append(_bound(metric.name, side, was, now, *shares))
            why = WHY_WIDER if (now > was) == (side == "high") else WHY_NARROWER
            changes.append(Change(path=("stages", place, "metrics", number), key=side, old=was, new=now, why=why))
    blind = not seen.contributions and not seen.clips
    return StageFound(
        stage=stage.name,
        bounds=tuple(bounds),
        stated_error=None if blind else _ends(expected_errors(stage, mechanisms, seen)),
        chosen_error=None if blind else _ends(expected_errors(best, mechanisms, seen)),
        changes=tuple(change for change in changes if change.old != change.new),
    )


def _bound(
    metric: str | None, parameter: str, old: float, new: float, kept: float | None, then: float | None
) -> BoundFound:
    return BoundFound(metric=metric, parameter=parameter, stated=old, chosen=new, stated_kept=kept, chosen_kept=then)


def _ends(errors: Sequence[float]) -> tuple[float, float]:
    return min(errors), max(errors)
