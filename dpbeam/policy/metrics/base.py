"""What the arguments of every metric are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dpbeam.policy.checks.common import NUMERIC, Declared, declared
from dpbeam.policy.schema.auto import AutoClip, ClipOrAuto
from dpbeam.policy.schema.auto import ClipSearch as StatedSearch
from dpbeam.policy.schema.base import Name, Strict, Weight
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.automatic import ClipSearch, Side
from dpbeam.queries.metrics import TYPES
from dpbeam.queries.metrics.base import Clipped, Metric

MAX_COLUMNS = 4096
"""The most columns that a metric lists; a vector is one column."""
MAX_EDGES = 10_001
"""The most entries of a list that a metric has: edges, candidates."""

Columns = Annotated[tuple[Name, ...], Field(strict=False, min_length=1, max_length=MAX_COLUMNS)]

CLIPPED = {kind.kind: kind for kind in TYPES if issubclass(kind, Clipped)}
"""The metrics of values that are clipped, each by itself."""

_LEAST_WIDTH = 1e-15


class MetricArgs(Strict):
    """What every metric may say: its share of the budget, and its column in the results."""

    is_count: ClassVar[bool] = False
    """Whether the metric may be called as counts are if nothing is said."""

    weight: Weight = 1.0
    name: Name | None = None

    def usual_name(self, kind: str) -> str:
        """What its column is called if no name is given, or what its columns' names begin with."""
        return kind

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        """The metric that it is; `lengths` are those of the columns that hold vectors.

        Raises:
            ValueError: its arguments don't fit together, which `findings` says.
            UsageError: a custom metric that can't be built.
        """
        raise NotImplementedError

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        """What is wrong with its columns, bounds and lists."""
        return iter(())

    def needs_rows(self, kind: str) -> bool:
        """Whether what one unit adds depends on how many rows it has in a partition."""
        return True

    def fits_totals(self, kind: str) -> bool:
        """Whether it can be made of rows that are aggregated already."""
        return False

    @property
    def searches(self) -> Iterator[tuple[Side, str, StatedSearch]]:
        """Each bound that it leaves to the run, with its column."""
        return iter(())

    @property
    def implementation(self) -> Mapping[str, Any] | None:
        """What it computes, where that lies in code that the policy doesn't hold: it belongs to the digest."""
        return None


class ValueArgs(MetricArgs):
    """A metric of a column's values, clipped to [low, high]: a sum, mean, variance, median and the like."""

    column: Name
    low: ClipOrAuto
    high: ClipOrAuto

    def usual_name(self, kind: str) -> str:
        return f"{self.column}_{kind}"

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        yield from declared(policy, (*at, "column"), self.column, NUMERIC)
        yield from apart(self.low, self.high, at, "low", "high")

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        return CLIPPED[kind](name=name, weight=self.weight, column=self.column, **clipped(self.low, self.high))

    @property
    def searches(self) -> Iterator[tuple[Side, str, StatedSearch]]:
        return stated_searches(self.column, self.low, self.high)


def stated_searches(
    column: str, low: float | AutoClip | None, high: float | AutoClip | None
) -> Iterator[tuple[Side, str, StatedSearch]]:
    """Those of a column's bounds that are left to the run."""
    if isinstance(low, AutoClip):
        yield "low", column, low.auto
    if isinstance(high, AutoClip):
        yield "high", column, high.auto


def clipped(low: float | AutoClip, high: float | AutoClip) -> dict[str, Any]:
    """The clipping bounds as a metric has them, with the searches for those that the run finds."""
    searches: list[tuple[Side, ClipSearch]] = []

    def end(side: Side, bound: float | AutoClip) -> float:
        if not isinstance(bound, AutoClip):
            return float(bound)
        found = bound.auto
        search = ClipSearch(least=found.least, most=found.most, weight=found.weight, otherwise=found.otherwise)
        searches.append((side, search))
        return search.farthest(side)

    return {"low": end("low", low), "high": end("high", high), "searches": tuple(searches)}


def apart(
    low: float | AutoClip | None, high: float | AutoClip | None, at: Key, low_key: str, high_key: str
) -> Iterator[Finding]:
    """That bounds aren't in order and apart."""
    yield from _otherwise(low, high, at, low_key, high_key)
    if isinstance(high, AutoClip) and not isinstance(low, AutoClip) and low is not None:
        if not low <= high.auto.reach / 2:
            rule, remedy = f"must be at most half of what {high_key} may become, {high.auto.reach!r}", "Raise its most."
            yield Finding(key=(*at, low_key), rule=rule, remedy=remedy, value=low)
        return
    if isinstance(low, AutoClip) and not isinstance(high, AutoClip) and high is not None:
        if not high >= -low.auto.reach / 2:
            rule, remedy = f"must be at least half of what {low_key} may become, {-low.auto.reach!r}", "Raise its most."
            yield Finding(key=(*at, high_key), rule=rule, remedy=remedy, value=high)
        return
    if low is None or high is None or isinstance(low, AutoClip) or isinstance(high, AutoClip):
        return
    if not low < high:
        rule, remedy = f"must be below {high_key}, {high!r}", "Give the bounds in rising order."
        yield Finding(key=(*at, low_key), rule=rule, remedy=remedy, value=low)
    elif high - low < _LEAST_WIDTH:
        rule, remedy = f"must lie at least {_LEAST_WIDTH} below {high_key}, {high!r}", "Use another unit."
        yield Finding(key=(*at, low_key), rule=rule, remedy=remedy, value=low)


def _otherwise(
    low: float | AutoClip | None, high: float | AutoClip | None, at: Key, low_key: str, high_key: str
) -> Iterator[Finding]:
    """That what bounds are where nothing stands out isn't in order: one histogram is of both, so either says it for
    both or for none."""
    both = isinstance(low, AutoClip) and isinstance(high, AutoClip)
    if not both and not isinstance(low, AutoClip) and not isinstance(high, AutoClip):
        return
    bottom = low.auto.otherwise if isinstance(low, AutoClip) else low
    top = high.auto.otherwise if isinstance(high, AutoClip) else high
    if both and (bottom is None) != (top is None):
        side, other = (low_key, high_key) if bottom is None else (high_key, low_key)
        rule, remedy = f"must state an otherwise where {other} does: both are found together", "Give one to both."
        yield Finding(key=(*at, side, "auto"), rule=rule, remedy=remedy, value=ABSENT)
    if bottom is None or top is None or top - bottom >= _LEAST_WIDTH:
        return
    side, value = (high_key, top) if isinstance(high, AutoClip) else (low_key, bottom)
    rule = f"must lie above low, {bottom!r}" if isinstance(high, AutoClip) else f"must lie below high, {top!r}"
    yield Finding(
        key=(*at, side, "auto", "otherwise"), rule=rule, remedy="Give the bounds in rising order.", value=value
    )
