"""The most frequent values, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dpbeam.policy.checks.common import Declared, declared, guarded, unique
from dpbeam.policy.metrics.base import MAX_EDGES, MetricArgs
from dpbeam.policy.schema.base import AnyScalar, Bound, Name
from dpbeam.policy.values import DESCRIPTIONS, suits
from dpbeam.policy.violations import Finding, Key
from dpbeam.queries.column_types import Scalar
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.top_k import TopK

MAX_K = 100
TEXTS = ("string", "int64", "bool", "date")
"""The types of columns whose values can be shown as text."""


class TopKArgs(MetricArgs):
    """The `k` most frequent values of `column`: of all of them, or of `candidates`, a list known beforehand."""

    model_config = ConfigDict(
        json_schema_extra={"not": {"required": ["pre_threshold", "candidates"]}},
    )

    column: Name
    k: Annotated[int, Field(ge=1, le=MAX_K)]
    max_values: Bound
    pre_threshold: Bound = 1
    candidates: Annotated[tuple[AnyScalar, ...], Field(strict=False, min_length=1, max_length=MAX_EDGES)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> TopKArgs:
        if self.candidates is not None and (self.k > len(self.candidates) or self.pre_threshold != 1):
            raise PydanticCustomError("top_k", "must have at least k candidates, and with candidates no pre_threshold")
        return self

    def usual_name(self, kind: str) -> str:
        return f"{self.column}_{kind}"

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        return TopK(
            name=name,
            weight=self.weight,
            column=self.column,
            k=self.k,
            max_values=self.max_values,
            pre_threshold=self.pre_threshold,
            candidates=tuple(map(text_of, self.candidates or ())),
        )

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        yield from declared(policy, (*at, "column"), self.column, TEXTS)
        kind = policy.type_of(self.column)
        for place, value in enumerate(self.candidates or ()):
            if kind in TEXTS and not suits(value, kind):
                rule = f"must be {DESCRIPTIONS[kind]}, for {self.column} is {kind}"
                remedy = "Give a value of the column's type."
                yield Finding(key=(*at, "candidates", place), rule=rule, remedy=remedy, value=value)
        texts = [text_of(value) for value in self.candidates or ()]
        yield from unique(texts, (*at, "candidates"), None, "Name each candidate once.")
        if self.candidates is None:  # values come from the data as private partitions do: the same guardrail holds
            yield from guarded(policy, at, self.pre_threshold)

    def needs_rows(self, kind: str) -> bool:
        return False


def text_of(value: Scalar) -> str:
    """A candidate as the engine writes values of its column's type."""
    return str(value).lower() if isinstance(value, bool) else str(value)


ARGUMENTS = {"top_k": TopKArgs}
