"""Whether anything in a released table is clear of its noise: told from what is released, so it costs nothing.

A table of public partitions is published whatever the rows are. Where a wrong type, a rule or a list that fits no row
has dropped them all, its numbers look like any others; only their noise tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.reporting.tables import MetricColumn

MISTAKEN = 1e-3
"""The probability at most with which a table of noise alone goes unnoticed."""
_COUNTS = frozenset({"count", "privacy_id_count"})


def all_is_noise(metrics: Sequence[MetricColumn], table: pa.Table) -> bool:
    """Whether each number lies within its noise's reach of 0: counts of rows and units if the table has any, else all
    whose noise is the same in each row, such as sums. False where there is none of these, or no row."""
    looked_at = list(_looked_at(metrics, table))
    reach = math.log(max(1, len(looked_at)) * max(1, table.num_rows) / MISTAKEN)
    return len(looked_at) > 0 and all(_farthest(table, metric) <= _stds(metric, reach) for metric in looked_at)


def warning(stage: str, metrics: Sequence[MetricColumn], table: pa.Table, *, has_coverage: bool) -> str | None:
    """What is said of a stage in which all is noise, and what to do; None of any other."""
    if not all_is_noise(metrics, table):
        return None
    told = "" if has_coverage else " A release says itself which share of rows counts, by `coverage: {share: 0.02}`."
    return (
        f"{stage}: no number here is clear of its noise; so it would be if no row counted at all. A column's type or "
        "rule, `where`, or partitions that fit no row may have dropped them, or there are too few for this much noise: "
        f"`dpbeam check` shows which.{told}"
    )


def _looked_at(metrics: Sequence[MetricColumn], table: pa.Table) -> Iterator[MetricColumn]:
    known = [each for each in metrics if each.std is not None and each.label is None and table.num_rows > 0]
    yield from [metric for metric in known if metric.kind in _COUNTS] or known


def _farthest(table: pa.Table, metric: MetricColumn) -> float:
    """How far from 0 the farthest value of a metric's column lies; infinity if one is missing."""
    column = table[metric.name].cast(pa.float64())
    return math.inf if column.null_count else float(pc.max(pc.abs(column)).as_py())


def _stds(metric: MetricColumn, reach: float) -> float:
    """Farther from 0 noise alone gets with a probability of e^-reach at most."""
    std = max(metric.std or 0.0, metric.other_std or 0.0)
    return std * (reach / math.sqrt(2) if metric.noise == "laplace" else math.sqrt(2 * (reach + math.log(2))))
