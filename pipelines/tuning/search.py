"""The search for the policy with the least expected error: knob by knob, and those together that decide together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from dpbeam.errors import Refused, UsageError
from dpbeam.pipelines.tuning.expected_error import Judge, StageError
from dpbeam.pipelines.tuning.knobs import Knob, Value
from dpbeam.queries.query import Query

_WORTH = 0.99
"""A change must bring the error down to this part of what it was: less isn't worth another line in a policy."""
_ROUNDS = 4
_EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A knob at a value, all else as recommended, and what is expected then; None where no plan can be made."""

    value: Value
    stage: StageError | None
    error: float | None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A knob's values. `stated` is that of the policy, `chosen` that of the recommendation."""

    knob: Knob
    stated: Value
    chosen: Value
    settings: tuple[Setting, ...]


@dataclass(frozen=True, kw_only=True)
class AtEpsilon:
    """The errors of the policy and of the recommendation, were a run's ε another."""

    epsilon: float
    stated: float
    chosen: float


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was recommended, and the trade-offs around it. Where stages are `without_rows`, there is nothing to say: all
    that is figured is empty then, and nothing is recommended."""

    stated: Query
    chosen: Query
    stated_stages: tuple[StageError, ...]
    chosen_stages: tuple[StageError, ...]
    sweeps: tuple[Sweep, ...]
    epsilons: tuple[AtEpsilon, ...]
    without_rows: tuple[str, ...] = ()

    @property
    def stated_error(self) -> float:
        return sum(each.error for each in self.stated_stages) / len(self.stated_stages)

    @property
    def chosen_error(self) -> float:
        return sum(each.error for each in self.chosen_stages) / len(self.chosen_stages)

    @property
    def changes(self) -> tuple[Sweep, ...]:
        """What is to be changed."""
        return tuple(sweep for sweep in self.sweeps if sweep.stated != sweep.chosen)


def tune(query: Query, knobs: Sequence[Knob], judge: Judge) -> Tuned:
    """The query with the least expected error that the search finds, at the same ε and δ.

    Raises:
        UsageError, Refused: no plan of the query itself can be made.
    """
    at: dict[Knob, Value] = {knob: knob.of(query) for knob in knobs}
    least = judge.error(query)
    for _ in range(_ROUNDS):
        before = least
        for group in _groups(knobs):
            at, least = _best(query, at, group, judge, least)
        if least >= before:
            break
    at = _without_idle(query, at, judge, least)
    chosen = _with(query, at)
    return Tuned(
        stated=query,
        chosen=chosen,
        stated_stages=judge.stages(query),
        chosen_stages=judge.stages(chosen),
        sweeps=tuple(_sweep(query, at, knob, judge) for knob in knobs),
        epsilons=tuple(_at_epsilons(query, chosen, judge)),
    )


def untuned(query: Query, without_rows: Sequence[str]) -> Tuned:
    """What is known where stages have no rows: nothing, and nothing is recommended."""
    return Tuned(
        stated=query,
        chosen=query,
        stated_stages=(),
        chosen_stages=(),
        sweeps=(),
        epsilons=(),
        without_rows=tuple(without_rows),
    )


def _groups(knobs: Sequence[Knob]) -> Iterator[tuple[Knob, ...]]:
    """Strategy, noise and the first bound decide together: where a unit counts in many partitions other noises pay."""
    for stage in dict.fromkeys(knob.stage for knob in knobs):
        own = [knob for knob in knobs if knob.stage == stage]
        together = tuple(knob for knob in own if knob.what in ("l0", "l1", "strategy", "noise"))
        if together:
            yield together
        yield from ((knob,) for knob in own if knob not in together or len(together) == 1)


def _best(
    query: Query, at: dict[Knob, Value], group: tuple[Knob, ...], judge: Judge, least: float
) -> tuple[dict[Knob, Value], float]:
    """The values of the group that have the least error with all else as it is."""
    best = at
    for values in product(*(knob.values for knob in group)):
        tried = at | dict(zip(group, values, strict=True))
        error = _error(_with(query, tried), judge)
        if error is not None and error < least * (_WORTH if best is at else 1.0):
            best, least = tried, error
    return best, least


def _without_idle(query: Query, at: dict[Knob, Value], judge: Judge, least: float) -> dict[Knob, Value]:
    """The same without changes that bring next to nothing by themselves."""
    for knob in at:
        back = at | {knob: knob.of(query)}
        error = _error(_with(query, back), judge)
        if error is not None and error * _WORTH <= least:
            at, least = back, min(least, error)
    return at


def _with(query: Query, at: dict[Knob, Value]) -> Query:
    """The query with every knob at its value, as far as that is another than the query's own."""
    changed = query
    for knob, value in at.items():
        if value != knob.of(query):
            changed = knob.at(changed, value)
    return changed


def _error(query: Query, judge: Judge) -> float | None:
    try:
        return judge.error(query)
    except (UsageError, Refused):
        return None


def _sweep(query: Query, at: dict[Knob, Value], knob: Knob, judge: Judge) -> Sweep:
    settings = []
    for value in knob.values:
        try:
            stages = judge.stages(_with(query, at | {knob: value}))
        except (UsageError, Refused):
            settings.append(Setting(value=value, stage=None, error=None))
            continue
        error = sum(each.error for each in stages) / len(stages)
        settings.append(Setting(value=value, stage=stages[knob.stage], error=error))
    return Sweep(knob=knob, stated=knob.of(query), chosen=at[knob], settings=tuple(settings))


def _at_epsilons(stated: Query, chosen: Query, judge: Judge) -> Iterator[AtEpsilon]:
    for factor in _EPSILONS:
        epsilon = stated.epsilon * factor
        errors = [_error(replace(each, epsilon=epsilon), judge) for each in (stated, chosen)]
        if errors[0] is not None and errors[1] is not None:
            yield AtEpsilon(epsilon=epsilon, stated=errors[0], chosen=errors[1])
