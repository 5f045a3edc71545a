"""How results are made of noisy quantities: post-processing of noisy numbers and public parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch
from typing import TypeVar

import pyarrow as pa

from dpbeam.array_types import F64
from dpbeam.engine.stage import StageSpec
from dpbeam.mechanisms.moments import NoisyQuantity
from dpbeam.mechanisms.noise_width import half_width
from dpbeam.queries.metrics.base import Metric
from dpbeam.queries.quantities import Quantity

Q = TypeVar("Q", bound=Quantity)


def noisy_column(quantity: Quantity) -> str:
    """The column of a quantity with its noise."""
    return f"__noisy_{quantity.name}"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The noisy quantities of a stage's partitions, a row a partition."""

    batch: pa.RecordBatch
    spec: StageSpec

    def column(self, quantity: Quantity) -> pa.Array:
        """A quantity's column."""
        return self.batch.column(noisy_column(quantity))

    def quantity(self, metric: Metric, kind: type[Q], place: int = 0) -> Q:
        """The quantity in this place of those that a metric is made from.

        Raises:
            TypeError: it is of another type.
        """
        needed = self.spec.made_from(metric)[place]
        if not isinstance(needed, kind):
            raise TypeError(f"{metric.name}: {needed.name} must be a {kind.kind}, got a {needed.kind}")
        return needed

    def part(self, metric: Metric, kind: type[Q], place: int = 0) -> NoisyQuantity[Q]:
        """The same as a part of what is shown."""
        return self.part_of(self.quantity(metric, kind, place))

    def part_of(self, quantity: Q) -> NoisyQuantity[Q]:
        """A quantity with its noise and its noisy numbers, a row a partition."""
        column = self.column(quantity)
        flat, size = (column, 1) if column.type == pa.float64() else (column.flatten(), column.type.list_size)
        numbers: F64 = flat.to_numpy().reshape(-1, size)
        return NoisyQuantity(quantity=quantity, noise=self.spec.noise[quantity.name], noisy=numbers)


@singledispatch
def result_columns(metric: Metric, drawn: Drawn) -> Iterable[pa.Array]:
    """The result columns of a metric, in order: of each released column its value and the ends of its interval, after
    the value that it counts and before its bias where it has them.

    Raises:
        TypeError: the engine doesn't know the metric.
    """
    raise TypeError(f"metric {metric.name}: no results are known for {metric.kind}")


def arrays(*columns: tuple[F64, ...]) -> list[pa.Array]:
    """Released columns, each of several arrays, as they are shown."""
    return [pa.array(numbers) for column in columns for numbers in column]


def as_drawn(metric: Metric, drawn: Drawn) -> list[pa.Array]:
    """A metric that shows its quantity as it is: each noisy number, with its 95 % interval over the noise."""
    part = drawn.part_of(drawn.spec.made_from(metric)[0])
    margin = half_width(part.noise)
    return arrays(*((value, value - margin, value + margin) for value in part.noisy.T))
