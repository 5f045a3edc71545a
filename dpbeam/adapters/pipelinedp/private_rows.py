"""What private collections are made of: pairs (privacy id, row), and the steps on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam

from dpbeam.transforms.wire.containment import ContainedDoFn


def unique_label(pipeline: beam.Pipeline, label: str) -> str:
    """The label, with a number after it if it is used in the pipeline already, as in PipelineDP."""
    used = {part for full in pipeline.applied_labels for part in full.split("/")}
    number, unused = 0, label
    while unused in used:
        number += 1
        unused = f"{label}_{number}"
    return unused


def id_of(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def of_row(extractor: Callable[[Any], Any], pair: tuple[Any, Any]) -> Any:
    return extractor(pair[1])


def one_row(fn: Callable[[Any], Any], row: Any) -> Iterator[Any]:
    yield fn(row)


class WithId(ContainedDoFn):
    step = "MakePrivate"

    def __init__(self, extractor: Callable[[Any], Any]) -> None:
        self._extractor = extractor

    def work(self, element: Any) -> Iterator[tuple[Any, Any]]:
        yield self._extractor(element), element


class OfRow(ContainedDoFn):
    """A (privacy id, row) into one pair for each of what a function makes of the row."""

    def __init__(self, step: str, fn: Callable[[Any], Iterable[Any]]) -> None:
        self.step = step
        self._fn = fn

    def work(self, element: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
        unit, row = element
        for made in self._fn(row):
            yield unit, made


class FirstFigure(ContainedDoFn):
    """A (partition key, MetricsTuple) of one metric into (partition key, figure)."""

    step = "Figures"

    def work(self, element: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
        key, metrics = element
        yield key, metrics[0]
