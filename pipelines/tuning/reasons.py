"""Why a knob is to be turned: in words alone, since a policy travels and figures of the data must not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dpbeam.pipelines.tuning.knobs import Path, Value, scaled
from dpbeam.pipelines.tuning.search import Sweep
from dpbeam.queries.metrics.base import Clipped
from dpbeam.queries.query import Query

OF = {"l0": "people in more partitions", "linf": "people with more rows in a partition", "l1": "people with more rows"}
WHY_MORE = "lost more to it than the noise of a larger one costs"
WHY_LESS = "what a larger one keeps is less than the noise that it costs"
WHY_WIDER = "values beyond it lost more than the noise of wider bounds costs"
WHY_NARROWER = "what values beyond it add is less than the noise that wider bounds cost"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A key of a policy that gets another value: below the mapping, or the metric, at `path`."""

    path: Path
    key: str
    old: Value
    new: Value
    why: str


def changes(query: Query, sweep: Sweep) -> Iterator[Change]:
    """What a turned knob changes in the policy, with reasons."""
    knob, old, new = sweep.knob, sweep.stated, sweep.chosen
    match knob.what:
        case "l0" | "linf" | "l1":
            why = (
                f"{OF[knob.what]} {WHY_MORE}"
                if new > old  # type: ignore[operator]
                else WHY_LESS
            )
            yield _change(knob.path[:-1], knob.what, old, new, why)
        case "strategy":
            yield _change(
                knob.path[:-1], "strategy", old, new, "with these bounds it keeps more, or lets counts have less noise"
            )
        case "noise":
            yield _change(knob.path[:-1], "noise", old, new, "with these bounds it is the smaller noise")
        case "selection weight":
            why = "partitions" if new > old else "metrics"  # type: ignore[operator]
            yield _change(knob.path[:-1], "weight", old, new, f"{why} were short of budget")
        case "stage weight" | "metric weight":
            path = knob.path[:-1] if knob.what == "stage weight" else knob.path
            own = knob.what.partition(" ")[0]
            why = f"this {own} had the larger error" if new > old else f"this {own} has precision to spare"  # type: ignore[operator]
            yield _change(path, "weight", old, new, why)
        case "values":
            metric = query.stages[knob.stage].metrics[knob.metric or 0]
            if isinstance(metric, Clipped):
                why = WHY_WIDER if float(new) > 1 else WHY_NARROWER
                low, high = scaled(metric.low, metric.high, float(new))
                for key, was, now in (("low", metric.low, low), ("high", metric.high, high)):
                    if was != now:
                        yield _change(knob.path, key, was, now, why)


def _change(path: Path, key: str, old: Value, new: Value, why: str) -> Change:
    return Change(path=path, key=key, old=old, new=new, why=why)
