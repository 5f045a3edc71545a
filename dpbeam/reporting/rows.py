"""The top rows of a result table as text and numbers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A released value and its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class DisplayRow:
    """One partition: its keys as text, its metrics by name."""

    keys: tuple[str, ...]
    values: Mapping[str, Interval]
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """Of metrics that count one value of the partition, that value as text; None where there is none."""


def top_rows(
    table: pa.Table,
    *,
    keys: Sequence[str],
    metrics: Sequence[str],
    by: str | None,
    limit: int,
    labels: Mapping[str, str] | None = None,
) -> list[DisplayRow]:
    """The `limit` rows with the largest values of metric `by`, largest first; ties, and all without `by`, in the
    table's order. `labels` names the column of text that goes with a metric."""
    intervals = [name for metric in metrics for name in (metric, f"{metric}_low", f"{metric}_high")]
    # The columns that are shown, alone: a table may have thousands for one metric.
    table = table.select(list(dict.fromkeys((*keys, *intervals, *(labels or {}).values()))))
    top = table.slice(0, limit)
    if by is not None:
        order = pc.array_sort_indices(table[by].combine_chunks().cast(pa.float64()), order="descending")
        top = table.take(order[:limit])
    key_columns = [top[key].to_pylist() for key in keys]
    numbers = {name: top[name].to_pylist() for name in intervals}
    texts = {metric: top[column].to_pylist() for metric, column in (labels or {}).items()}
    return [
        DisplayRow(
            labels={metric: None if column[i] is None else key_text(column[i]) for metric, column in texts.items()},
            keys=tuple(key_text(column[i]) for column in key_columns),
            values={
                metric: Interval(
                    value=_number(numbers[metric][i]),
                    low=_number(numbers[f"{metric}_low"][i]),
                    high=_number(numbers[f"{metric}_high"][i]),
                )
                for metric in metrics
            },
        )
        for i in range(top.num_rows)
    ]


def key_text(value: Any) -> str:
    """A key's value as people read it; the raw text of a string. A hierarchical key beyond its level is `(other)`."""
    if value is None:
        return "(other)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
