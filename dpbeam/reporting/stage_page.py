"""One stage as the report's template draws it: its rows, which are picked and put in order once, and its charts.

Rows come in the order of their keys, where that is one people expect (numbers, dates, intervals), in the policy's, or
by the stage's first count. No other value picks or orders any: the largest of many noisy means are those with the most
noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpbeam.mechanisms.noise_width import NORMAL_95
from dpbeam.reporting import clearness, coverage
from dpbeam.reporting.charts import Chart, Row, chart, is_noise
from dpbeam.reporting.facts import StageReport
from dpbeam.reporting.manifest import FileEntry
from dpbeam.reporting.numbers import humane
from dpbeam.reporting.page import MAX_TEXT
from dpbeam.reporting.rows import DisplayRow, top_rows
from dpbeam.reporting.tables import MetricColumn
from dpbeam.reporting.visible import visible_key

MAX_ROWS = 50
MAX_BARS = 20
MAX_BARS_IN_ORDER = 31
"""Of partitions that come in an order of their own, such as the days of a month."""
MAX_VALUE_BARS = 40
"""Of the most frequent values of partitions, over all that are drawn."""
MAX_COLUMNS = 16
"""Of a metric with more columns, as the sum of vectors, the page shows so many; each has a chart."""
MAX_CHARTS = 4
"""Of a stage with more, so many are seen at once; the others unfold."""
_COUNTS = frozenset({"count", "privacy_id_count"})
_STRATEGIES = {
    "truncated_geometric": "truncated geometric",
    "laplace_thresholding": "Laplace thresholding",
    "gaussian_thresholding": "Gaussian thresholding",
    "dp_sips": "DP-SIPS",
    "mad": "MAD",
    "mad2r": "MAD2R",
}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A chart with what it shows: `name` of the metric; `of` says which partitions, of how many."""

    name: str
    chart: Chart
    partitions: int


def strategy_name(kind: str) -> str:
    """A strategy of selection as people name it."""
    return _STRATEGIES.get(kind, kind)


def stage_view(stage: StageReport, files: Sequence[FileEntry]) -> dict[str, Any]:
    """What the template shows of `stage`, whose tables lie in those of `files` that are named after it."""
    metrics = [metric for metric in stage.metrics if metric.place < MAX_COLUMNS]
    names = [metric.name for metric in metrics]
    labels = {metric.name: metric.label for metric in metrics if metric.label is not None}
    by = None if stage.order else first_count(stage.metrics)
    rows = top_rows(stage.table, keys=stage.keys, metrics=names, by=by, limit=MAX_ROWS, labels=labels)
    noise = clearness.warning(stage.name, stage.metrics, stage.table, has_coverage=stage.coverage is not None)
    return {
        "facts": stage,
        "coverage": [*coverage.said(stage.coverage), *filter(None, [noise])],
        "metrics": metrics,
        "wide": [metric for metric in metrics if metric.place == 0 and metric.of > MAX_COLUMNS],
        "total": f"{stage.table.num_rows:,}",
        "cut": stage.table.num_rows > len(rows),
        "by": by,
        "strategy": strategy_name(stage.selection.strategy) if stage.selection else None,
        "charts": _charts(stage, metrics, rows) if stage.keys else [],
        "rows": [
            {"keys": [_key(key) for key in row.keys], "cells": [_cell(row, metric) for metric in metrics]}
            for row in rows
        ],
        "files": [file for file in files if file.path in (f"{stage.name}.csv", f"{stage.name}.parquet")],
    }


def first_count(metrics: Sequence[MetricColumn]) -> str | None:
    """The first metric that counts the rows or units of partitions; None if there is none."""
    return next((metric.name for metric in metrics if metric.kind in _COUNTS), None)


def _charts(stage: StageReport, metrics: Sequence[MetricColumn], rows: Sequence[DisplayRow]) -> list[Drawn]:
    most = MAX_BARS_IN_ORDER if stage.order else MAX_BARS
    found: list[Drawn] = []
    for i, metric in enumerate(metrics):
        if metric.label is None:
            groups = [(None, [_row(row, metric, _joined(row.keys)) for row in rows[:most]])]
            found += _drawn(metric.name, groups)
        elif metric.place == 0:
            name = next((top.name for top in stage.values if metric.label == f"{top.name}_1"), metric.label)
            found += _drawn(name, _by_value(rows, metrics[i : i + min(metric.of, MAX_COLUMNS)], most))
    return found


def _drawn(name: str, groups: Sequence[tuple[str | None, Sequence[Row]]]) -> list[Drawn]:
    drawn = chart(groups)
    partitions = sum(len(group.bars) if group.label is None else 1 for group in drawn.groups) if drawn else 0
    return [] if drawn is None else [Drawn(name=name, chart=drawn, partitions=partitions)]


def _by_value(
    rows: Sequence[DisplayRow], metrics: Sequence[MetricColumn], most: int
) -> list[tuple[str | None, Sequence[Row]]]:
    """The most frequent values of each partition, in the order in which they are released."""
    partitions = min(most, max(1, MAX_VALUE_BARS // len(metrics)))
    found: list[tuple[str | None, Sequence[Row]]] = []
    for row in rows[:partitions]:
        labels = [(each, row.labels[each.name]) for each in metrics]
        shown = [_row(row, each, _key(label)) for each, label in labels if label is not None]
        found.append((_joined(row.keys), shown))
    return found


def _row(row: DisplayRow, metric: MetricColumn, label: str) -> Row:
    cell = _cell(row, metric)
    return Row(label=label, shown=cell["value"], interval=cell["interval"], value=row.values[metric.name])


def _joined(keys: Sequence[str]) -> str:
    return " · ".join(_key(key) for key in keys)


def _key(key: str) -> str:
    clean = visible_key(key[: MAX_TEXT + 1])
    return (clean[:MAX_TEXT] + "…" if len(clean) > MAX_TEXT else clean) or "(empty)"


def _cell(row: DisplayRow, metric: MetricColumn) -> dict[str, Any]:
    label = row.labels.get(metric.name)
    shown = row.values[metric.name]
    spread = (shown.high - shown.low) / (2 * NORMAL_95) if metric.one_std is None else metric.one_std
    missing = not any(map(math.isfinite, (shown.value, shown.low, shown.high)))
    return {
        "label": "" if label is None else _key(label),
        "value": humane(shown.value, spread),
        "interval": "" if missing else f"{humane(shown.low, spread)} to {humane(shown.high, spread)}",
        "is_faint": is_noise(shown),
        "sort": repr(shown.value),
    }
