"""What a policy says about values that break a column's rule: leave the row out, end the run, or put a value there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from dpbeam.policy.schema.base import AnyScalar, Strict


def _rule_tag(value: object) -> str:
    return "mapping" if isinstance(value, dict | Replace) else "word"


class Replace(Strict):
    """The value that stands in for one that breaks a column's rule."""

    replace: AnyScalar


RuleWord = Annotated[
    Annotated[Literal["drop", "fail"], Tag("word")] | Annotated[Replace, Tag("mapping")], Discriminator(_rule_tag)
]
