"""A release's public facts and result tables in, one self-contained HTML page for people out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpbeam.mechanisms.events import (
    Gaussian,
    GaussianThresholding,
    Laplace,
    LaplaceThresholding,
    Mechanism,
    TruncatedGeometric,
    WeightedThresholding,
)
from dpbeam.mechanisms.noise_width import NORMAL_95, half_width, std
from dpbeam.reporting.charts import MAX_BARS, bar_chart
from dpbeam.reporting.facts import Balance, ReleaseFacts, StageReport
from dpbeam.reporting.manifest import Charge, FileEntry, Guarantee, StatedCertificate
from dpbeam.reporting.numbers import about, exact, humane, one_in, significant
from dpbeam.reporting.rows import DisplayRow, top_rows
from dpbeam.reporting.tables import MetricColumn
from dpbeam.reporting.visible import visible, visible_key

MAX_ROWS = 50
MAX_TEXT = 300
MAX_COLUMNS = 16
"""Of a metric with more columns, as the sum of vectors, the page shows so many; each has a chart."""
_STRATEGIES = {
    TruncatedGeometric.kind: "truncated geometric",
    LaplaceThresholding.kind: "Laplace thresholding",
    GaussianThresholding.kind: "Gaussian thresholding",
    "dp_sips": "DP-SIPS",
    "mad": "MAD",
    "mad2r": "MAD2R",
}


def render_report(
    *,
    release: ReleaseFacts,
    guarantee: Guarantee,
    certificate: StatedCertificate,
    mechanisms: Sequence[Mechanism],
    charge: Charge,
    balance: Balance,
    stages: Sequence[StageReport],
    files: Sequence[FileEntry],
) -> str:
    """The page, as UTF-8 text: no script, no network, all text escaped; the same facts give the same page.

    Guarantee: it shows released values and public facts of policy, plan and ledger only, so it costs nothing
    beyond the release itself. `files` are those already written; the page and the manifest can't list themselves.
    """
    template = _environment().get_template("report.html.j2")
    return template.render(
        release=release,
        guarantee=guarantee,
        certificate=certificate,
        charge=charge,
        balance=balance,
        stages=[_stage_view(stage, i) for i, stage in enumerate(stages)],
        mechanisms=[_mechanism_view(mechanism) for mechanism in mechanisms],
        any_private=any(stage.selection is not None for stage in stages),
        any_public=any(stage.selection is None for stage in stages),
        any_chosen=any(stage.chosen for stage in stages),
        by_row=guarantee.unit == "row",
        files=files,
        factor=about(math.exp(min(guarantee.epsilon, 700.0))),
        belief=about(100 / (1 + math.exp(-min(guarantee.epsilon, 700.0)))),
        max_rows=MAX_ROWS,
        max_columns=MAX_COLUMNS,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dpbeam.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"text": _text, "significant": significant, "one_in": one_in, "exact": exact}
    return environment


def _text(value: str) -> str:
    """Any text, made visible and cut to a length that a page can bear; the template escapes it."""
    clean = visible(value[: MAX_TEXT + 1])
    return clean[:MAX_TEXT] + "…" if len(clean) > MAX_TEXT else clean


def _stage_view(stage: StageReport, index: int) -> dict[str, Any]:
    metrics = [metric for metric in stage.metrics if metric.place < MAX_COLUMNS]
    names = [metric.name for metric in metrics]
    labels = {metric.name: metric.label for metric in metrics if metric.label is not None}
    by = names[0] if names else None
    rows = top_rows(stage.table, keys=stage.keys, metrics=names, by=by, limit=MAX_ROWS, labels=labels)
    return {
        "facts": stage,
        "metrics": metrics,
        "wide": [metric for metric in metrics if metric.place == 0 and metric.of > MAX_COLUMNS],
        "total": f"{stage.table.num_rows:,}",
        "cut": stage.table.num_rows > len(rows),
        "strategy": _STRATEGIES.get(stage.selection.strategy, stage.selection.strategy) if stage.selection else None,
        "charts": [_chart_view(stage, metric, f"s{index}m{i}-") for i, metric in enumerate(metrics)],
        "rows": [
            {"keys": [_key(key) for key in row.keys], "cells": [_cell(row, metric) for metric in metrics]}
            for row in rows
        ],
    }


def _key(key: str) -> str:
    return visible_key(key[: MAX_TEXT + 1]) or "(empty)"


def _chart_view(stage: StageReport, metric: MetricColumn, prefix: str) -> dict[str, Any]:
    rows = top_rows(stage.table, keys=stage.keys, metrics=[metric.name], by=metric.name, limit=MAX_BARS)
    shown = [row for row in rows if row.is_finite(metric.name)]
    title = f"{metric.name} of the {len(shown)} partitions where it is largest, stage {stage.name}"
    # Safe as markup: drawn by matplotlib, parsed and written again as XML, text as text nodes (charts.py).
    svg = Markup(bar_chart(shown, metric=metric.name, title=title, prefix=prefix))
    return {"metric": metric.name, "svg": svg, "bars": len(shown)}


def _cell(row: DisplayRow, metric: MetricColumn) -> dict[str, str]:
    label = row.labels.get(metric.name)
    shown = row.values[metric.name]
    spread = (shown.high - shown.low) / (2 * NORMAL_95) if metric.one_std is None else metric.one_std
    return {
        "label": "" if label is None else _key(label),
        "value": humane(shown.value, spread),
        "low": humane(shown.low, spread),
        "high": humane(shown.high, spread),
    }


def _mechanism_view(mechanism: Mechanism) -> dict[str, Any]:
    """Stage, metric, kind, what it does in words, and for additive noise its std and 95 % half-width."""
    match mechanism:
        case Laplace():
            kind = "Laplace noise"
            detail = (
                f"scale {significant(mechanism.scale)}, L1 sensitivity {significant(mechanism.l1)}{_other(mechanism)}"
            )
        case Gaussian():
            kind = "Gaussian noise"
            detail = f"σ {significant(mechanism.sigma)}, L2 sensitivity {significant(mechanism.l2)}"
            detail += _other(mechanism)
        case TruncatedGeometric():
            kind = "Truncated geometric selection"
            detail = f"ε {significant(mechanism.epsilon)}, δ {significant(mechanism.delta)}"
        case LaplaceThresholding():
            kind = "Laplace thresholding"
            detail = _threshold(f"scale {significant(mechanism.scale)}", mechanism)
        case GaussianThresholding():
            kind = "Gaussian thresholding"
            detail = _threshold(f"σ {significant(mechanism.sigma)}", mechanism)
        case WeightedThresholding():
            kind = f"{_STRATEGIES[mechanism.strategy]}: Gaussian thresholding of weights"
            detail = _threshold(f"σ {significant(mechanism.sigma)}", mechanism)
        case _:
            raise ValueError(f"unknown mechanism {type(mechanism).__name__}")
    return {
        "stage": mechanism.stage,
        "metric": mechanism.metric,
        "kind": kind,
        "detail": detail,
        "std": significant(std(mechanism)) if isinstance(mechanism, Laplace | Gaussian) else "–",
        "half_width": "± " + significant(half_width(mechanism)) if isinstance(mechanism, Laplace | Gaussian) else "–",
    }


def _other(mechanism: Laplace | Gaussian) -> str:
    """What one unit may do to one `other` of hierarchical keys."""
    other = mechanism.other
    if other is None:
        return ""
    rows = "" if other.rows is None else f" of {other.rows:,} rows"
    noise = "" if other.noise == 1 else f", which has {significant(other.noise)} times the noise"
    return f"; at most {significant(other.most)}{rows} in one (other){noise}"


def _threshold(noise: str, mechanism: LaplaceThresholding | GaussianThresholding | WeightedThresholding) -> str:
    return f"{noise}, threshold {significant(mechanism.threshold)}, δ {significant(mechanism.delta)}"
