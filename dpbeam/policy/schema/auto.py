"""Bounds that a policy leaves to the run: `{auto: {…}}` in place of a number."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from dpbeam.policy.schema.base import Bound, Clip, Strict, Weight
from dpbeam.queries.automatic import on_grid, outermost

Magnitude = Annotated[float, Field(ge=1e-12, le=5e14)]
SHARE = 0.5


class CountSearch(Strict):
    """A bound from 1 to `max`, found at a share `weight` of the stage's budget; where nothing stands out, it is
    `otherwise`."""

    max: Bound
    weight: Weight = SHARE
    otherwise: Bound | None = None

    @model_validator(mode="after")
    def _within(self) -> CountSearch:
        if self.otherwise is not None and self.otherwise > self.max:
            raise PydanticCustomError("otherwise", "must have an otherwise that it may find")
        return self


class ClipSearch(Strict):
    """A power of two from `least` to `most`, its negative, or 0, found at a share `weight` of the stage's budget;
    where nothing stands out, it is `otherwise`."""

    least: Magnitude = 1e-6
    most: Magnitude = 1e12
    weight: Weight = SHARE
    otherwise: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> ClipSearch:
        if not self.least < self.most:
            raise PydanticCustomError("search", "must have least below most")
        if self.otherwise is not None and not on_grid(self.otherwise, self.least, self.most):
            raise PydanticCustomError("otherwise", "must have an otherwise that it may find")
        return self

    @property
    def reach(self) -> float:
        """The largest magnitude that may be chosen."""
        return outermost(self.least, self.most)[1]


class AutoCount(Strict):
    """A bound on contributions that the run chooses."""

    auto: CountSearch


class AutoClip(Strict):
    """A clipping bound that the run chooses."""

    auto: ClipSearch


def _tag(value: object) -> str:
    return "search" if isinstance(value, dict | AutoCount | AutoClip) else "number"


CountOrAuto = Annotated[Annotated[Bound, Tag("number")] | Annotated[AutoCount, Tag("search")], Discriminator(_tag)]
ClipOrAuto = Annotated[Annotated[Clip, Tag("number")] | Annotated[AutoClip, Tag("search")], Discriminator(_tag)]
