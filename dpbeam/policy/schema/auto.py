"""Bounds that a policy leaves to the run: `{auto: {…}}` in place of a number, and the noisy histograms they need.

Until the run has chosen, such a bound stands for the most that it may become, so that a plan, its noise and its checks
hold for whatever is chosen. What was chosen is kept beside what the policy says, and is no part of its digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag, model_validator
from pydantic_core import PydanticCustomError

from dpbeam.engine.automatic_bounds import outermost
from dpbeam.policy.schema.base import Bound, Clip, Strict, Weight

if TYPE_CHECKING:
    from dpbeam.policy.schema.policy import Stage

Parameter = Literal["l0", "linf", "l1"]
PARAMETERS: tuple[Parameter, ...] = ("l0", "linf", "l1")

Magnitude = Annotated[float, Field(ge=1e-12, le=5e14)]
SHARE = 0.5


class CountSearch(Strict):
    """A bound from 1 to `max`, found at a share `weight` of the stage's budget."""

    max: Bound
    weight: Weight = SHARE


class ClipSearch(Strict):
    """A power of two from `least` to `most`, its negative, or 0, found at a share `weight` of the stage's budget."""

    least: Magnitude = 1e-6
    most: Magnitude = 1e12
    weight: Weight = SHARE

    @model_validator(mode="after")
    def _in_order(self) -> ClipSearch:
        if not self.least < self.most:
            raise PydanticCustomError("search", "must have least below most")
        return self

    @property
    def reach(self) -> float:
        """The largest magnitude that may be chosen."""
        return outermost(self.least, self.most)[1]


class AutoCount(Strict):
    """A bound on contributions that the run chooses."""

    auto: CountSearch
    _chosen: int | None = PrivateAttr(default=None)

    @property
    def value(self) -> int:
        """What was chosen; until then the most that may be."""
        return self.auto.max if self._chosen is None else self._chosen

    def with_chosen(self, value: int) -> AutoCount:
        """The same, once the run has chosen.

        Raises:
            ValueError: a bound that can't be chosen.
        """
        if not 1 <= value <= self.auto.max:
            raise ValueError(f"a bound must lie between 1 and {self.auto.max}, got {value}")
        made = self.model_copy()
        made._chosen = value
        return made


class AutoClip(Strict):
    """A clipping bound that the run chooses."""

    auto: ClipSearch
    _chosen: float | None = PrivateAttr(default=None)

    def value(self, side: Literal["low", "high"]) -> float:
        """What was chosen; until then the farthest that may be."""
        if self._chosen is not None:
            return self._chosen
        return -self.auto.reach if side == "low" else self.auto.reach

    def with_chosen(self, value: float) -> AutoClip:
        """The same, once the run has chosen.

        Raises:
            ValueError: a bound that can't be chosen.
        """
        if not abs(value) <= self.auto.reach:
            raise ValueError(f"a clipping bound must lie within ±{self.auto.reach}, got {value}")
        made = self.model_copy()
        made._chosen = value
        return made


def _tag(value: object) -> str:
    return "search" if isinstance(value, dict | AutoCount | AutoClip) else "number"


CountOrAuto = Annotated[Annotated[Bound, Tag("number")] | Annotated[AutoCount, Tag("search")], Discriminator(_tag)]
ClipOrAuto = Annotated[Annotated[Clip, Tag("number")] | Annotated[AutoClip, Tag("search")], Discriminator(_tag)]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A noisy histogram that a stage needs for bounds: of all rows' values, one row a unit; or of units, by what they
    contribute. `stage` and `metric` name its mechanism, `weight` is its share beside the metrics' of the stage.

    A unit counts in one bin, once, whatever it contributes.
    """

    stage: str
    metric: str
    weight: float
    search: ClipSearch | CountSearch


def number(bound: float | AutoClip, side: Literal["low", "high"]) -> float:
    """A clipping bound's value; the farthest that it may be where the run hasn't chosen yet."""
    return bound.value(side) if isinstance(bound, AutoClip) else float(bound)


def count(bound: int | AutoCount | None) -> int | None:
    """A bound's value; the most that it may be where the run hasn't chosen yet."""
    return bound.value if isinstance(bound, AutoCount) else bound


def values_stage(stage: str) -> str:
    """The name of the internal stage that counts the values of a stage's columns: none that a policy can give."""
    return f"{stage}.values"


def units_stage(stage: str) -> str:
    """The name of the internal stage that counts the units of a stage by what they contribute."""
    return f"{stage}.units"


def histograms(stage: Stage) -> tuple[Histogram, ...]:
    """The histograms of a stage, each once: of its columns in order of first use, then of l0, linf or l1.

    One histogram of a column serves all metrics of the stage, with the largest of their weights.
    """
    columns: dict[str, Histogram] = {}
    for column, clip in clips(stage):
        old = columns.get(column)
        weight = max(clip.auto.weight, 0.0 if old is None else old.weight)
        columns[column] = Histogram(stage=values_stage(stage.name), metric=column, weight=weight, search=clip.auto)
    units = [
        Histogram(stage=units_stage(stage.name), metric=name, weight=bound.auto.weight, search=bound.auto)
        for name in PARAMETERS
        if isinstance(bound := getattr(stage.bounds, name), AutoCount)
    ]
    return (*columns.values(), *units)


def clips(stage: Stage) -> Iterator[tuple[str, AutoClip]]:
    """(column, bound) of every clipping bound of a stage's metrics that the run chooses."""
    for metric in stage.metrics:
        for side in ("low", "high"):
            bound = getattr(metric.args, side, None)
            if isinstance(bound, AutoClip):
                column: str = getattr(metric.args, "column")  # noqa: B009
                yield column, bound
