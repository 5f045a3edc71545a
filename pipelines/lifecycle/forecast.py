"""How many more runs of a policy its budget covers, until when, and what another meter or more noise would give."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, get_args

from dpbeam.accounting.certify import Certificate
from dpbeam.accounting.cumulative import VALID_ALWAYS, VALID_IF_FIXED, composed
from dpbeam.accounting.plan import mechanisms_for
from dpbeam.accounting.utility import noise_of_quantities
from dpbeam.errors import Refused, UsageError
from dpbeam.ledger import Ledger
from dpbeam.ledger.accounts import Budget
from dpbeam.ledger.amounts import Amount
from dpbeam.ledger.bookkeeping import utc_now
from dpbeam.ledger.entries import JournalEntry, Refunded, Reserved, Started
from dpbeam.ledger.meters import METERS, Meter
from dpbeam.mechanisms import cost_events
from dpbeam.mechanisms.cost_events import Event
from dpbeam.pipelines.lifecycle.metered import as_epsilon, cap_in, cost_in
from dpbeam.policy import compile as compiled
from dpbeam.policy.schema.policy import Policy
from dpbeam.queries.bounds import Bounds
from dpbeam.queries.query import Noise, Query


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the budget is used up if a run starts each `every`: the last one that it covers starts at `last`, None where
    it covers none."""

    every: timedelta
    stated: bool
    last: datetime | None


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """What a whole budget of the stated cap would cover: `runs` that cost `cost` each, with `noise` times the policy's
    own."""

    what: str
    cost: Amount
    runs: int
    noise: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SpentSoFar:
    """What the runs so far lost together, at δ: `enforced` is the ε that the budget's own sum proves, `composed` that
    of each method that composes fixed events, None where the journal doesn't say what some of them were."""

    delta: float
    enforced: float
    composed: Certificate | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is known beforehand of more runs of a policy; nothing of it reads data or writes."""

    budget: Budget
    cost: Amount
    runs: int
    schedule: Schedule | None
    alternatives: tuple[Alternative, ...]
    so_far: SpentSoFar

    def to_json(self) -> dict[str, Any]:
        """What `dpbeam budget what-if --json` prints."""
        schedule, so_far = self.schedule, self.so_far
        composed = None if so_far.composed is None else so_far.composed.to_json()
        return {
            "version": 1,
            "dataset": self.budget.dataset,
            "meter": self.budget.balance.meter.name,
            "cost": self.cost.to_json(),
            "left": self.budget.balance.left.to_json(),
            "runs": self.runs,
            "schedule": None
            if schedule is None
            else {
                "every_s": schedule.every.total_seconds(),
                "stated": schedule.stated,
                "last": None if schedule.last is None else schedule.last.isoformat(timespec="seconds"),
            },
            "alternatives": [
                {"what": each.what, "noise": each.noise, "cost": each.cost.to_json(), "runs": each.runs}
                for each in self.alternatives
            ],
            "so_far": {
                "delta": so_far.delta,
                "enforced": {"epsilon": so_far.enforced, "valid": VALID_ALWAYS},
                "composed": None if composed is None else composed | {"valid": VALID_IF_FIXED},
            },
        }


def forecast(policy: Policy, ledger: Ledger, every: timedelta | None = None) -> Forecast:
    """Foresees more runs of the policy, one each `every`, or at the pace of the journal.

    Raises:
        LedgerError: the dataset has no budget, or its history doesn't verify.
        Refused: the policy can't be planned, or a mechanism has no cost in a meter.
    """
    if every is not None and not every > timedelta(0):
        raise UsageError(f"every must be a time above 0, got {every}; write it as in 7d or 12h")
    budget, history = ledger.budget(policy.dataset), ledger.history(policy.dataset)
    balance, query = budget.balance, compiled.query(policy)
    cost = _cost(balance.meter, query)
    runs = covers(balance.left, cost)
    return Forecast(
        budget=budget,
        cost=cost,
        runs=runs,
        schedule=_schedule(history, runs, every),
        alternatives=tuple(_alternatives(query, budget.stated)),
        so_far=_so_far(budget, history),
    )


def covers(room: Amount, cost: Amount) -> int:
    """How many runs of this cost the room is enough for."""
    parts = [room.epsilon // cost.epsilon] + ([room.delta // cost.delta] if cost.delta else [])
    return min(parts)


def _cost(meter: Meter, query: Query) -> Amount:
    return cost_in(meter, mechanisms_for(query)[0], epsilon=query.epsilon, delta=query.delta)


def _schedule(history: Sequence[JournalEntry], runs: int, every: timedelta | None) -> Schedule | None:
    """By the stated interval, or the mean one of the journal's starts; None where there is neither."""
    starts = [datetime.fromisoformat(entry.time) for entry in history if isinstance(entry.fact, Started)]
    stated = every is not None
    if every is None:
        if len(starts) < 2 or starts[-1] <= starts[0]:
            return None
        every = (starts[-1] - starts[0]) / (len(starts) - 1)
    if runs == 0:
        return Schedule(every=every, stated=stated, last=None)
    first = starts[-1] + every if starts else utc_now()
    try:
        last = first + every * (runs - 1)
    except OverflowError:
        last = datetime.max.replace(tzinfo=first.tzinfo)
    return Schedule(every=every, stated=stated, last=last)


def _alternatives(query: Query, stated: Amount | None) -> list[Alternative]:
    """Each meter as the policy is, with half of its ε for a run, and with other bounds, noise or weights. `noise` is
    the largest, over what is released, against the policy's."""
    if stated is None:
        return []
    found = []
    own = noise_of_quantities(mechanisms_for(query)[0])
    for what, asked in _variants(query):
        try:
            made = mechanisms_for(asked)[0]
        except Refused:  # no plan is that much
            continue
        ratios = [figure.std / own[key].std for key, figure in noise_of_quantities(made).items() if key in own]
        noise = max(ratios, default=1.0)
        for meter in METERS.values():
            cost = cost_in(meter, made, epsilon=asked.epsilon, delta=asked.delta)
            runs = covers(cap_in(meter, stated), cost)
            found.append(Alternative(what=f"{what}, meter {meter}", cost=cost, runs=runs, noise=noise))
    return found


def _variants(query: Query) -> Iterator[tuple[str, Query]]:
    """The query itself, and what differs from it in one way. Fewer rows or partitions of a unit count where a bound is
    smaller: what that loses depends on the data, and isn't said here."""
    yield "this policy", query
    yield "half of its run.epsilon", replace(query, epsilon=query.epsilon / 2)
    halved = [
        stage if list(stage.automatic) else replace(stage, bounds=_halved(stage.bounds)) for stage in query.stages
    ]
    if halved != list(query.stages):
        yield "half of its bounds l0, linf, l1", replace(query, stages=tuple(halved))
    for noise in get_args(Noise):
        try:
            stages = tuple(stage if stage.noise is None else replace(stage, noise=noise) for stage in query.stages)
        except ValueError:  # a stage that can't have it
            continue
        if stages != query.stages:
            yield f"{noise} noise", replace(query, stages=stages)
    even = tuple(replace(stage, weight=1.0) for stage in query.stages)
    if len({stage.weight for stage in query.stages}) > 1:
        yield "the same weight for all stages", replace(query, stages=even)


def _halved(bounds: Bounds) -> Bounds:
    def half(bound: int | None) -> int | None:
        return None if bound is None else max(1, bound // 2)

    return Bounds(l0=half(bounds.l0), linf=half(bounds.linf), l1=half(bounds.l1))


def _so_far(budget: Budget, history: Sequence[JournalEntry]) -> SpentSoFar:
    delta = (budget.stated or budget.balance.cap).delta / 10**18
    return SpentSoFar(
        delta=delta,
        enforced=as_epsilon(budget.balance.spent + budget.balance.held, budget.balance.cap.delta / 10**18),
        composed=_composed(history, delta),
    )


def _composed(history: Sequence[JournalEntry], delta: float) -> Certificate | None:
    """Of all runs that weren't given back, the bounds of each method; None where one says nothing of its events."""
    texts: dict[str, str] = {}
    for entry in history:
        match entry.fact:
            case Reserved(charge_id=charge_id, events=events):
                texts[charge_id] = events
            case Refunded(charge_id=charge_id):
                texts.pop(charge_id)
            case _:
                pass
    if not all(json.loads(text) for text in texts.values()):
        return None
    every: list[Event] = [cost_events.from_json(each) for text in texts.values() for each in json.loads(text)]
    return composed(every, delta) if every else Certificate(naive=0.0, rdp=0.0, pld=0.0)
