"""Sums of vectors, as a policy states them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from dpbeam.policy.checks.common import Declared, declared, unique
from dpbeam.policy.metrics.base import Columns, MetricArgs
from dpbeam.policy.schema.base import MAX_MAGNITUDE
from dpbeam.policy.violations import ABSENT, Finding, Key
from dpbeam.queries.bounds import Norm
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.metrics.vectors import VectorSum
from dpbeam.reading.vectors import MAX_LENGTH

SUMMED = ("int64", "float64", "vector")
"""The types of columns whose numbers a vector_sum may add up."""


class VectorSumArgs(MetricArgs):
    """The sum of vectors, whose numbers lie in `columns`, each scaled down to a `norm` of at most `max_norm`."""

    columns: Columns
    norm: Norm
    max_norm: Annotated[float, Field(ge=1e-15, le=MAX_MAGNITUDE)]

    def to_metric(self, kind: str, name: str, lengths: Mapping[str, int]) -> Metric:
        several = any(column in lengths for column in self.columns)
        return VectorSum(
            name=name,
            weight=self.weight,
            columns=self.columns,
            norm=self.norm,
            max_norm=float(self.max_norm),
            length=sum(lengths.get(column, 1) for column in self.columns) if several else 0,
        )

    def findings(self, policy: Declared, at: Key) -> Iterator[Finding]:
        for place, name in enumerate(self.columns):
            yield from declared(policy, (*at, "columns", place), name, SUMMED)
        yield from unique(self.columns, (*at, "columns"), None, "Name each column once.")
        length = sum(policy.vector_lengths.get(name, 1) for name in self.columns)
        if length > MAX_LENGTH:
            rule = f"must have at most {MAX_LENGTH} numbers in all, and has {length}"
            remedy = "Give each vector a vector_sum of its own."
            yield Finding(key=(*at, "columns"), rule=rule, remedy=remedy, value=ABSENT)


ARGUMENTS = {"vector_sum": VectorSumArgs}
